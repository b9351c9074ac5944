//! Hook call sites: where an image reaches its backend, how, and what that takes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use anyhow::Result;
use platform::HOOKS;

use crate::evidence::code::{self, Branch, Target};
use crate::evidence::image::{Image, Symbol};
use crate::evidence::inlined::{self, Inlined, Place};
use crate::evidence::names::Name;

/// A hook of the contract.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct HookName {
    /// The part's module (`cpu`, `paging`, …)
    pub part: String,
    /// The function
    pub name: String,
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.part, self.name)
    }
}

/// All hooks, in the contract's order.
pub fn all() -> Vec<HookName> {
    let hooks = HOOKS.iter().flat_map(|part| part.iter());
    hooks.map(|hook| HookName { part: hook.part.to_lowercase(), name: hook.name.to_owned() }).collect()
}

/// How a site reaches its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The backend's code stands there itself
    Inlined,
    /// A direct call or jump
    Direct,
    /// A call or jump whose target is looked up while it runs
    Indirect,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inlined => "inlined",
            Self::Direct => "direct",
            Self::Indirect => "indirect",
        })
    }
}

/// One place of the image's code that calls a hook.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Site {
    /// Which hook
    pub hook: HookName,
    /// How it is reached
    pub reach: Reach,
    /// Where the instruction is, or the first inlined one
    pub at: u64,
    /// What the site takes, with what is set up for it
    pub bytes: u64,
    /// The function it is in
    pub function: Name,
    /// The source line
    pub place: Place,
}

/// The structures that hold what indirect calls of hooks are looked up in.
const TABLES: [&str; 2] = ["TABLE", "OBJECT"];

/// A part's module of hooks and the name in it, of `kernel::hook::PART::NAME`; the other packages that stand on the
/// contract have the same module.
fn in_hooks(name: &Name) -> Option<(&str, &str)> {
    let (_, rest) = name.as_str().split_once("::")?;
    rest.strip_prefix("hook::")?.split_once("::")
}

/// Which hook a function of the kernel's module of hooks calls.
pub fn called_by(name: &Name) -> Option<HookName> {
    let rest = name.as_str().strip_prefix("kernel::hook::")?;
    let (part, name) = rest.split_once("::")?;
    known(part, name)
}

/// The hook of this name, if there is one.
fn known(part: &str, name: &str) -> Option<HookName> {
    let is_hook = HOOKS
        .iter()
        .flat_map(|part| part.iter())
        .any(|hook| hook.part.eq_ignore_ascii_case(part) && hook.name == name);
    is_hook.then(|| HookName { part: part.to_owned(), name: name.to_owned() })
}

/// Which hook a backend's function implements: `<arch_b::…::BPart<K> as platform::…::Part>::hook`,
/// `arch_b::…::BPart<K>::hook`, or the method `<platform::hooks::part::Through<B> as …>::hook` of a backend as an object.
pub fn implemented_by(name: &Name) -> Option<HookName> {
    if let Some(method) = name.as_str().strip_prefix("<platform::hooks::") {
        let (part, _) = method.split_once("::Through<")?;
        let (_, last) = method.rsplit_once("::")?;
        return known(part, last);
    }
    if !name.owner().starts_with("arch_") {
        return None;
    }
    let (before, last) = name.as_str().rsplit_once("::")?;
    let plain = before.split_once(" as platform::").map_or_else(
        || before.trim_start_matches('<').split('<').next().unwrap_or(before),
        |(_, of_trait)| of_trait,
    );
    let owner = plain.trim_end_matches(['>', ':']).rsplit("::").next()?;
    let hook = HOOKS
        .iter()
        .flat_map(|part| part.iter())
        .find(|hook| hook.name == last && owner.ends_with(hook.part))?;
    Some(HookName { part: hook.part.to_lowercase(), name: last.to_owned() })
}

