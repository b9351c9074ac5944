//! The report's figures, as they are kept in a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::evidence::equality::Code;
use crate::evidence::hooks::{HookName, Reach};
use crate::evidence::image::Size;
use crate::evidence::names::Name;
use crate::evidence::parts::Indirect;
use crate::evidence::record::Recorded;
use crate::report::Usage;

/// The version of what is written; it changes whenever a field does.
pub const FORMAT: u32 = 2;
/// What the file says it is.
const KIND: &str = "monoguest size-report";

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the file is
    pub kind: String,
    /// [`FORMAT`]
    pub format: u32,
    /// The compiler's name and version
    pub compiler: String,
    /// The contract's version
    pub contract: u32,
    /// The contract's hooks
    pub hooks: Vec<HookName>,
    /// The images
    pub images: Vec<Figures>,
}

/// One image's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The image's name: backend, dispatch, profile
    pub name: String,
    /// What is below the cut
    pub backend: String,
    /// How hooks are reached
    pub dispatch: String,
    /// What optimizes across crates
    pub optimization: String,
    /// The whole image
    pub whole: Size,
    /// The architecture's part of it
    pub architecture: Size,
    /// Hook call sites, in the contract's order
    pub sites: Vec<HookSites>,
    /// Lines of the source that these sites come from
    pub places: u64,
    /// Hooks of a table that share a call with others, and where
    pub merged: BTreeMap<String, Name>,
    /// Sites that are recorded, to be patched at boot; none but in `patched`
    pub recorded: Option<Recorded>,
    /// Indirect calls and jumps of the whole image
    pub indirect: Indirect,
    /// Text by crate
    pub crates: BTreeMap<String, u64>,
    /// All functions
    pub functions: Vec<Code>,
}

/// Sites of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many
    pub sites: u64,
    /// Bytes they take together
    pub bytes: u64,
}

/// One hook's sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSites {
    /// The hook
    pub hook: HookName,
    /// The backend's code stands at the site
    pub inlined: Count,
    /// Direct calls
    pub direct: Count,
    /// Indirect calls
    pub indirect: Count,
    /// The backend's function, where it is one
    pub own_code: u64,
}

impl HookSites {
    /// The sites of one kind.
    pub fn of(&self, reach: Reach) -> Count {
        match reach {
            Reach::Inlined => self.inlined,
            Reach::Direct => self.direct,
            Reach::Indirect => self.indirect,
        }
    }

    /// All sites.
    pub fn total(&self) -> Count {
        let all = [self.inlined, self.direct, self.indirect];
        Count { sites: all.iter().map(|c| c.sites).sum(), bytes: all.iter().map(|c| c.bytes).sum() }
    }
}

impl Figures {
    /// All sites of one kind.
    pub fn of(&self, reach: Reach) -> Count {
        let counts = self.sites.iter().map(|hook| hook.of(reach));
        counts.fold(Count::default(), |a, b| Count { sites: a.sites + b.sites, bytes: a.bytes + b.bytes })
    }

    /// All sites.
    pub fn total(&self) -> Count {
        let counts = self.sites.iter().map(HookSites::total);
        counts.fold(Count::default(), |a, b| Count { sites: a.sites + b.sites, bytes: a.bytes + b.bytes })
    }

    /// Hooks that have a site.
    pub fn hooks_in_use(&self) -> u64 {
        self.sites.iter().filter(|hook| hook.total().sites > 0).count() as u64
    }
}

impl Report {
    /// A report of these images.
    pub fn new(compiler: String, hooks: Vec<HookName>, images: Vec<Figures>) -> Self {
        let contract = platform::CONTRACT_VERSION;
        Self { kind: KIND.to_owned(), format: FORMAT, compiler, contract, hooks, images }
    }

    /// What the others of its group are compared with: the same backend and optimization, `static`.
    pub fn baseline(&self, figures: &Figures) -> Option<&Figures> {
        self.images.iter().find(|other| {
            other.backend == figures.backend
                && other.optimization == figures.optimization
                && other.dispatch == "static"
        })
    }

