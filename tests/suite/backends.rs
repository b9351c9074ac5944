//! The cases that say nothing of their backend, on another one than the bare machine: all of them, or enough.

use crate::rom::Choice;
use crate::rom::Manner::{Plain, Strict};
use crate::testing::case::Case;
use crate::variant::Backend::{Lguest, Native, Vmi};
use crate::variant::Dispatch::{self, Static, Table};
use crate::variant::Product;

/// How many of the cases run on the other backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One about each thing, on the machines in turn.
    Enough,
    /// Every one.
    Everything,
}

/// Groups and cases that say nothing about an lguest guest: what is below the hypervisor, several CPUs, and what is only
/// without devices.
const NOT_UNDER_LGUEST: &[&str] = &["machine/", "console/idle-on-", "network/none-on-native"];

/// Programs that take longer under lguest than all others together.
const LONG_UNDER_LGUEST: &[&str] = &["program/threads", "program/soak", "program/wild"];

/// Cases of a group of which one is enough.
const NEIGHBOURS: usize = 3;

/// Those of `cases` that say nothing of their backend, under VMI. One half finds the plain ROM, the other the strict one.
pub fn under_vmi(cases: &[Case], extent: Extent) -> Vec<Case> {
    let under = |(turn, case): (usize, &Case)| {
        let manner = if (turn / 2).is_multiple_of(2) { Strict } else { Plain };
        let mut case = case.clone().backend(Vmi).with_rom(Choice::Ours(manner));
        case.name = format!("vmi-{manner}/{}", case.name);
        case
    };
    chosen(cases, extent, |_| true).into_iter().enumerate().map(under).collect()
}

/// The same under lguest, whose guests have one CPU: in the modes `static` and `table` by turns, or in both if it is
/// every one.
pub fn under_lguest(cases: &[Case], extent: Extent) -> Vec<Case> {
    let begins = |name: &str, with: &[&str]| with.iter().any(|with| name.starts_with(with));
    let fits = |case: &Case| {
        let long = extent == Extent::Enough && begins(&case.name, LONG_UNDER_LGUEST);
        !long && !begins(&case.name, NOT_UNDER_LGUEST)
    };
    let under = |(turn, case): (usize, &Case)| {
        let modes: &[Dispatch] = match extent {
            Extent::Everything => &[Static, Table],
            Extent::Enough => &[[Static, Table][turn % 2]],
        };
        let in_mode = |&mode| {
            let mut case = case.clone().backend(Lguest).dispatch(mode).machine("pc").cpus(1);
            case.name = format!("lguest-{mode}/{}", case.name);
            case.limit = case.limit * 3 / 2;
            case
        };
        modes.iter().map(in_mode).collect::<Vec<_>>()
    };
    chosen(cases, extent, fits).into_iter().enumerate().flat_map(under).collect()
}

/// A case, and what it is about.
struct About<'a> {
    thing: (&'a str, usize),
    case: &'a Case,
}

/// The cases that say nothing of their backend and that `fits`: of those about one thing all, or one, not always the
/// first.
fn chosen(cases: &[Case], extent: Extent, fits: impl Fn(&Case) -> bool) -> Vec<&Case> {
    let open = cases.iter().filter(|case| {
        case.variant.backend == Native && case.product == Product::Monoguest && case.rom.is_none()
    });
    let open = open.filter(|case| fits(case)).enumerate();
    let open: Vec<_> = open.map(|(index, case)| About { thing: subject(index, case), case }).collect();
    let things = open.chunk_by(|a, b| a.thing == b.thing).enumerate();
    let those = things.flat_map(|(turn, about)| match extent {
        Extent::Everything => about,
        Extent::Enough => &about[turn % about.len()..][..1],
    });
    those.map(|about| about.case).collect()
}

/// What a case is about: a program, or one thing with a few of its neighbours in the group.
fn subject(index: usize, case: &Case) -> (&str, usize) {
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