/// The hook whose slot of a table is at `address`.
pub fn slot_at(image: &Image, address: u64) -> Option<HookName> {
    let object = image.object_at(address)?;
    let (part, "TABLE") = in_hooks(&object.name)? else { return None };
    let slot = usize::try_from((address - object.range.start) / 8).ok()?;
    let hooks =
        HOOKS.iter().find(|hooks| hooks.first().is_some_and(|h| h.part.eq_ignore_ascii_case(part)))?;
    hooks.get(slot).map(|hook| HookName { part: part.to_owned(), name: hook.name.to_owned() })
}

/// Whether `object` is there for indirect calls of hooks only.
pub fn is_table(object: &Symbol) -> bool {
    in_hooks(&object.name).is_some_and(|(_, name)| TABLES.contains(&name))
}

/// Everything about hooks that an image shows.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// The sites, ascending
    pub sites: Vec<Site>,
    /// Code of the sites that is outside of the backend's own functions
    pub outside: u64,
    /// The backend's functions that implement a hook, by hook, in bytes
    pub own_code: BTreeMap<HookName, u64>,
    /// Hooks of a table whose slot's address is taken or computed: there the compiler made one call of several. Where it
    /// is computed these are all hooks of the table
    pub merged: BTreeMap<HookName, Name>,
}

/// Finds the sites of an image.
pub fn find(image: &Image, branches: &[Branch]) -> Result<Hooks> {
    let inlined = inlined::calls(image, |name| called_by(name).is_some() || implemented_by(name).is_some())?;
    let (callers, bodies): (Vec<_>, Vec<_>) =
        inlined.iter().partition(|call| called_by(&call.name).is_some());
    let callers = Cover::new(&callers);
    // A backend's forwarding function is only an envelope: what counts as its body is what is inside of it.
    let bodies: Vec<_> =
        bodies.into_iter().filter(|body| !body.name.as_str().contains(" as platform::")).collect();
    let bodies = Cover::new(&bodies);

    let mut sites = Vec::new();
    let mut merged = merged(image);
    let mut reached = vec![0u64; callers.calls.len()];
    for branch in branches {
        if let Target::Computed(word) = branch.target {
            note_computed(image, word, branch.at, &mut merged);
        }
        let caller = callers.innermost(branch.at);
        let in_body = |caller: usize| {
            bodies
                .innermost(branch.at)
                .is_some_and(|body| bodies.calls[body].depth > callers.calls[caller].depth)
        };
        let by_call = caller.filter(|&caller| !in_body(caller));
        let (reach, hook) = match branch.target {
            Target::Direct(target) => {
                let Some(caller) = by_call else { continue };
                let hook = called_by(&callers.calls[caller].name);
                let function = image.function_at(target);
                let reaches =
                    function.is_some_and(|f| f.range.start == target && implemented_by(&f.name) == hook);
                match hook.filter(|_| reaches) {
                    Some(hook) => (Reach::Direct, hook),
                    None => continue,
                }
            }
            target => {
                let by_slot = match target {
                    Target::Word(address) => slot_at(image, address),
                    _ => None,
                };
                let got = matches!(target, Target::Word(address) if in_got(image, address));
                let by_call =
                    by_call.filter(|_| !got).and_then(|caller| called_by(&callers.calls[caller].name));
                match by_slot.or(by_call) {
                    Some(hook) => (Reach::Indirect, hook),
                    None => continue,
                }
            }
        };
        let mut place = Place::default();
        if let Some(caller) = by_call {
            reached[caller] += 1;
            place = callers.calls[caller].place.clone();
        }
        let function = image.function_at(branch.at).map(|function| function.name.clone());
        let Some(function) = function else { continue };
        sites.push((
            by_call,
            Site { hook, reach, at: branch.at, bytes: u64::from(branch.length), function, place },
        ));
    }
    for (caller, site) in &mut sites {
        if let Some(caller) = caller {
            site.bytes = (callers.own_bytes[*caller] / reached[*caller]).max(site.bytes);
        }
    }
    let mut sites: Vec<Site> = sites.into_iter().map(|(_, site)| site).collect();
    for (index, call) in callers.calls.iter().enumerate() {
        let (Some(hook), Some(first)) =
            (called_by(&call.name), call.ranges.iter().map(|range| range.start).min())
        else {
            continue;
        };
        let Some(function) = image.function_at(first) else { continue };
        // What has neither a call nor the backend's code shares the call of another site.
        let has_body = bodies.calls.iter().any(|body| {
            body.depth > call.depth && body.ranges.iter().any(|range| call.contains(range.start))
        });
        if reached[index] == 0 && callers.own_bytes[index] > 0 && has_body {
            sites.push(Site {
                hook,
                reach: Reach::Inlined,
                at: first,
                bytes: callers.own_bytes[index],
                function: function.name.clone(),
                place: call.place.clone(),
            });
        }
    }
    sites.sort_by(|a, b| (a.at, &a.hook).cmp(&(b.at, &b.hook)));
    let outside = callers.outside(image);
    Ok(Hooks { sites, outside, own_code: own_code(image), merged })
}

