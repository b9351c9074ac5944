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
    let section = section(&mut file)?;
    let entries = section.len() / size_of::<Site>();
    if sites.is_empty() || sites.len() > entries {
        bail!("{} call sites of hooks were found, there is room for {entries}", sites.len());
    }
    let record = sites.iter().flat_map(|site| [site.address, site.code]).flat_map(u32::to_le_bytes);
    section.iter_mut().zip(record).for_each(|(byte, recorded)| *byte = recorded);
    fs::write(path, file).with_context(|| format!("cannot write {}", path.display()))
}

/// The record in the bytes of an image's file.
pub fn section(file: &mut [u8]) -> Result<&mut [u8]> {
    let (start, bytes) = object::File::parse(&*file)?
        .section_by_name(SECTION)
        .and_then(|section| section.file_range())
        .with_context(|| format!("it has no section {SECTION}: it was not built as `patched`"))?;
    let range = usize::try_from(start)?..usize::try_from(start + bytes)?;
    file.get_mut(range).with_context(|| format!("section {SECTION} is cut off"))
}

/// The sites in an image's record; `None` if it has none.
pub fn entries(image: &Image) -> Option<Vec<Site>> {
    let section = image.sections.iter().find(|section| section.name == SECTION)?;
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let sites = section.bytes.chunks_exact(size_of::<Site>()).map(|entry| {
        let (address, code) = entry.split_at(size_of::<Site>() / 2);
        Site { address: word(address), code: word(code) }
    });
    Some(sites.filter(|site| site.address != 0).collect())
}

/// How many sites an image has in its record; `None` if it has none.
pub fn recorded(image: &Image) -> Option<Recorded> {
    let sites = entries(image)?;
    let instructions = sites.iter().filter(|site| site.code != 0).count() as u64;
    Some(Recorded { calls: sites.len() as u64 - instructions, instructions })
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

/// How many bytes of the function in `slot` can stand at a site, if they can.
fn stand_in(image: &Image, slot: u64) -> Option<u8> {
    let target = image.word(slot)?;
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
