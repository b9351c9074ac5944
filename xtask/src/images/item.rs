//! What can be built: its package, and where it goes.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::lguest;
use crate::report::Usage;
use crate::rom::{self, Manner};
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};
use crate::workspace::Workspace;

/// Something that cargo builds for a machine without an operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A variant of what runs above the cut
    Image(Product, Variant),
    /// The lguest hypervisor
    Hypervisor,
    /// A VMI ROM
    Rom(Manner),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(product, variant) => write!(f, "{variant}/{}", product.image()),
            Self::Hypervisor => f.write_str(lguest::PACKAGE),
            Self::Rom(manner) => write!(f, "{}-{manner}", rom::PACKAGE),
        }
    }
}

impl Item {
    /// A variant of the kernel.
    pub fn kernel(variant: Variant) -> Self {
        Self::Image(Product::Monoguest, variant)
    }

    /// The backend it is for.
    pub fn backend(self) -> Backend {
        match self {
            Self::Image(_, variant) => variant.backend,
            Self::Hypervisor => Backend::Lguest,
            Self::Rom(_) => Backend::Vmi,
        }
    }

    /// What must be there to run it.
    pub fn below(self) -> Option<Self> {
        match self {
            Self::Image(_, Variant { backend: Backend::Lguest, .. }) => Some(Self::Hypervisor),
            _ => None,
        }
    }

    /// Whether there is such a thing.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Image(_, variant) if !variant.can_be_built() => {
                bail!(Usage(format!("no image {variant}: dispatch patched takes --profile release")))
            }
            _ => Ok(()),
        }
    }

    /// The cargo package.
    pub fn package(self) -> &'static str {
        match self {
            Self::Image(product, _) => product.package(),
            Self::Hypervisor => lguest::PACKAGE,
            Self::Rom(_) => rom::PACKAGE,
        }
    }

    /// The executable in it.
    pub fn executable(self) -> &'static str {
        match self {
            Self::Image(product, _) => product.executable(),
            Self::Hypervisor => lguest::PACKAGE,
            Self::Rom(_) => rom::PACKAGE,
        }
    }

    /// The value for `cargo --features`, if any.
    pub fn features(self) -> Option<String> {
        match self {
            // The hostile guest knows no other platform than its own.
            Self::Image(Product::Hostile, _) => None,
            Self::Image(product, variant) => Some(variant.cargo_features() + product.features()),
            Self::Rom(Manner::Strict) => Some("strict".to_owned()),
            Self::Hypervisor | Self::Rom(Manner::Plain) => None,
        }
    }

    /// The cargo profile.
    pub fn profile(self) -> Profile {
        match self {
            Self::Image(_, variant) => variant.profile,
            Self::Hypervisor | Self::Rom(_) => Profile::Release,
        }
    }

    /// Whether its hook call sites are patched at boot.
    pub fn records_sites(self) -> bool {
        matches!(self, Self::Image(_, Variant { dispatch: Dispatch::Patched, .. }))
    }

    /// Flags of the compiler that other items are compiled without.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            // At "z" next to nothing is inlined unless a threshold says so, and every accessor is a call. It would hold for
            // the hypervisor too, and lower what is inlined there.
            Self::Image(..) => &["-Cllvm-args=-inline-threshold=25"],
            Self::Hypervisor | Self::Rom(_) => &[],
        }
    }

    /// Where it is kept; no two share it.
    pub fn path(self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::Image(product, variant) => variant.image_path(workspace, product),
            Self::Hypervisor => lguest::hypervisor_path(workspace),
            Self::Rom(manner) => rom::path(workspace, manner),
        }
    }

    /// Cargo's target directory for it. Cargo builds one thing at a time in each; what is for different backends has
    /// little in common, so each backend has its own.
    pub fn objects(self, workspace: &Workspace) -> PathBuf {
        let backend = self.backend();
        let name = match self {
            Self::Image(..) => backend.to_string(),
            // With other flags: cargo would compile everything again each time they change.
            Self::Hypervisor | Self::Rom(_) => format!("below-{backend}"),
        };
        workspace.target.join("backends").join(name)
    }
}