fn merged(image: &Image) -> BTreeMap<HookName, Name> {
    let mut found = BTreeMap::new();
    for function in &image.functions {
        for instruction in code::instructions(image, function) {
            if code::is_lea(&instruction)
                && instruction.is_ip_rel_memory_operand()
                && let Some(hook) = slot_at(image, instruction.ip_rel_memory_address())
                && !["::install", "::patch"].iter().any(|end| function.name.as_str().ends_with(end))
            {
                found.entry(hook).or_insert_with(|| function.name.clone());
            }
        }
    }
    found
}

/// A call at `at` of some hook of the table whose address is in `word`, which linking has put there.
fn note_computed(image: &Image, word: u64, at: u64, merged: &mut BTreeMap<HookName, Name>) {
    let Some((table, function)) = image.word(word).filter(|_| in_got(image, word)).zip(image.function_at(at))
    else {
        return;
    };
    let slots = (table..).step_by(size_of::<u64>()).map_while(|slot| slot_at(image, slot));
    slots.for_each(|hook| _ = merged.entry(hook).or_insert_with(|| function.name.clone()));
}

/// Whether `address` is in the table of addresses that the linker filled.
pub fn in_got(image: &Image, address: u64) -> bool {
    image.section_at(address).is_some_and(|section| section.name == ".got")
}

fn own_code(image: &Image) -> BTreeMap<HookName, u64> {
    let mut code = BTreeMap::new();
    for function in &image.functions {
        if let Some(hook) = implemented_by(&function.name) {
            *code.entry(hook).or_default() += function.range.end - function.range.start;
        }
    }
    code
}

/// Inlined calls by address.
struct Cover<'a> {
    calls: Vec<&'a Inlined>,
    /// Disjoint pieces, ascending, each with the innermost call it belongs to
    pieces: Vec<(Range<u64>, usize)>,
    /// What each call has that is not inside of another of these
    own_bytes: Vec<u64>,
}

