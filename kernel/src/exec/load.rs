//! Building the address space of a new program, before it is anybody's.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use platform::{Access, PAGE_SIZE, Protection, VirtAddr};

use super::auxiliary::machine_facts;
use super::elf::{LoadPlan, Segment};
use super::placement::{Placement, Shifts};
use super::program::Start;
use super::stack::{AuxiliaryValue, StackContent, StackImage, auxiliary_type as at};
use crate::errno::{Errno, KResult};
use crate::mm::space::{Backing, MIN_ADDRESS, MapIntent, MapPlace, MapRequest, MappedFile, ProgramRanges};
use crate::mm::user::user_top;
use crate::mm::vma::VmaFlags;
use crate::mm::{AddressSpace, Page, frames};
use crate::process::Credentials;
use crate::{random, vdso};

/// `AT_CLKTCK`: Linux's USER_HZ.
const CLOCK_TICKS: u64 = 100;
/// A stack pointer nearer than this to the start of its page gets the page below it at once: it will be used.
const STACK_ROOM: u64 = 2048;

/// Whether addresses are chosen at random.
static RANDOMIZED: AtomicBool = AtomicBool::new(true);

/// Says whether addresses of programs started from now on are chosen at random (boot parameter `norandmaps`).
pub fn set_randomized(randomized: bool) {
    RANDOMIZED.store(randomized, Ordering::Relaxed);
}

/// A program in memory, ready to run.
pub struct Loaded {
    /// Its address space, with one user.
    pub space: Arc<AddressSpace>,
    /// Its first instruction.
    pub entry: u64,
    /// Its stack pointer.
    pub stack_pointer: u64,
}

/// Who the program will run as.
pub struct Identity<'a> {
    /// Its user and groups.
    pub credentials: &'a Credentials,
    /// Whether it must not trust its environment (`AT_SECURE`).
    pub secure: bool,
}

/// Puts the program that `plan` finds in `file` into an address space of its own. `stack_limit` is in bytes.
///
/// # Errors
/// ENOMEM, or why the file cannot be read.
pub fn load(
    plan: &LoadPlan,
    file: Arc<dyn MappedFile>,
    start: &Start,
    identity: &Identity<'_>,
    stack_limit: u64,
) -> KResult<Loaded> {
    let Chance { shifts, bytes } = Chance::take();
    let mut auxiliary = auxiliary(plan, identity);
    let on_stack = content(start, &auxiliary, bytes).most_bytes();
    let bounds = (MIN_ADDRESS, user_top().0);
    let place = Placement::choose(plan, bounds, stack_limit, on_stack, shifts)?;

    let space = AddressSpace::new()?;
    map_program(&space, plan, place.bias, &file)?;
    map_stack(&space, plan, &place)?;
    space.layout().map_top = VirtAddr(place.kernel_top);
    relocate(&mut auxiliary, plan, place.bias);
    let auxiliary = match vdso::map(&space) {
        Ok(header) => {
            auxiliary[VDSO_INDEX].1 = AuxiliaryValue::Number(header.0);
            &auxiliary[VDSO_INDEX..]
        }
        // Programs do without it.
        Err(_) => &auxiliary[VDSO_INDEX + 1..],
    };
    let image = content(start, auxiliary, bytes).lay_out(place.stack_top)?;
    fill_stack(&space, &image)?;
    let entry = plan.entry.wrapping_add(place.bias);
    // The first instruction is run for certain. If that cannot be, the program finds out by itself.
    let _mapped = space.fault(VirtAddr(entry), Access::USER | Access::EXECUTE);

    let mut layout = space.layout();
    layout.map_top = VirtAddr(place.map_top);
    layout.brk_start = VirtAddr(place.heap);
    layout.brk = VirtAddr(place.heap);
    layout.program = ranges(plan, place.bias, &image);
    layout.executable = Some(file);
    drop(layout);
    Ok(Loaded { space, entry, stack_pointer: image.pointer })
}

/// What is drawn for one program.
struct Chance {
    shifts: Shifts,
    bytes: [u8; 16],
}

