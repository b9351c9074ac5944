//! The processor: descriptor tables, control registers, and the state that is switched between guests only.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::cell::UnsafeCell;

use arch_x86::extended_state;
use platform::{ExtendedState, Unusable, VirtAddr};
use x86_64::registers::model_specific::Msr;

use super::switch;
use crate::archive::MOST_GUESTS;
use crate::context::Registers;
use crate::cpuid;

const STAR: Msr = Msr::new(0xc000_0081);
const LSTAR: Msr = Msr::new(0xc000_0082);
const SYSCALL_MASK: Msr = Msr::new(0xc000_0084);
const SYSENTER_CS: Msr = Msr::new(0x174);

/// CPUID leaf 1 ECX.
const XSAVE: u32 = 1 << 26;
const DEADLINE: u32 = 1 << 24;
/// CPUID leaf 7 EBX and ECX.
const FSGSBASE: u32 = 1 << 0;
const SMEP: u32 = 1 << 7;
const UMIP: u32 = 1 << 2;

/// Extended state for all: x87, SSE, AVX, AVX-512, as far as they are complete.
const BASE_COMPONENTS: u64 = 0b11;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;
/// Bytes of the largest area of these.
const AREA_BYTES: usize = 4096;

/// The task state segment (Intel SDM vol. 3A, figure 8-11).
#[repr(C, packed(4))]
struct TaskState {
    reserved0: u32,
    stacks: [u64; 3],
    reserved1: u64,
    interrupt_stacks: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}

#[repr(C, align(16))]
struct Tables {
    descriptors: [u64; 9],
    gates: [[u64; 2]; 256],
    task: TaskState,
    /// For NMI, #DF and #MC, which may come on any stack.
    emergency: [u64; 512],
    areas: [Area; MOST_GUESTS],
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Area([u8; AREA_BYTES]);

struct TablesCell(UnsafeCell<Tables>);

// SAFETY: there is one processor, and what changes after the start is used by [`save`] and [`restore`] only.
unsafe impl Sync for TablesCell {}

const TASK_SELECTOR: u16 = 0x38;

static TABLES: TablesCell = TablesCell(UnsafeCell::new(Tables {
    // Null; the host's code and data; two that are free; the guests' data at 0x2b and code at 0x33; the task state.
    descriptors: [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0,
        0,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0,
        0,
    ],
    gates: [[0; 2]; 256],
    task: TaskState {
        reserved0: 0,
        stacks: [0; 3],
        reserved1: 0,
        interrupt_stacks: [0; 7],
        reserved2: 0,
        reserved3: 0,
        io_map: size_of::<TaskState>() as u16,
    },
    emergency: [0; 512],
    areas: [Area([0; AREA_BYTES]); MOST_GUESTS],
}));

/// What the processor can do that is not required.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// The APIC's timer takes values of the time stamp counter.
    pub deadline: bool,
    components: u64,
}

/// Prepares the processor, or says why it cannot run guests.
pub fn init() -> Result<Features, Unusable> {
    let (basic, extended) = (__cpuid_count(1, 0), __cpuid_count(7, 0));
    if extended.ebx & FSGSBASE == 0 {
        return Err(Unusable("the CPU has no FSGSBASE"));
    }
    if basic.ecx & XSAVE == 0 {
        return Err(Unusable("the CPU has no XSAVE"));
    }
    let leaf = __cpuid_count(0xd, 0);
    let supported = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    let mut components = BASE_COMPONENTS | supported & AVX;
    if components & AVX != 0 && supported & AVX512 == AVX512 {
        components |= AVX512;
    }
    // PAE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE.
    let mut cr4: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18;
    if extended.ebx & SMEP != 0 {
        cr4 |= 1 << 20;
    }
    if extended.ecx & UMIP != 0 {
        cr4 |= 1 << 11;
    }
    // PE, MP, ET, NE, WP, AM, PG.
    let cr0: u64 = 1 << 31 | 1 << 18 | 1 << 16 | 1 << 5 | 1 << 4 | 0b11;
    // SAFETY: the processor has what is enabled; paging and protection stay as they are.
    unsafe {
        asm!("mov cr4, {}", in(reg) cr4, options(nostack));
        asm!("mov cr0, {}", in(reg) cr0, options(nostack));
        asm!("xsetbv", in("ecx") 0, in("eax") components as u32, in("edx") (components >> 32) as u32,
             options(nomem, nostack));
        load_tables();
        let (mut star, mut lstar, mut mask, mut sysenter) = (STAR, LSTAR, SYSCALL_MASK, SYSENTER_CS);
        star.write(0x23 << 48 | 0x08 << 32);
        lstar.write(switch::system_call_entry());
        // All flags are cleared.
        mask.write(0xffff_fffd);
        sysenter.write(0);
        // No breakpoints: a guest cannot set any.
        asm!("mov dr7, {}", in(reg) 0x400u64, options(nomem, nostack));
    }
    let area_bytes = __cpuid_count(0xd, 0).ebx;
    if area_bytes as usize > AREA_BYTES {
        return Err(Unusable("the CPU's extended state is larger than the hypervisor knows"));
    }
    // For [`reset_area`] alone, to which XSAVEOPT is nothing.
    extended_state::set(components, area_bytes, 0);
    let features = Features { deadline: basic.ecx & DEADLINE != 0, components };
    (0..MOST_GUESTS).for_each(reset_area);
    Ok(features)
}