impl<'a> Cover<'a> {
    fn new(calls: &[&'a Inlined]) -> Self {
        let mut points: Vec<u64> =
            calls.iter().flat_map(|call| &call.ranges).flat_map(|range| [range.start, range.end]).collect();
        points.sort_unstable();
        points.dedup();
        let mut owner: Vec<Option<usize>> = vec![None; points.len()];
        for (index, call) in calls.iter().enumerate() {
            for range in &call.ranges {
                let from = points.partition_point(|&point| point < range.start);
                let to = points.partition_point(|&point| point < range.end);
                for owner in &mut owner[from..to] {
                    if owner.is_none_or(|other| calls[other].depth <= call.depth) {
                        *owner = Some(index);
                    }
                }
            }
        }
        let mut pieces = Vec::new();
        let mut own_bytes = vec![0; calls.len()];
        for (pair, owner) in points.windows(2).zip(owner) {
            if let Some(owner) = owner {
                own_bytes[owner] += pair[1] - pair[0];
                pieces.push((pair[0]..pair[1], owner));
            }
        }
        Self { calls: calls.to_vec(), pieces, own_bytes }
    }

    fn innermost(&self, address: u64) -> Option<usize> {
        let after = self.pieces.partition_point(|(range, _)| range.start <= address);
        let (range, owner) = self.pieces[..after].last()?;
        range.contains(&address).then_some(*owner)
    }

    /// Bytes of the pieces that are not in the backend's own functions.
    fn outside(&self, image: &Image) -> u64 {
        let outside = |range: &Range<u64>| {
            image
                .function_at(range.start)
                .is_none_or(|function| !super::parts::is_architecture(&function.name))
        };
        self.pieces.iter().filter(|(range, _)| outside(range)).map(|(range, _)| range.end - range.start).sum()
    }
}

/// All sites and branches of an image in one go.
pub fn look_into(image: &Image) -> Result<(Vec<Branch>, Hooks)> {
    let branches = code::branches(image);
    let hooks = find(image, &branches)?;
    Ok((branches, hooks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(part: &str, name: &str) -> Option<HookName> {
        Some(HookName { part: part.into(), name: name.into() })
    }

    #[test]
    fn functions_of_hooks_are_known_by_name() {
        let called = |name: &str| called_by(&Name::new(name));
        assert_eq!(called("kernel::hook::cpu::irq_disable"), hook("cpu", "irq_disable"));
        assert_eq!(called("kernel::hook::cpu::install"), None);
        assert_eq!(called("kernel::hook::paging::irq_disable"), None);
        let implemented = |name: &str| implemented_by(&Name::new(name));
        assert_eq!(implemented("arch_native::cpu::NativeCpu<K>::halt"), hook("cpu", "halt"));
        assert_eq!(
            implemented("<arch_native::power::NativePower<K> as platform::hooks::power::Power>::end"),
            hook("power", "end")
        );
        assert_eq!(
            implemented("arch_native::interrupts::NativeInterrupts<K>::end"),
            hook("interrupts", "end")
        );
        assert_eq!(implemented("<arch_vmi::cpu::VmiCpu<kernel::trap::Upcalls>>::halt"), hook("cpu", "halt"));
        let method = "<platform::hooks::cpu::Through<B> as platform::hooks::cpu::Object>::halt";
        assert_eq!(implemented(method), hook("cpu", "halt"));
        assert_eq!(implemented("<platform::hooks::cpu::IrqState as core::fmt::Debug>::fmt"), None);
        assert_eq!(implemented("arch_native::power::end"), None);
        assert_eq!(implemented("kernel::cpu::KernelCpu<K>::halt"), None);
    }

    #[test]
    fn every_hook_has_one_name() {
        let mut hooks = all();
        let count = hooks.len();
        hooks.sort();
        hooks.dedup();
        assert_eq!(hooks.len(), count);
    }

    #[test]
    fn the_innermost_call_owns_a_byte() {
        let call = |depth, ranges: &[Range<u64>]| Inlined {
            name: Name::new("kernel::hook::cpu::halt"),
            ranges: ranges.to_vec(),
            place: Place::default(),
            depth,
        };
        let range = |range| vec![range];
        let calls = [call(0, &[0..10, 20..30]), call(2, &range(4..6)), call(1, &range(22..30))];
        let cover = Cover::new(&calls.iter().collect::<Vec<_>>());
        assert_eq!(cover.own_bytes, [10, 2, 8]);
        let innermost = [0, 4, 6, 12, 21, 22, 30].map(|at| cover.innermost(at));
        assert_eq!(innermost, [Some(0), Some(1), Some(0), None, Some(0), Some(2), None]);
    }
}