impl Chance {
    fn take() -> Self {
        let mut drawn = [0; 32];
        random::fill(&mut drawn);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&drawn[..16]);
        let shift = |index: usize| {
            let word = &drawn[16 + 4 * index..];
            u32::from_le_bytes([word[0], word[1], word[2], word[3]])
        };
        let shifts = if RANDOMIZED.load(Ordering::Relaxed) {
            Shifts { program: shift(0), heap: shift(1), mappings: shift(2), stack: shift(3) }
        } else {
            Shifts::default()
        };
        Self { shifts, bytes }
    }
}

const AUXILIARY_ENTRIES: usize = 20;
/// The first may have to be left out.
const VDSO_INDEX: usize = 0;
/// Where [`relocate`] finds the entries that depend on where the program is.
const PROGRAM_HEADERS_INDEX: usize = 5;
const ENTRY_INDEX: usize = 10;

/// The auxiliary vector in Linux's order, with addresses as they are before any bias.
fn auxiliary(plan: &LoadPlan, identity: &Identity<'_>) -> [(u64, AuxiliaryValue); AUXILIARY_ENTRIES] {
    let facts = machine_facts();
    let credentials = identity.credentials;
    let number = AuxiliaryValue::Number;
    [
        (at::VDSO, number(0)),
        (at::SIGNAL_STACK, number(facts.signal_stack)),
        (at::HARDWARE, number(facts.hardware)),
        (at::PAGE_SIZE, number(PAGE_SIZE)),
        (at::CLOCK_TICKS, number(CLOCK_TICKS)),
        (at::PROGRAM_HEADERS, number(plan.program_headers.unwrap_or(0))),
        (at::PROGRAM_HEADER_SIZE, number(LoadPlan::PROGRAM_HEADER_SIZE.into())),
        (at::PROGRAM_HEADER_COUNT, number(plan.program_header_count.into())),
        (at::INTERPRETER_BASE, number(0)),
        (at::FLAGS, number(0)),
        (at::ENTRY, number(plan.entry)),
        (at::UID, number(credentials.uid.0.into())),
        (at::EUID, number(credentials.euid.0.into())),
        (at::GID, number(credentials.gid.0.into())),
        (at::EGID, number(credentials.egid.0.into())),
        (at::SECURE, number(identity.secure.into())),
        (at::RANDOM, AuxiliaryValue::Random),
        // Bit 1 would promise FSGSBASE instructions, which not every platform allows user mode.
        (at::HARDWARE_2, number(0)),
        (at::FILE_NAME, AuxiliaryValue::FileName),
        (at::PLATFORM, AuxiliaryValue::Platform),
    ]
}

fn relocate(auxiliary: &mut [(u64, AuxiliaryValue); AUXILIARY_ENTRIES], plan: &LoadPlan, bias: u64) {
    let moved = |address: u64| AuxiliaryValue::Number(address.wrapping_add(bias));
    debug_assert_eq!(auxiliary[PROGRAM_HEADERS_INDEX].0, at::PROGRAM_HEADERS);
    debug_assert_eq!(auxiliary[ENTRY_INDEX].0, at::ENTRY);
    if let Some(headers) = plan.program_headers {
        auxiliary[PROGRAM_HEADERS_INDEX].1 = moved(headers);
    }
    auxiliary[ENTRY_INDEX].1 = moved(plan.entry);
}

fn content<'a>(
    start: &'a Start,
    auxiliary: &'a [(u64, AuxiliaryValue)],
    random: [u8; 16],
) -> StackContent<'a> {
    StackContent {
        file_name: &start.file_name,
        arguments: &start.arguments,
        environment: &start.environment,
        auxiliary,
        random,
    }
}

fn map_program(space: &AddressSpace, plan: &LoadPlan, bias: u64, file: &Arc<dyn MappedFile>) -> KResult<()> {
    let mut mapped_to = 0;
    for segment in &plan.segments {
        let start = segment.page_start().wrapping_add(bias);
        let file_end = (segment.vaddr + segment.file_size).next_multiple_of(PAGE_SIZE).wrapping_add(bias);
        let end = segment.page_end().wrapping_add(bias);
        let mut zeros_from = start;
        if segment.file_size > 0 {
            map_file_part(space, segment, bias, (start, file_end), mapped_to, file)?;
            zeros_from = file_end;
        }
        if zeros_from < end {
            if frames::can_never_hold(end - zeros_from) {
                return Err(Errno::ENOMEM);
            }
            space.map(MapRequest {
                place: MapPlace::IfFree(VirtAddr(zeros_from)),
                length: end - zeros_from,
                protection: segment.protection,
                flags: VmaFlags::empty(),
                backing: Backing::Anonymous,
            })?;
        }
        mapped_to = end;
    }
    Ok(())
}

