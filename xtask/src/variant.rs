//! Which image: the backend below the cut, how it is reached, and how it is optimized.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::rom::{Choice, Manner};
use crate::workspace::Workspace;

/// What is below the cut: a feature of the `kernel` package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// A bare x86-64 PC, as QEMU makes one
    Native,
    /// A VMI hypervisor: a PC with a ROM to be called for what is privileged
    Vmi,
    /// The lguest hypervisor of this repository
    Lguest,
}

impl Backend {
    /// Those that are built today.
    pub fn built() -> Vec<Self> {
        vec![Self::Native, Self::Vmi, Self::Lguest]
    }

    /// Whether there may be devices, as its `Platform::DEVICES` says.
    pub fn has_devices(self) -> bool {
        self == Self::Lguest
    }
}

/// How a hook reaches the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dispatch {
    /// Through the trait, bound at compile time: the product
    Static,
    /// The backend's functions with no trait in the path
    Direct,
    /// Through a table of function pointers
    Table,
    /// Through methods of `&'static dyn` objects
    Dyn,
    /// Through a table, at call sites that are patched at boot to direct calls or native instructions
    Patched,
}

/// A cargo profile of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Quick to build, with debug assertions
    Dev,
    /// Optimized, with fat link-time optimization
    Release,
    /// The same without link-time optimization
    ReleaseNolto,
}

impl Profile {
    /// What optimizes across crates, for people.
    pub fn optimization(self) -> &'static str {
        match self {
            Self::Dev => "not optimized",
            Self::Release => "fat LTO",
            Self::ReleaseNolto => "no LTO",
        }
    }
}

/// What runs above the cut: a package with an executable of the same platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Product {
    /// The kernel
    #[default]
    Monoguest,
    /// The small kernel that tests what the contract promises
    Conformance,
    /// The same with promises that can be broken on purpose
    Planted,
    /// The guest that attacks the lguest hypervisor
    Hostile,
    /// The guest that tests VMI ROMs
    RomGuest,
}

impl Product {
    /// The cargo package.
    pub fn package(self) -> &'static str {
        match self {
            Self::Monoguest => "kernel",
            Self::Conformance | Self::Planted => "conformance",
            Self::RomGuest => "rom-guest",
            Self::Hostile => "lguest-hostile",
        }
    }

    /// Features of the package beside the variant's.
    pub fn features(self) -> &'static str {
        match self {
            Self::Planted => ",planted",
            _ => "",
        }
    }

    /// What its image is called.
    pub fn image(self) -> &'static str {
        match self {
            Self::Planted => "conformance-planted",
            _ => self.executable(),
        }
    }

    /// Whether it can be built in each dispatch mode.
    pub fn has_dispatch(self) -> bool {
        matches!(self, Self::Monoguest | Self::Conformance)
    }

    /// The executable in it.
    pub fn executable(self) -> &'static str {
        match self {
            Self::Monoguest => "monoguest",
            Self::Conformance | Self::Planted => "conformance",
            Self::RomGuest => "rom-guest",
            Self::Hostile => "lguest-hostile",
        }
    }
}

/// One image among those that can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Variant {
    /// The backend below the cut
    #[arg(long = "features", value_name = "BACKEND")]
    pub backend: Backend,

    /// How the kernel reaches it
    #[arg(long, default_value = "static")]
    pub dispatch: Dispatch,

    /// The cargo profile
    #[arg(long, default_value = "release")]
    pub profile: Profile,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&value_name(self))
    }
}

/// Its name for `cargo --profile`.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&value_name(self))
    }
}

impl Profile {
    /// The directory below the target triple's where cargo puts this profile's products.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
            Self::ReleaseNolto => "release-nolto",
        }
    }
}

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&value_name(self))
    }
}

fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.backend, self.dispatch, self.profile)
    }
}

impl Variant {
    /// The backend's name, which is also its feature's.
    pub fn backend_name(&self) -> String {
        value_name(&self.backend)
    }

    /// The VMI ROM that the backend needs, if it does.
    pub fn rom(&self) -> Choice {
        match self.backend {
            Backend::Vmi => Choice::Ours(Manner::Plain),
            Backend::Native | Backend::Lguest => Choice::None,
        }
    }

    /// Whether there is such an image. Without link-time optimization calls through a table take the table's address
    /// from a register: no such call can be patched.
    pub fn can_be_built(&self) -> bool {
        self.dispatch != Dispatch::Patched || self.profile == Profile::Release
    }

    /// The value for `cargo --features`.
    pub fn cargo_features(&self) -> String {
        let backend = self.backend_name();
        match self.dispatch {
            Dispatch::Static => backend,
            Dispatch::Direct => backend + ",dispatch-direct",
            Dispatch::Table => backend + ",dispatch-table",
            Dispatch::Dyn => backend + ",dispatch-dyn",
            Dispatch::Patched => backend + ",dispatch-patched",
        }
    }

    /// The same image with `product` in it: one that has no dispatch modes is there as `static` only.
    pub fn of(self, product: Product) -> Self {
        if product.has_dispatch() { self } else { Self { dispatch: Dispatch::Static, ..self } }
    }

    /// Where the finished image is kept; no two variants share it.
    pub fn image_path(&self, workspace: &Workspace, product: Product) -> PathBuf {
        workspace.target.join("images").join(self.to_string()).join(product.image())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_has_its_own_name() {
        let mut names = Vec::new();
        for backend in Backend::value_variants() {
            for dispatch in Dispatch::value_variants() {
                for profile in Profile::value_variants() {
                    names.push(
                        Variant { backend: *backend, dispatch: *dispatch, profile: *profile }.to_string(),
                    );
                }
            }
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.contains(&"native-static-release".to_owned()));
    }
}
