//! Where the parts of a program go in its address space.
//!
//! From the bottom: a program at fixed addresses, with its heap above it; one that can go anywhere at two thirds of the
//! space; then what the program maps itself, downwards from below the stack; the stack; the vDSO close above it, so that
//! both share translation tables.

use platform::PAGE_SIZE;

use super::elf::LoadPlan;
use crate::errno::{Errno, KResult};

/// Kept free between the stack and what is mapped below it, in bytes (Linux's `stack_guard_gap`).
const STACK_GUARD: u64 = 256 * PAGE_SIZE;
/// Room for the vDSO above the stack.
const KERNEL_ROOM: u64 = 16 * PAGE_SIZE;
/// What a stack has beside what is on it at the start, whatever its limit.
const LEAST_STACK: u64 = 128 << 10;
/// The largest stack: it never moves, so its whole range is kept for it.
const MOST_STACK: u64 = 1 << 30;
/// How far the heap may be from the end of the program.
const HEAP_SHIFT: u64 = 32 << 20;

/// Random numbers that addresses are chosen by; all zero for addresses that are always the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shifts {
    /// Where the program is, if it can be moved.
    pub program: u32,
    /// Where the heap starts.
    pub heap: u32,
    /// Where new mappings go.
    pub mappings: u32,
    /// Where the stack is.
    pub stack: u32,
}

/// Addresses of a program's parts, in bytes; all but `bias` at page borders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// What is added to every address of the program; wraps.
    pub bias: u64,
    /// Where the heap starts, with nothing in it.
    pub heap: u64,
    /// New mappings go below this.
    pub map_top: u64,
    /// The lowest address of the stack.
    pub stack_bottom: u64,
    /// One past its highest.
    pub stack_top: u64,
    /// What the kernel provides goes between the stack and this.
    pub kernel_top: u64,
}