fn map_file_part(
    space: &AddressSpace,
    segment: &Segment,
    bias: u64,
    (start, end): (u64, u64),
    mapped_to: u64,
    file: &Arc<dyn MappedFile>,
) -> KResult<()> {
    let offset = segment.file_offset & !(PAGE_SIZE - 1);
    let has_tail = segment.memory_size > segment.file_size;
    let at = VirtAddr(start);
    space.map(MapRequest {
        // A page shared with the segment below is this segment's.
        place: if start < mapped_to { MapPlace::Replace(at) } else { MapPlace::IfFree(at) },
        length: end - start,
        protection: segment.protection,
        // The zeros below are a page of the program's own, even where it may not write.
        flags: if has_tail { VmaFlags::MAY_HAVE_COPIES } else { VmaFlags::empty() },
        backing: Backing::File { file: file.clone(), offset },
    })?;
    let tail = (segment.vaddr.wrapping_add(bias) + segment.file_size) % PAGE_SIZE;
    if has_tail && tail != 0 {
        let last = VirtAddr(end - PAGE_SIZE);
        let original = file.map_page((offset + (last.0 - start)) / PAGE_SIZE, MapIntent::Read)?;
        let page = unfilled_page()?;
        original.with_bytes(0, tail as usize, |bytes| page.write(0, bytes));
        page.clear_from(tail as usize);
        space.provide(last, page)?;
    }
    Ok(())
}

fn map_stack(space: &AddressSpace, plan: &LoadPlan, place: &Placement) -> KResult<()> {
    let mut protection = Protection::READ | Protection::WRITE;
    protection.set(Protection::EXECUTE, plan.executable_stack);
    space.map(MapRequest {
        place: MapPlace::IfFree(VirtAddr(place.stack_bottom)),
        length: place.stack_top - place.stack_bottom,
        protection,
        flags: VmaFlags::GROWS_DOWN,
        backing: Backing::Anonymous,
    })?;
    Ok(())
}

fn fill_stack(space: &AddressSpace, image: &StackImage) -> KResult<()> {
    let mut at = VirtAddr(image.pointer);
    let mut rest = image.bytes.as_slice();
    let used_below = (at.0 % PAGE_SIZE) as usize;
    if (used_below as u64) < STACK_ROOM {
        space.provide(at.page() - PAGE_SIZE, Page::zeroed()?)?;
    }
    while !rest.is_empty() {
        let offset = (at.0 % PAGE_SIZE) as usize;
        let (here, above) = rest.split_at(rest.len().min(PAGE_SIZE as usize - offset));
        let page = unfilled_page()?;
        page.with_bytes_mut(0, offset, |bytes| bytes.fill(0));
        page.write(offset, here);
        page.clear_from(offset + here.len());
        space.provide(at, page)?;
        at = at + here.len() as u64;
        rest = above;
    }
    Ok(())
}

/// A page whose content is whatever it was; to be written in full.
fn unfilled_page() -> KResult<Page> {
    frames::allocate_user().map(Page::from_held).ok_or(Errno::ENOMEM)
}

fn ranges(plan: &LoadPlan, bias: u64, image: &StackImage) -> ProgramRanges {
    let moved = |address: u64| address.wrapping_add(bias);
    let file_end = |segment: &Segment| segment.vaddr + segment.file_size;
    let code = plan.segments.iter().filter(|segment| segment.protection.contains(Protection::EXECUTE));
    let code = code
        .fold((u64::MAX, 0), |(start, end), segment| (start.min(segment.vaddr), end.max(file_end(segment))));
    let code = if code.1 == 0 { (0, 0) } else { (moved(code.0), moved(code.1)) };
    let data = plan.segments.last().map_or((0, 0), |last| (moved(last.vaddr), moved(file_end(last))));
    ProgramRanges {
        code,
        data,
        stack_start: image.pointer,
        arguments: (image.arguments.start, image.arguments.end),
        environment: (image.environment.start, image.environment.end),
        auxiliary: (image.auxiliary.start, image.auxiliary.end),
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
