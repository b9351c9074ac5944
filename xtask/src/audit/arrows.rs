//! The gate of the crate graph: which crate may depend on which.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::audit::Violation;

/// What a crate is, by the place of its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Platform,
    Macros,
    Kernel,
    /// A backend
    Backend(String),
    /// Numbers and layouts of a hypervisor's interface
    Interface(String),
    /// What programs on a bare PC share, on whichever side of a hypervisor they are
    Machine,
    /// What is below a guest: a hypervisor, a ROM
    Below(String),
    /// The simulated platform
    Sim,
    /// Tools and tests, which nothing else depends on
    Tool,
}

impl Kind {
    /// From a directory, seen from the repository's top level.
    fn of(directory: &str) -> Option<Self> {
        let steps: Vec<&str> = directory.split('/').collect();
        Some(match steps[..] {
            ["platform"] => Self::Platform,
            ["platform", "macros"] => Self::Macros,
            ["kernel"] => Self::Kernel,
            ["tests", "sim"] => Self::Sim,
            ["xtask"] | ["tests", _] => Self::Tool,
            [backend] => Self::Backend(backend.strip_prefix("arch-")?.to_owned()),
            ["arch-native", "x86"] => Self::Machine,
            [backend, "abi"] => Self::Interface(backend.strip_prefix("arch-")?.to_owned()),
            [backend, _] => Self::Below(backend.strip_prefix("arch-")?.to_owned()),
            _ => return None,
        })
    }

    /// Whether this may depend on `other`; `build_machine` says that it does so there, or for tests, only.
    fn may_depend_on(&self, other: &Self, build_machine: bool) -> bool {
        match (self, other) {
            (Self::Platform, Self::Macros) => true,
            (Self::Kernel, Self::Platform | Self::Backend(_)) => true,
            (Self::Kernel, Self::Sim) => build_machine,
            (Self::Backend(_), Self::Platform) => true,
            (Self::Backend(own), Self::Interface(other)) => own == other,
            // Parts shared with a PC.
            (Self::Backend(own), Self::Backend(other)) => own != "native" && other == "native",
            (Self::Below(own), Self::Interface(other)) => own == other,
            // The note of an image, which its loader checks.
            (Self::Below(_), Self::Platform) => true,
            (Self::Sim | Self::Machine, Self::Platform) => true,
            // The start, the registers, COM1: no kernel in them and no guest.
            (Self::Backend(_) | Self::Below(_), Self::Machine) => true,
            (Self::Tool, other) => *other != Self::Kernel,
            _ => false,
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    path: Option<String>,
    kind: Option<String>,
    target: Option<String>,
}

/// The arrows that must not be, in what `cargo metadata --no-deps` says.
pub fn forbidden(metadata: &str) -> Result<Vec<Violation>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cannot read what `cargo metadata` says")?;
    let directory = |path: &str| {
        let inside = path.strip_prefix(&metadata.workspace_root).unwrap_or(path);
        inside.trim_start_matches('/').trim_end_matches("/Cargo.toml").to_owned()
    };
    let mut violations = Vec::new();
    for package in &metadata.packages {
        let own = directory(&package.manifest_path);
        let Some(kind) = Kind::of(&own) else {
            violations.push(Violation::new(package.name.as_str(), format!("no crate belongs in {own}")));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(path) = &dependency.path else { continue };
            let other = directory(path);
            let machine = dependency.target.as_deref() == Some("cfg(not(target_os = \"none\"))");
            let build_machine = machine || dependency.kind.as_deref() == Some("dev");
            if !Kind::of(&other).is_some_and(|other| kind.may_depend_on(&other, build_machine)) {
                violations.push(Violation::new(format!("{own}/Cargo.toml"), format!("depends on {other}")));
            }
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(from: &str, to: &str, kind: Option<&str>, target: Option<&str>) -> Vec<String> {
        let metadata = serde_json::json!({
            "workspace_root": "/w",
            "packages": [{
                "name": "from",
                "manifest_path": format!("/w/{from}/Cargo.toml"),
                "dependencies": [
                    { "path": format!("/w/{to}"), "kind": kind, "target": target },
                    { "path": null, "kind": null, "target": null },
                ],
            }],
        });
        forbidden(&metadata.to_string()).unwrap().into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn arrows_of_the_design_may_be() {
        for (from, to) in [
            ("platform", "platform/macros"),
            ("kernel", "platform"),
            ("kernel", "arch-vmi"),
            ("arch-vmi", "platform"),
            ("arch-vmi", "arch-vmi/abi"),
            ("arch-vmi", "arch-native"),
            ("arch-vmi/rom", "arch-vmi/abi"),
            ("arch-native", "arch-native/x86"),
            ("arch-lguest/host", "arch-native/x86"),
            ("xtask", "platform"),
        ] {
            assert_eq!(found(from, to, None, None), [""; 0]);
        }
        assert_eq!(found("kernel", "tests/sim", None, Some("cfg(not(target_os = \"none\"))")), [""; 0]);
    }

    #[test]
    fn any_other_arrow_is_a_violation() {
        for (from, to) in [
            ("arch-native", "kernel"),
            ("platform", "arch-native"),
            ("platform", "kernel"),
            ("arch-native", "arch-vmi"),
            ("arch-vmi", "arch-lguest"),
            ("arch-vmi", "arch-lguest/abi"),
            ("arch-vmi/rom", "arch-vmi"),
            ("arch-lguest/host", "arch-lguest"),
            ("arch-vmi/abi", "platform"),
            ("arch-native/x86", "arch-native"),
            ("kernel", "arch-native/x86"),
            ("kernel", "tests/sim"),
            ("kernel", "xtask"),
            ("kernel", "arch-vmi/abi"),
        ] {
            assert_eq!(found(from, to, None, None), [format!("{from}/Cargo.toml: depends on {to}")]);
        }
        assert_eq!(found("elsewhere", "platform", None, None), ["from: no crate belongs in elsewhere"]);
        assert!(forbidden("{}").is_err());
    }
}
