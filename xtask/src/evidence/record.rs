//! Records the hook call sites of a `patched` image in the image itself, as objtool does with those of static calls.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};
use platform::patch::{SECTION, SITE_BYTES, Site};

use crate::evidence::code::{self, Branch, Target, Transfer};
use crate::evidence::hooks;
use crate::evidence::image::Image;

/// How many sites of an image are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Recorded {
    /// Those that become direct calls
    pub calls: u64,
    /// Those that become the backend's own instructions
    pub instructions: u64,
}

impl Recorded {
    /// All of them.
    pub fn sites(self) -> u64 {
        self.calls + self.instructions
    }
}

/// Fills in the record of the image in a file. The sites have reserved its entries when they were compiled.
pub fn fill(path: &Path) -> Result<()> {
    let mut file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sites = find(&Image::parse(&file)?)?;
    let section = object::File::parse(&*file)?
        .section_by_name(SECTION)
        .and_then(|section| section.file_range())
        .with_context(|| format!("it has no section {SECTION}: it was not built as `patched`"))?;
    let (start, bytes) = (usize::try_from(section.0)?, usize::try_from(section.1)?);
    let entries = bytes / size_of::<Site>();
    if sites.is_empty() || sites.len() > entries {
        bail!("{} call sites of hooks were found, there is room for {entries}", sites.len());
    }
    let record: Vec<u8> =
        sites.iter().flat_map(|site| [site.address, site.code]).flat_map(u32::to_le_bytes).collect();
    file.get_mut(start..start + record.len())
        .with_context(|| format!("section {SECTION} is cut off"))?
        .copy_from_slice(&record);
    fs::write(path, file).with_context(|| format!("cannot write {}", path.display()))
}

/// What an image has in its record; `None` if it has none.
pub fn recorded(image: &Image) -> Option<Recorded> {
    let section = image.sections.iter().find(|section| section.name == SECTION)?;
    let mut recorded = Recorded::default();
    for entry in section.bytes.chunks_exact(size_of::<Site>()) {
        match (word(&entry[..4]), word(&entry[4..])) {
            (0, _) => {}
            (_, 0) => recorded.calls += 1,
            _ => recorded.instructions += 1,
        }
    }
    Some(recorded)
}

fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

/// The sites of an image, ascending.
fn find(image: &Image) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    for branch in code::branches(image) {
        let Target::Word(slot) = branch.target else { continue };
        let Some(hook) = hooks::slot_at(image, slot) else { continue };
        if !is_patchable(&branch) {
            let function = image.function_at(branch.at).map(|function| function.name.to_string());
            bail!(
                "the call of {hook} at {:#x} in {} is not the six bytes that can be patched",
                branch.at,
                function.unwrap_or_default()
            );
        }
        let code = stand_in(image, slot).map_or(0, |bytes| u32::from(bytes) + 1);
        sites.push(Site { address: branch.at as u32, code });
    }
    Ok(sites)
}

fn is_patchable(branch: &Branch) -> bool {
    branch.immediate && usize::from(branch.length) == SITE_BYTES && branch.transfer == Transfer::Call
}

/// How many bytes of the function that `slot` will hold can stand at a site, if they can.
fn stand_in(image: &Image, slot: u64) -> Option<u8> {
    let target = image.word(hooks::first_value(image, slot)?)?;
    let function = image.function_at(target).filter(|function| function.range.start == target)?;
    code::straight_body(image, function, SITE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_of_six_bytes_can_be_patched() {
        let branch =
            Branch { at: 0, length: 6, transfer: Transfer::Call, immediate: true, target: Target::Word(0) };
        assert!(is_patchable(&branch));
        assert!(!is_patchable(&Branch { length: 7, ..branch }));
        assert!(!is_patchable(&Branch { transfer: Transfer::Jump, ..branch }));
        assert!(!is_patchable(&Branch { immediate: false, ..branch }));
    }
}