    /// The images by backend and optimization, in order.
    pub fn groups(&self) -> Vec<(String, Vec<&Figures>)> {
        let mut groups: Vec<(String, Vec<&Figures>)> = Vec::new();
        for figures in &self.images {
            let title = format!("{}, {}", figures.backend, figures.optimization);
            match groups.iter_mut().find(|(other, _)| *other == title) {
                Some((_, images)) => images.push(figures),
                None => groups.push((title, vec![figures])),
            }
        }
        groups
    }

    /// The report as text for programs, and for a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data has a JSON form") + "\n"
    }

    /// Writes it to a file.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, self.to_json()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a file that [`Report::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} cannot be compared with", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        const EXPECTED: &str = "expected a file that `cargo xtask size-report --save` wrote";
        #[derive(Deserialize)]
        struct Head {
            kind: String,
            format: u32,
        }
        let Ok(head) = serde_json::from_str::<Head>(text) else {
            bail!(Usage(format!("not a report: {EXPECTED}")))
        };
        if head.kind != KIND {
            bail!(Usage(format!("it is a {:?}: {EXPECTED}", head.kind)));
        }
        if head.format != FORMAT {
            let found = head.format;
            bail!(Usage(format!(
                "its format is {found}, this xtask reads format {FORMAT}: {EXPECTED} of this version; \
                 save one anew with the xtask at hand"
            )));
        }
        serde_json::from_str(text).map_err(|error| Usage(format!("damaged ({error}): {EXPECTED}")).into())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A report of two small images.
    pub fn sample() -> Report {
        let hook = |name: &str| HookName { part: "cpu".into(), name: name.into() };
        let image = |dispatch: &str, text: u64, reach: Reach, bytes: u64| {
            let count =
                |of: Reach| if of == reach { Count { sites: 3, bytes: 3 * bytes } } else { Count::default() };
            Figures {
                name: format!("native-{dispatch}-release"),
                backend: "native".into(),
                dispatch: dispatch.into(),
                optimization: "fat LTO".into(),
                whole: Size { text, data: 100, bss: 10 },
                architecture: Size { text: text / 10, data: 10, bss: 1 },
                sites: vec![HookSites {
                    hook: hook("irq_disable"),
                    inlined: count(Reach::Inlined),
                    direct: count(Reach::Direct),
                    indirect: count(Reach::Indirect),
                    own_code: 2,
                }],
                places: 2,
                merged: BTreeMap::new(),
                recorded: None,
                indirect: Indirect::default(),
                crates: BTreeMap::from([("kernel".to_owned(), text - 50), ("arch_native".to_owned(), 50)]),
                functions: vec![Code { name: Name::new("kernel::f"), bytes: text, hash: 1 }],
            }
        };
        Report::new(
            "rustc 1.0".into(),
            vec![hook("irq_disable")],
            vec![
                image("static", 1000, Reach::Inlined, 1),
                image("direct", 1000, Reach::Inlined, 1),
                image("table", 1100, Reach::Indirect, 6),
            ],
        )
    }

    #[test]
    fn a_saved_report_is_the_same_when_read() {
        let report = sample();
        assert_eq!(Report::parse(&report.to_json()).unwrap(), report);
    }

    #[test]
    fn what_is_no_report_is_refused_with_a_reason() {
        let newer = Report { format: FORMAT + 1, ..sample() }.to_json();
        let other = Report { kind: "something".into(), ..sample() }.to_json();
        let damaged = sample().to_json().replace("\"whole\"", "\"hole\"");
        for (text, reason) in [
            (newer.as_str(), "this xtask reads format 2"),
            (&other, "it is a \"something\""),
            (&damaged, "damaged (missing field `whole`"),
            ("", "not a report"),
            ("[1, 2]", "not a report"),
        ] {
            let error = Report::parse(text).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().contains("expected"), "{error}");
            assert!(error.is::<Usage>());
        }
    }
}
