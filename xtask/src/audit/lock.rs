//! The gate of the contract's version: `platform/contract.lock` keeps what the contract was at its version.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail};

use crate::audit::Violation;

/// Where it is, from the repository's top level.
pub const PATH: &str = "platform/contract.lock";
const HEAD: &str = "# What the contract was at its version; `cargo xtask audit --accept` writes this file.";
const HOW: &str = "raise CONTRACT_VERSION in platform/src/lib.rs, then run `cargo xtask audit --accept`";

/// A version of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its number
    pub version: u32,
    /// Its items with their hashes
    pub items: BTreeMap<String, u64>,
}

impl Lock {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\nversion {}\n", self.version);
        for (name, hash) in &self.items {
            let _ = writeln!(text, "{hash:016x} {name}");
        }
        text
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let version = lines.next().and_then(|line| line.strip_prefix("version ")?.parse().ok());
        let Some(version) = version else { bail!("{PATH}: expected `version N` in its first line") };
        let mut items = BTreeMap::new();
        for line in lines {
            let item = line
                .split_once(' ')
                .and_then(|(hash, name)| Some((name.to_owned(), u64::from_str_radix(hash, 16).ok()?)));
            let Some((name, hash)) = item else { bail!("{PATH}: expected `HASH NAME`, found {line:?}") };
            items.insert(name, hash);
        }
        Ok(Self { version, items })
    }
}

/// What differs between what is kept and what there is.
pub fn check(kept: &Lock, now: &Lock) -> Vec<Violation> {
    let changed = changed(kept, now);
    if now.version == kept.version {
        let version = now.version;
        return changed
            .into_iter()
            .map(|(name, how)| {
                Violation::new(name, format!("{how}, and the version is still {version}: {HOW}"))
            })
            .collect();
    }
    let what = format!("keeps version {}, the contract is version {}: {HOW}", kept.version, now.version);
    vec![Violation::new(PATH, what)]
}

/// The text to keep, if it may be: what changed needs a higher version.
pub fn accept(kept: Option<&Lock>, now: &Lock) -> Result<String> {
    if let Some(kept) = kept {
        if now.version < kept.version {
            bail!("the contract's version goes from {} back to {}", kept.version, now.version);
        }
        if let Some((name, how)) = changed(kept, now).into_iter().next()
            && now.version == kept.version
        {
            bail!("{name} {how}, and the version is still {}: {HOW}", now.version);
        }
    }
    Ok(now.to_text())
}

fn changed(kept: &Lock, now: &Lock) -> Vec<(String, &'static str)> {
    let mut changed = Vec::new();
    for (name, hash) in &now.items {
        match kept.items.get(name) {
            None => changed.push((name.clone(), "is new")),
            Some(other) if other != hash => changed.push((name.clone(), "has changed")),
            Some(_) => {}
        }
    }
    let gone = kept.items.keys().filter(|name| !now.items.contains_key(*name));
    changed.extend(gone.map(|name| (name.clone(), "is gone")));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(version: u32, items: &[(&str, u64)]) -> Lock {
        Lock { version, items: items.iter().map(|(name, hash)| ((*name).to_owned(), *hash)).collect() }
    }

    #[test]
    fn the_file_says_what_it_was_told() {
        let lock = lock(3, &[("hooks/cpu::Cpu", 17), ("time::impl Nanoseconds", u64::MAX)]);
        assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
        for bad in ["", "version x", "version 1\nzz Cpu", "version 1\n12"] {
            assert!(Lock::parse(bad).unwrap_err().to_string().contains("expected"), "{bad}");
        }
    }

    #[test]
    fn a_change_needs_a_version() {
        let kept = lock(1, &[("a", 1), ("b", 2)]);
        assert_eq!(check(&kept, &kept), []);
        let now = lock(1, &[("a", 9), ("c", 3)]);
        let found: Vec<_> = check(&kept, &now).iter().map(Violation::to_string).collect();
        assert!(found[0].starts_with("a: has changed, and the version is still 1"), "{found:?}");
        assert!(found[1].starts_with("c: is new") && found[2].starts_with("b: is gone"), "{found:?}");
        assert!(accept(Some(&kept), &now).unwrap_err().to_string().contains("raise CONTRACT_VERSION"));

        let raised = Lock { version: 2, ..now };
        assert!(check(&kept, &raised)[0].to_string().contains("keeps version 1, the contract is version 2"));
        assert_eq!(accept(Some(&kept), &raised).unwrap(), raised.to_text());
        assert!(accept(Some(&raised), &kept).is_err());
        assert_eq!(accept(None, &kept).unwrap(), kept.to_text());
        // Nothing changed: the file may be written anew.
        assert_eq!(accept(Some(&kept), &kept).unwrap(), kept.to_text());
    }
}
