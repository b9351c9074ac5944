//! What was measured, as it is kept in files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The form of the file. It changes whenever a reader of the old one would misunderstand the new one.
pub const VERSION: u32 = 1;

/// What kind of thing was measured; a table each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// Hooks of the contract, called by the conformance kernel
    Hooks,
    /// What user programs ask of the kernel
    Operations,
    /// From the first instruction to the first program
    Boot,
    /// What an operation costs below an lguest guest
    Exits,
}

impl Section {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Hooks => "Hooks, instructions a call",
            Self::Operations => "Operations, instructions each",
            Self::Boot => "Boot, instructions a phase",
            Self::Exits => "Instructions, hypercalls and faults an operation",
        }
    }

    /// What stands for a figure that is not there.
    pub fn absent(self) -> &'static str {
        if self == Self::Exits { "-" } else { "failed" }
    }

    /// Whether figures are of one kind, so that a mean of their ratios says something.
    pub fn has_mean(self) -> bool {
        self != Self::Exits
    }
}

/// Instructions by what was done, or other counts by what was counted.
pub type Costs = BTreeMap<String, f64>;

/// One variant's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The backend's name
    pub backend: String,
    /// The dispatch mode's name
    pub dispatch: String,
    /// The figures
    pub sections: BTreeMap<Section, Costs>,
}

/// Everything one run of `bench` measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`VERSION`] of whoever wrote it
    pub version: u32,
    /// On what
    pub machine: String,
    /// By variant, in the order they were measured
    pub variants: Vec<Measured>,
}

impl Results {
    /// Reads a file that `--save` wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no result of `bench --save`", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text).context("expected JSON with a `version`")?;
        if version != VERSION {
            bail!(
                "it has version {version} and this xtask reads version {VERSION}: measure again with --save"
            );
        }
        serde_json::from_str(text).context("expected what `bench` measures")
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data has a JSON form") + "\n"
    }

    /// Writes a file for `--compare`.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, self.to_json()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The sections that anything was measured for.
    pub fn sections(&self) -> Vec<Section> {
        [Section::Hooks, Section::Operations, Section::Boot, Section::Exits]
            .into_iter()
            .filter(|section| self.variants.iter().any(|variant| variant.sections.contains_key(section)))
            .collect()
    }

    /// The backends, in the order they were measured.
    pub fn backends(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for variant in &self.variants {
            if !names.contains(&variant.backend.as_str()) {
                names.push(&variant.backend);
            }
        }
        names
    }

    /// The variants of one backend.
    pub fn of(&self, backend: &str) -> Vec<&Measured> {
        self.variants.iter().filter(|variant| variant.backend == backend).collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two modes of one backend: `b` was not measured in the second.
    pub fn example() -> Results {
        let variant = |dispatch: &str, costs: &[(&str, f64)]| Measured {
            backend: "native".into(),
            dispatch: dispatch.into(),
            sections: BTreeMap::from([(
                Section::Hooks,
                costs.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect(),
            )]),
        };
        Results {
            version: VERSION,
            machine: "a machine".into(),
            variants: vec![
                variant("static", &[("cpu::a", 10.0), ("cpu::b", 4.0)]),
                variant("table", &[("cpu::a", 15.0)]),
            ],
        }
    }

    #[test]
    fn a_saved_file_is_read_again() {
        let results = example();
        assert_eq!(Results::parse(&results.to_json()).unwrap(), results);
    }

    #[test]
    fn other_files_are_refused_with_what_was_expected() {
        let error = |text: &str| format!("{:#}", Results::parse(text).unwrap_err());
        assert!(error("").contains("expected JSON"));
        assert!(error("{\"rows\": []}").contains("version"));
        assert!(error("{\"version\": 99}").contains("version 99"));
        assert!(error("{\"version\": 1, \"machine\": 3}").contains("expected what"));
    }
}
