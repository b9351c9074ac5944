//! The architecture's part of an image, and where its text goes.

use std::collections::BTreeMap;

use crate::evidence::code::{Branch, Target};
use crate::evidence::hooks::{self, Hooks, Reach};
use crate::evidence::image::{Image, Size, Use};
use crate::evidence::names::{ASSEMBLY, Name};

/// How assembly of the backends is named.
const BACKENDS_ASSEMBLY: [&str; 10] =
    ["native_", "x86_", "vmi_", "lguest_", "xen_", "pv_", "boot_", "secondary_", "pvh_", "image_start"];

/// Whether a function or object is the architecture's: of a crate `arch-*`, of a backend as an object (`platform`'s
/// envelope around it), or of a backend's assembly.
pub fn is_architecture(name: &Name) -> bool {
    let owner = name.owner();
    owner.starts_with("arch_")
        || (owner == "platform" && name.as_str().contains("::Through<"))
        || (owner == ASSEMBLY && BACKENDS_ASSEMBLY.iter().any(|prefix| name.as_str().starts_with(prefix)))
}

/// The architecture's part: its functions and named objects, the sites where hooks are called from elsewhere, and the
/// tables for indirect calls, and the record of the sites that are patched.
pub fn architecture(image: &Image, hooks: &Hooks) -> Size {
    let mut size = Size::default();
    for symbol in image.functions.iter().chain(&image.objects) {
        if is_architecture(&symbol.name) || hooks::is_table(symbol) {
            size.add(symbol.purpose, symbol.range.end - symbol.range.start);
        }
    }
    for section in image.sections.iter().filter(|section| section.name == platform::patch::SECTION) {
        size.add(section.purpose, section.range.end - section.range.start);
    }
    size.text += hooks.outside;
    size
}

/// Text by the crate its function is of; what no function has (read-only data, padding) comes under names of its own.
pub fn text_by_crate(image: &Image) -> BTreeMap<String, u64> {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    let mut named = 0;
    for function in &image.functions {
        let length = function.range.end - function.range.start;
        named += length;
        *bytes.entry(function.name.owner().to_owned()).or_default() += length;
    }
    let of = |purpose| {
        image
            .sections
            .iter()
            .filter(move |section| section.purpose == purpose)
            .map(|section| section.range.end - section.range.start)
            .sum::<u64>()
    };
    bytes.insert("(read-only data)".into(), of(Use::ReadOnly));
    bytes.insert("(padding)".into(), of(Use::Code).saturating_sub(named));
    bytes
}

/// The image's indirect calls and jumps by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Indirect {
    /// Hooks
    pub hooks: u64,
    /// One known function, through a word the linker filled
    pub linker: u64,
    /// A word of the image's data: a function pointer or a table
    pub pointers: u64,
    /// A field of a structure: a method of an object, or a function pointer in it
    pub objects: u64,
    /// Tables of `match`
    pub switches: u64,
    /// A register whose value comes from further off: a callback or a method
    pub registers: u64,
}

/// Counts indirect calls and jumps.
pub fn indirect(image: &Image, branches: &[Branch], found: &Hooks) -> Indirect {
    let mut counts = Indirect::default();
    let is_hook = |at: u64| {
        let sites = &found.sites;
        let from = sites.partition_point(|site| site.at < at);
        sites[from..].iter().take_while(|site| site.at == at).any(|site| site.reach == Reach::Indirect)
    };
    for branch in branches {
        let count = match branch.target {
            Target::Direct(_) => continue,
            _ if is_hook(branch.at) => &mut counts.hooks,
            Target::Word(address) if hooks::in_got(image, address) => &mut counts.linker,
            Target::Word(_) => &mut counts.pointers,
            Target::Computed(_) | Target::Field(_) => &mut counts.objects,
            Target::Switch => &mut counts.switches,
            Target::Register => &mut counts.registers,
        };
        *count += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_s_names() {
        for (name, is) in [
            ("arch_native::cpu::NativeCpu<K>::halt", true),
            ("<platform::hooks::cpu::Through<B> as platform::hooks::cpu::Object>::irq_disable", true),
            ("<platform::address::PhysAddr as core::fmt::Debug>::fmt", false),
            ("native_iretq_user", true),
            ("memcpy", false),
            ("kernel::sched::idle::run_idle", false),
        ] {
            assert_eq!(is_architecture(&Name::new(name)), is, "{name}");
        }
    }
}