impl Placement {
    /// Chooses addresses in `bottom..top` for a program whose stack has the limit `stack_limit` and holds
    /// `on_stack` bytes at the start.
    ///
    /// # Errors
    /// ENOMEM if there is no room.
    pub fn choose(
        plan: &LoadPlan,
        (bottom, top): (u64, u64),
        stack_limit: u64,
        on_stack: u64,
        shifts: Shifts,
    ) -> KResult<Self> {
        // Linux's: 16 GiB for the stack, 1 TiB for the others, of 128 TiB.
        let shift = |random: u32, range: u64| u64::from(random) % (range / PAGE_SIZE).max(1) * PAGE_SIZE;
        let kernel_top = top - shift(shifts.stack, top >> 13);
        let stack_top = kernel_top - KERNEL_ROOM;
        let least = on_stack + LEAST_STACK;
        let most = MOST_STACK.min(top / 8).max(least);
        let size = stack_limit.max(least).min(most).next_multiple_of(PAGE_SIZE);
        let stack_bottom = stack_top.checked_sub(size).ok_or(Errno::ENOMEM)?;
        let map_end = stack_bottom.checked_sub(STACK_GUARD).ok_or(Errno::ENOMEM)?;
        let map_top = map_end - shift(shifts.mappings, top >> 7);
        let (start, end) = plan.span();
        let bias = if plan.needs_bias {
            let wanted = top / 3 * 2 + shift(shifts.program, top >> 7);
            let highest = map_end.checked_sub(end - start).ok_or(Errno::ENOMEM)?;
            // Rounded down, so that the program starts less than one alignment below.
            let place = wanted.min(highest);
            place.wrapping_sub(start) & !(plan.alignment - 1)
        } else {
            0
        };
        let (start, end) = (start.wrapping_add(bias), end.wrapping_add(bias));
        if start < bottom || start >= end || end > map_end {
            return Err(Errno::ENOMEM);
        }
        let room = (map_end - end) / 2 / PAGE_SIZE * PAGE_SIZE;
        let heap = end + shift(shifts.heap, HEAP_SHIFT).min(room);
        Ok(Self { bias, heap, map_top, stack_bottom, stack_top, kernel_top })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exec::elf::Segment;

    const BOTTOM: u64 = 0x1_0000;
    const TOP: u64 = 0x7fff_ffff_f000;

    fn plan(start: u64, size: u64, alignment: u64, needs_bias: bool) -> LoadPlan {
        LoadPlan {
            entry: start,
            segments: vec![Segment {
                vaddr: start,
                memory_size: size,
                file_size: 0,
                file_offset: 0,
                protection: platform::Protection::READ,
                index: 0,
            }],
            program_headers: None,
            program_header_count: 1,
            executable_stack: false,
            alignment,
            needs_bias,
        }
    }

    #[test]
    fn without_shifts_addresses_are_always_the_same() {
        let place = |plan: &LoadPlan| {
            Placement::choose(plan, (BOTTOM, TOP), 8 << 20, 1000, Shifts::default()).unwrap()
        };
        let fixed = place(&plan(0x40_0000, 0x1234, PAGE_SIZE, false));
        assert_eq!((fixed.bias, fixed.heap, fixed.kernel_top), (0, 0x40_2000, TOP));
        assert_eq!(fixed.stack_top - fixed.stack_bottom, 8 << 20);
        assert_eq!(fixed.map_top, fixed.stack_bottom - (1 << 20));
        let movable = place(&plan(0, 0x1234, PAGE_SIZE, true));
        assert_eq!(movable.bias, 0x5555_5555_4000);
        assert_eq!(movable.heap, 0x5555_5555_6000);
    }

    #[test]
    fn stack_limits_have_bounds() {
        let size = |limit, on_stack| {
            let plan = plan(0x40_0000, 1, PAGE_SIZE, false);
            let place = Placement::choose(&plan, (BOTTOM, TOP), limit, on_stack, Shifts::default()).unwrap();
            place.stack_top - place.stack_bottom
        };
        assert_eq!(size(0, 0), 128 << 10);
        assert_eq!(size(0, 1 << 20), (1 << 20) + (128 << 10));
        assert_eq!(size(u64::MAX, 0), 1 << 30);
        assert_eq!(size((8 << 20) + 1, 0), (8 << 20) + PAGE_SIZE);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let choose = |plan: &LoadPlan| Placement::choose(plan, (BOTTOM, TOP), 8 << 20, 0, Shifts::default());
        assert_eq!(
            choose(&plan(TOP - 0x2000, 0x1000, PAGE_SIZE, false)),
            Err(Errno::ENOMEM),
            "the stack's place"
        );
        assert_eq!(choose(&plan(0x1000, 0x1000, PAGE_SIZE, false)), Err(Errno::ENOMEM), "too low");
        assert_eq!(choose(&plan(0, TOP - 0x10_0000, PAGE_SIZE, true)), Err(Errno::ENOMEM));
        assert_eq!(choose(&plan(0, 0x1000, 1 << 63, true)), Err(Errno::ENOMEM), "no address is so aligned");
        assert!(choose(&plan(0, 0x6000_0000_0000, PAGE_SIZE, true)).is_ok(), "large, but there is room");
    }

    proptest! {
        #[test]
        fn parts_keep_apart(
            start in (0u64..1 << 46).prop_map(|start| start & !0xfff),
            size in 1u64..1 << 44,
            alignment in 12u32..40,
            needs_bias: bool,
            limit: u64,
            on_stack in 0u64..6 << 20,
            (program, heap, mappings, stack) in any::<(u32, u32, u32, u32)>(),
        ) {
            let plan = plan(start, size, 1 << alignment, needs_bias);
            let shifts = Shifts { program, heap, mappings, stack };
            if let Ok(place) = Placement::choose(&plan, (BOTTOM, TOP), limit, on_stack, shifts) {
                let (start, end) = plan.span();
                let (start, end) = (start.wrapping_add(place.bias), end.wrapping_add(place.bias));
                prop_assert_eq!(place.bias % (1 << alignment), 0);
                prop_assert!(needs_bias || place.bias == 0);
                prop_assert!(BOTTOM <= start && start < end && end <= place.heap);
                prop_assert!(place.heap + STACK_GUARD <= place.stack_bottom);
                prop_assert!(place.map_top + STACK_GUARD <= place.stack_bottom);
                prop_assert!(place.stack_bottom + on_stack < place.stack_top && place.stack_top < place.kernel_top);
                prop_assert!(place.kernel_top <= TOP);
                for address in [place.heap, place.map_top, place.stack_bottom, place.stack_top, place.kernel_top] {
                    prop_assert_eq!(address % PAGE_SIZE, 0);
                }
            } else {
                prop_assert!(!needs_bias && (start < BOTTOM || start + size > TOP - (20 << 30) - (1 << 30)));
            }
        }
    }
}
