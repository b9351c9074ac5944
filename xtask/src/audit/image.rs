//! Gates of one image: hooks are reached directly, nothing is writable and executable, nothing is left to relocate, and there are
//! drivers just where there may be devices.

use anyhow::Result;

use crate::audit::Violation;
use crate::evidence::hooks::{self, Reach};
use crate::evidence::image::{Image, Use};
use crate::evidence::record;

/// Indirect hook calls, which a `static` image must not have.
pub fn indirect_hooks(image: &Image) -> Result<Vec<Violation>> {
    let (_, found) = hooks::look_into(image)?;
    let sites = found.sites.iter().filter(|site| site.reach == Reach::Indirect);
    let mut violations: Vec<_> = sites
        .map(|site| {
            let what = format!("indirect call of {} at {:#x}, for {}", site.hook, site.at, site.place);
            Violation::new(site.function.to_string(), what)
        })
        .collect();
    let tables = image.objects.iter().filter(|object| hooks::is_table(object));
    violations.extend(tables.map(|table| Violation::new(table.name.to_string(), "a table of hooks")));
    Ok(violations)
}

/// Indirect hook calls of a `patched` image that would not be patched at boot.
pub fn unrecorded_hooks(image: &Image) -> Result<Vec<Violation>> {
    let (_, found) = hooks::look_into(image)?;
    let recorded = record::entries(image).unwrap_or_default();
    if recorded.is_empty() {
        return Ok(vec![Violation::new(
            format!("section {}", platform::patch::SECTION),
            "no call site is recorded",
        )]);
    }
    let sites = found.sites.iter().filter(|site| site.reach == Reach::Indirect);
    let unrecorded = sites.filter(|site| recorded.iter().all(|entry| entry.address != site.at as u32));
    Ok(unrecorded
        .map(|site| {
            let what =
                format!("the call of {} at {:#x}, for {}, is not recorded", site.hook, site.at, site.place);
            Violation::new(site.function.to_string(), what)
        })
        .collect())
}

/// Memory that can be both written and executed.
pub fn writable_code(image: &Image) -> Vec<Violation> {
    let mut violations = Vec::new();
    for segment in image.segments.iter().filter(|segment| segment.writable && segment.executable) {
        let sections: Vec<_> = image
            .sections
            .iter()
            .filter(|section| segment.range.contains(&section.range.start))
            .map(|section| section.name.as_str())
            .collect();
        violations.push(Violation::new(
            format!("segment {:#x}..{:#x} ({})", segment.range.start, segment.range.end, sections.join(", ")),
            "both writable and executable",
        ));
    }
    for section in image.sections.iter().filter(|section| section.purpose == Use::Code) {
        let inside = |segment: &&crate::evidence::image::Segment| {
            segment.executable && segment.range.contains(&section.range.start)
        };
        if !image.segments.iter().any(|segment| inside(&segment)) {
            violations.push(Violation::new(section.name.clone(), "code outside of every executable segment"));
        }
    }
    violations
}

/// Relocations that a loader would have to apply: PVH loaders apply none.
pub fn relocations(image: &Image) -> Vec<Violation> {
    let sections = image.relocations.iter();
    sections.map(|name| Violation::new(format!("section {name}"), "relocations are left")).collect()
}

/// The crate that only drivers use.
const DRIVERS: &str = "virtio_drivers";
/// The part of the contract that only drivers call.
const PART: &str = "devices";

/// Drivers, which an image must not have if its platform has no devices: their crate's code, hooks that they call, and what
/// implements those. Where there may be devices, that there are none.
pub fn misplaced_drivers(image: &Image, has_devices: bool) -> Result<Vec<Violation>> {
    let (_, found) = hooks::look_into(image)?;
    let own = found.own_code.keys().filter(|hook| hook.part == PART);
    let own = own.map(|hook| Violation::new(hook.to_string(), "the backend's code for it is in the image"));
    let calls = found.sites.iter().filter(|site| site.hook.part == PART).map(|site| {
        Violation::new(site.function.to_string(), format!("calls {}, for {}", site.hook, site.place))
    });
    Ok(misplaced(own.chain(calls).chain(driver_code(image)).collect(), has_devices))
}

/// Functions of the drivers' crate.
fn driver_code(image: &Image) -> impl Iterator<Item = Violation> {
    let functions = image.functions.iter().filter(|function| function.name.owner() == DRIVERS);
    functions.map(|function| Violation::new(function.name.to_string(), "a driver's code"))
}

fn misplaced(drivers: Vec<Violation>, has_devices: bool) -> Vec<Violation> {
    match (drivers.is_empty(), has_devices) {
        (_, false) => drivers,
        (false, true) => Vec::new(),
        (true, true) => {
            vec![Violation::new(format!("part {PART}"), "nothing calls it, though there may be devices")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::image::{Section, Segment, Symbol};
    use crate::evidence::names::Name;

    #[test]
    fn writable_code_is_found() {
        let section = Section { name: ".text".into(), range: 0..8, purpose: Use::Code, bytes: vec![0xc3; 8] };
        let mut image = Image { sections: vec![section], ..Image::default() };
        assert_eq!(writable_code(&image)[0].to_string(), ".text: code outside of every executable segment");
        image.segments = vec![Segment { range: 0..16, writable: false, executable: true }];
        assert_eq!(writable_code(&image), []);
        image.segments[0].writable = true;
        let found = writable_code(&image);
        assert_eq!(found[0].to_string(), "segment 0x0..0x10 (.text): both writable and executable");
    }

    #[test]
    fn drivers_are_found_where_they_should_not_be() {
        let mut image = Image::default();
        assert_eq!(misplaced(driver_code(&image).collect(), false), []);
        let none = misplaced(driver_code(&image).collect(), true);
        assert_eq!(none[0].to_string(), "part devices: nothing calls it, though there may be devices");
        for name in ["kernel::devices::found", "virtio_drivers::queue::VirtQueue<H>::add"] {
            image.functions.push(Symbol { name: Name::new(name), range: 0..8, purpose: Use::Code });
        }
        let found = misplaced(driver_code(&image).collect(), false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "virtio_drivers::queue::VirtQueue<H>::add: a driver's code");
        assert_eq!(misplaced(found, true), []);
    }

    #[test]
    fn relocations_are_found() {
        let mut image = Image::default();
        assert_eq!(relocations(&image), []);
        image.relocations.push(".rela.dyn".into());
        assert_eq!(relocations(&image)[0].to_string(), "section .rela.dyn: relocations are left");
    }
}
