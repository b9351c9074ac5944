//! Address spaces in CR3: which one is active, and, where the CPU numbers them (process-context identifiers), what it may
//! still remember of others.
//!
//! Each space has a generation, drawn from one counter: anew when it is made and whenever a translation is taken away.
//! A CPU that comes back to a space under the number it had keeps its translations only if the generation is still the
//! same. The generation is kept in an entry of the space's top-level table that is never present.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use platform::{CpuSet, MAX_CPUS, PhysFrame};

use super::direct_table;
use super::walker::Table;
use crate::cpu::features::{Features, has};
use crate::cpu::local::current_cpu;
use crate::machine::Machine;

/// Spaces whose translations a CPU keeps.
const NUMBERS: usize = 6;
/// The entry of a top-level table that holds the generation: between direct map and windows, never present.
const GENERATION_ENTRY: usize = 399;
/// CR3: keep the translations of the number that is loaded.
const KEEP: u64 = 1 << 63;

static NEXT_GENERATION: AtomicU64 = AtomicU64::new(2);

/// A generation no space has had. Even, so that the entry that holds it is not present.
fn new_generation() -> u64 {
    NEXT_GENERATION.fetch_add(2, Ordering::Relaxed)
}

/// Marks a table that becomes a space's top level.
pub fn begin(table: &Table) {
    if has(Features::PCID) {
        table[GENERATION_ENTRY].store(new_generation(), Ordering::Relaxed);
    }
}

/// A translation has been taken away from `root`: CPUs that have left it must not keep what they remember.
///
/// Comes before the kernel looks up which CPUs use the space: either it finds a CPU that is about to activate it, or
/// that CPU finds the new generation.
#[inline(always)]
pub fn taken_away(root: PhysFrame) {
    if has(Features::PCID) {
        // SAFETY: a root token leads to a top-level table.
        let table = unsafe { direct_table(root) };
        table[GENERATION_ENTRY].swap(new_generation(), Ordering::SeqCst);
    }
}

/// What one CPU's numbers stand for. Number 0 is the kernel's own space.
#[derive(Debug)]
pub struct Numbers {
    spaces: [(PhysFrame, u64); NUMBERS],
    next: usize,
}

impl Numbers {
    const fn new() -> Self {
        Self { spaces: [(PhysFrame(0), 0); NUMBERS], next: 0 }
    }

    /// The number to load for `root`, and whether the translations under it are good.
    fn choose(&mut self, root: PhysFrame, generation: u64) -> (u64, bool) {
        let known = self.spaces.iter().position(|space| space.0 == root);
        let at = known.unwrap_or_else(|| {
            let at = self.next;
            self.next = (at + 1) % NUMBERS;
            at
        });
        let good = self.spaces[at] == (root, generation);
        self.spaces[at] = (root, generation);
        (at as u64 + 1, good)
    }
}

struct PerCpu([core::cell::UnsafeCell<Numbers>; MAX_CPUS]);

// SAFETY: each CPU uses its own element only, with interrupts disabled.
unsafe impl Sync for PerCpu {}

static ALL_NUMBERS: PerCpu = PerCpu([const { core::cell::UnsafeCell::new(Numbers::new()) }; MAX_CPUS]);

/// The space each CPU has active or is about to; frame 0 for the kernel's own. On a cache line of its own: each is
/// written at every change of space.
#[repr(align(64))]
struct Active(AtomicU64);

static ACTIVE: [Active; MAX_CPUS] = [const { Active(AtomicU64::new(0)) }; MAX_CPUS];

/// Those of `cpus` that may use translations of `root`. Any other that activates it later finds the tables as they are
/// now: the CPU that changes spaces says so before it loads CR3, which no walk overtakes.
pub fn users(root: PhysFrame, cpus: CpuSet) -> CpuSet {
    fence(Ordering::SeqCst);
    cpus.iter().filter(|cpu| ACTIVE[cpu.index()].0.load(Ordering::Relaxed) == root.0).collect()
}

/// Loads `root`.
///
/// # Safety
/// It is a top-level table with the kernel's entries; interrupts are disabled.
#[inline(always)]
pub unsafe fn activate<M: Machine>(root: PhysFrame) {
    let cpu = current_cpu().index();
    ACTIVE[cpu].0.store(root.0, Ordering::Relaxed);
    let mut value = root.start().0;
    if has(Features::PCID) {
        // Who takes a translation away either finds this CPU active or has this CPU find the new generation.
        fence(Ordering::SeqCst);
        // SAFETY: a top-level table; the element is this CPU's, and nothing interrupts.
        let (number, good) = unsafe {
            let generation = direct_table(root)[GENERATION_ENTRY].load(Ordering::Relaxed);
            (*ALL_NUMBERS.0[cpu].get()).choose(root, generation)
        };
        value |= number | if good { KEEP } else { 0 };
    }
    // SAFETY: as the caller promised.
    unsafe { M::set_cr3(value) };
}

/// Loads the kernel's own space, whose user half is empty.
///
/// # Safety
/// `root` is its top-level table.
#[inline(always)]
pub unsafe fn activate_kernel<M: Machine>(root: PhysFrame) {
    ACTIVE[current_cpu().index()].0.store(0, Ordering::Relaxed);
    // SAFETY: the kernel's translations never change but in its windows, which have flushes of their own.
    unsafe { M::set_cr3(root.start().0 | if has(Features::PCID) { KEEP } else { 0 }) };
}

/// Whether `root` is active on this CPU. Context: interrupts disabled.
#[inline(always)]
pub fn is_active(root: PhysFrame) -> bool {
    ACTIVE[current_cpu().index()].0.load(Ordering::Relaxed) == root.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_keeps_its_number_and_loses_its_translations_with_its_generation() {
        let mut numbers = Numbers::new();
        let (a, b) = (PhysFrame(10), PhysFrame(11));
        let (first, good) = numbers.choose(a, 2);
        assert!(!good && first != 0);
        let (second, good) = numbers.choose(b, 4);
        assert!(!good && second != first);
        assert_eq!(numbers.choose(a, 2), (first, true));
        assert_eq!(numbers.choose(a, 6), (first, false), "something was taken away");
        assert_eq!(numbers.choose(a, 6), (first, true));
    }

    #[test]
    fn an_evicted_space_starts_over() {
        let mut numbers = Numbers::new();
        let (first, _) = numbers.choose(PhysFrame(1), 2);
        for n in 0..NUMBERS as u64 {
            numbers.choose(PhysFrame(100 + n), 4 + 2 * n);
        }
        let (again, good) = numbers.choose(PhysFrame(1), 2);
        assert!(!good, "number {first} had another owner, {again} too");
    }
}
