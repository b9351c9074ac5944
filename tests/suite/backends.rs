//! The cases that say nothing of their backend, on another one than the bare machine: all of them, or enough.

use crate::rom::Choice;
use crate::rom::Manner::{Plain, Strict};
use crate::testing::case::Case;
use crate::variant::Backend::{Native, Vmi};
use crate::variant::Product;

/// How many of the cases run on the other backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One about each thing, on the machines in turn.
    Enough,
    /// Every one.
    Everything,
}

/// Cases that are about the bare machine: devices that a ROM needs too, or CPUs that it refuses in its own words.
const BARE_ONLY: &[&str] = &[];

/// Cases of a group of which one is enough.
const NEIGHBOURS: usize = 3;

/// Those of `cases` that say nothing of their backend, under VMI. One half finds the plain ROM, the other the strict one.
pub fn under_vmi(cases: &[Case], extent: Extent) -> Vec<Case> {
    let mut chosen: Vec<Case> = Vec::new();
    let fits = |case: &&Case| {
        case.variant.backend == Native
            && case.product == Product::Monoguest
            && case.rom.is_none()
            && !BARE_ONLY.contains(&case.name.as_str())
    };
    let cases: Vec<_> = cases.iter().filter(fits).enumerate().collect();
    for (turn, about) in cases.chunk_by(|a, b| subject(*a) == subject(*b)).enumerate() {
        let those = match extent {
            Extent::Everything => about,
            Extent::Enough => &about[turn % about.len()..][..1],
        };
        for (_, case) in those {
            let manner = if (chosen.len() / 2).is_multiple_of(2) { Strict } else { Plain };
            let mut case = (*case).clone().backend(Vmi).with_rom(Choice::Ours(manner));
            case.name = format!("vmi-{manner}/{}", case.name);
            chosen.push(case);
        }
    }
    chosen
}

/// What a case is about: a program, or one thing with a few of its neighbours in the group.
fn subject((index, case): (usize, &Case)) -> (&str, usize) {
    let name = case.name.as_str();
    match name.split_once('/') {
        // Machine and CPUs come behind the program's name,
        Some(("program", _)) => (name.rsplitn(3, '-').last().unwrap_or(name), 0),
        // the library before them,
        Some(("c", _)) => (name.split('-').next().unwrap_or(name), 0),
        // and the shell behind that of a script.
        Some(("script", _)) => (name.rsplitn(2, '-').last().unwrap_or(name), 0),
        Some((group, _)) => (group, index / NEIGHBOURS),
        None => (name, 0),
    }
}