unsafe fn load_tables() {
    let tables = TABLES.0.get();
    let pointer = |limit: usize, base: u64| {
        let mut pointer = [0u8; 10];
        pointer[..2].copy_from_slice(&(limit as u16).to_le_bytes());
        pointer[2..].copy_from_slice(&base.to_le_bytes());
        pointer
    };
    // SAFETY: once, at the start, on the only processor; the tables stay where they are.
    unsafe {
        let task = &raw mut (*tables).task;
        (&raw mut (*task).stacks).cast::<u64>().write_unaligned(switch::exit_stack());
        let emergency = (&raw const (*tables).emergency) as u64 + size_of::<[u64; 512]>() as u64;
        (&raw mut (*task).interrupt_stacks).cast::<u64>().write_unaligned(emergency);
        let base = task as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        (*tables).descriptors[7] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        (*tables).descriptors[8] = base >> 32;
        for (vector, gate) in (*tables).gates.iter_mut().enumerate() {
            let entry = switch::gate_entry(vector);
            // Interrupt gates; breakpoint and overflow are for everyone.
            let privilege = if matches!(vector, 3 | 4) { 3 } else { 0 };
            let stack = u64::from(matches!(vector, 2 | 8 | 18));
            let kind = 0x8e | privilege << 5;
            gate[0] = entry & 0xffff | 0x08 << 16 | stack << 32 | kind << 40 | (entry >> 16 & 0xffff) << 48;
            gate[1] = entry >> 32;
        }
        let descriptors =
            pointer(size_of_val(&(*tables).descriptors) - 1, &raw const (*tables).descriptors as u64);
        let gates = pointer(size_of_val(&(*tables).gates) - 1, &raw const (*tables).gates as u64);
        asm!("lgdt [{}]", in(reg) &descriptors);
        asm!("push 0x08", "lea {0}, [rip + 2f]", "push {0}", "retfq", "2:", out(reg) _);
        asm!("mov ss, {0:e}", "mov ds, {1:e}", "mov es, {1:e}", "mov fs, {1:e}", "mov gs, {1:e}",
             in(reg) 0x10, in(reg) 0);
        asm!("lldt {0:x}", "ltr {1:x}", in(reg) 0, in(reg) TASK_SELECTOR);
        asm!("lidt [{}]", in(reg) &gates);
    }
}

/// What a guest has in registers that neither the host nor the switch to it uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserState {
    fs_base: u64,
    selectors: [u16; 4],
}

impl UserState {
    /// A guest's that has not run yet.
    pub const fn new() -> Self {
        Self { fs_base: 0, selectors: [Registers::DATA as u16, Registers::DATA as u16, 0, 0] }
    }
}

fn area(number: usize) -> *mut Area {
    // SAFETY: a field of the tables, which are never moved.
    let areas = unsafe { &raw mut (*TABLES.0.get()).areas };
    areas.cast::<Area>().wrapping_add(number)
}

/// Makes the extended state of guest `number` the initial one.
pub fn reset_area(number: usize) {
    assert!(number < MOST_GUESTS);
    // SAFETY: the guest's own area, aligned, and as large as [`init`] has found that it must be.
    unsafe { extended_state::init(ExtendedState(VirtAddr(area(number) as u64))) }
}

/// Keeps what guest `number` has in registers.
pub fn save(number: usize, features: Features) -> UserState {
    assert!(number < MOST_GUESTS);
    let mut state = UserState::default();
    let mut selectors = [0u32; 4];
    // SAFETY: the area is the guest's own, aligned and large enough; the rest reads registers.
    unsafe {
        asm!("xsave64 [{}]", in(reg) area(number), in("eax") features.components as u32,
             in("edx") (features.components >> 32) as u32, options(nostack));
        asm!("rdfsbase {}", out(reg) state.fs_base, options(nomem, nostack));
        asm!("mov {0:e}, ds", "mov {1:e}, es", "mov {2:e}, fs", "mov {3:e}, gs", out(reg) selectors[0],
             out(reg) selectors[1], out(reg) selectors[2], out(reg) selectors[3], options(nomem, nostack));
    }
    state.selectors = selectors.map(|selector| selector as u16);
    state
}

/// Gives guest `number` back what [`save`] kept. GS base is lost.
pub fn restore(number: usize, state: &UserState, features: Features) {
    assert!(number < MOST_GUESTS);
    let [ds, es, fs, gs] = state.selectors.map(u32::from);
    // SAFETY: the area holds what XSAVE stored or the initial state; the selectors are ones that CPL 3 has loaded from the
    // same table; FS base is what the processor had.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) area(number), in("eax") features.components as u32,
             in("edx") (features.components >> 32) as u32, options(nostack));
        asm!("mov ds, {0:e}", "mov es, {1:e}", "mov fs, {2:e}", "mov gs, {3:e}", in(reg) ds, in(reg) es,
             in(reg) fs, in(reg) gs, options(nomem, nostack));
        asm!("wrfsbase {}", in(reg) state.fs_base, options(nomem, nostack));
    }
}

/// What CPUID says to a guest.
pub fn filtered(leaf: u32, subleaf: u32) -> [u32; 4] {
    let found = __cpuid_count(leaf, subleaf);
    cpuid::filtered(leaf, subleaf, [found.eax, found.ebx, found.ecx, found.edx])
}
