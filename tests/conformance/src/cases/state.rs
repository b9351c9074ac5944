//! Register state beyond the general registers: what belongs to a program stays its own.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::sync::atomic::Ordering;

use platform::{ExtendedState, PAGE_SIZE, UserBases, VirtAddr};

use super::{Case, case, two_cpus};
use crate::hook::cpu;
use crate::report::{Outcome, ensure};
use crate::space::{self, DATA, READ_WRITE, Space};
use crate::user::{self, Left};
use crate::{cpus, memory, programs};

pub const CASES: &[Case] = &[
    case("extended state of two programs is kept apart", two_programs),
    case("extended state of a new program is the reset one", reset),
    case("extended state that no CPU can have is refused", refused),
    case("user bases are kept and told", bases),
    two_cpus("extended state moves to another CPU", moves),
];

/// An area for [`ExtendedState`].
struct Area(VirtAddr, Layout);

impl Area {
    /// With the state of a new program.
    fn new() -> Self {
        let Ok(layout) = Layout::from_size_align(cpu::extended_state_bytes(), 64) else {
            panic!("extended state of {} bytes", cpu::extended_state_bytes())
        };
        // SAFETY: the layout has a size, and the area is as large and aligned as the hook asks.
        unsafe {
            let area = Self(VirtAddr(alloc_zeroed(layout) as u64), layout);
            cpu::init_extended(area.state());
            area
        }
    }

    fn state(&self) -> ExtendedState {
        ExtendedState(self.0)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with that size, and borrowed with the area.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr(), self.1.size()) }
    }

    fn save(&self) {
        // SAFETY: as large and aligned as the hook asks.
        unsafe { cpu::save_extended(self.state()) };
    }

    fn restore(&self) -> bool {
        // SAFETY: as large and aligned as the hook asks.
        unsafe { cpu::restore_extended(self.state()) }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0.as_mut_ptr(), self.1) };
    }
}

const REGISTER_WORDS: usize = 32;
const STORED: u64 = 1024;

/// A program that loads its vector registers from its data and, after a system call, stores them.
struct Program {
    space: Space,
    data: platform::PhysFrame,
    seed: u64,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut space = Space::with_program(programs::vectors());
        let data = space.map(DATA, READ_WRITE);
        for index in 0..REGISTER_WORDS {
            memory::word(data, index).store(seed + index as u64, Ordering::Relaxed);
        }
        Self { space, data, seed }
    }

    /// Runs until the call.
    fn load(&self) -> Result<platform::TrapFrame, alloc::string::String> {
        self.space.activate();
        let mut frame = self.space.start();
        frame.rdi = DATA.0;
        frame.rdx = DATA.0 + STORED;
        let (left, frame) = user::run(&frame);
        ensure!(left == Left::SystemCall, "the program was left by {left:?}");
        Ok(frame)
    }

    /// Goes on after the call and looks at what it stores.
    fn check(&self, frame: &platform::TrapFrame) -> Outcome {
        self.space.activate();
        let (left, _) = user::run(frame);
        space::leave();
        ensure!(left == Left::SystemCall, "the program was left by {left:?}");
        for index in 0..REGISTER_WORDS {
            let word = memory::word(self.data, STORED as usize / 8 + index).load(Ordering::Relaxed);
            let expected = self.seed + index as u64;
            ensure!(word == expected, "xmm{} has {word:#x} instead of {expected:#x}", index / 2);
        }
        Ok(())
    }
}

fn two_programs() -> Outcome {
    let programs = [Program::new(0x1111_0000), Program::new(0x2222_0000)];
    let areas = [Area::new(), Area::new()];
    let mut frames = [programs[0].space.start(), programs[1].space.start()];
    for index in 0..2 {
        ensure!(areas[index].restore(), "the state of a new program was refused");
        frames[index] = programs[index].load()?;
        areas[index].save();
    }
    for index in [0, 1] {
        ensure!(areas[index].restore(), "a saved state was refused");
        programs[index].check(&frames[index])?;
    }
    Ok(())
}

fn moves() -> Outcome {
    let program = Program::new(0x3333_0000);
    let area = Area::new();
    ensure!(area.restore(), "the state of a new program was refused");
    let frame = program.load()?;
    area.save();
    space::leave();
    let Some(other) = cpus::others().iter().next() else { return Err("there is no other CPU".into()) };
    let outcome = spin::Mutex::new(Ok(()));
    let address = area.state();
    cpus::with_others(
        platform::CpuSet::one(other),
        &|| {
            // SAFETY: the area is as the hook asks, and nobody else uses it meanwhile.
            let restored = unsafe { cpu::restore_extended(address) };
            *outcome.lock() = if restored { program.check(&frame) } else { Err("it was refused".into()) };
        },
        || {},
    );
    outcome.into_inner()
}

fn controls() -> Result<(u64, u64), alloc::string::String> {
    let mut space = Space::with_program(programs::controls());
    let data = space.map(DATA, READ_WRITE);
    space.activate();
    let mut frame = space.start();
    frame.rdi = DATA.0;
    let (left, _) = user::run(&frame);
    space::leave();
    ensure!(left == Left::SystemCall, "left by {left:?}");
    let word = |index| memory::word(data, index).load(Ordering::Relaxed);
    Ok((word(0) & 0xffff_ffff, word(1) & 0xffff))
}

/// MXCSR and the x87 control word of a new program (psABI x86-64, 3.4.1): all exceptions masked.
const RESET: (u64, u64) = (0x1f80, 0x037f);

fn reset() -> Outcome {
    let program = Program::new(0x4444_0000);
    let area = Area::new();
    ensure!(area.restore(), "the state of a new program was refused");
    program.load()?;
    space::leave();
    ensure!(Area::new().restore(), "the state of a new program was refused");
    let found = controls()?;
    ensure!(found == RESET, "MXCSR and control word are {found:#x?}");
    Ok(())
}

fn refused() -> Outcome {
    /// Where the header of the XSAVE format begins (Intel SDM vol. 1, 13.4.2); an area without one is FXSAVE's.
    const HEADER: usize = 512;
    let mut area = Area::new();
    ensure!(area.restore(), "the state of a new program was refused");
    area.save();
    if area.bytes().len() <= HEADER {
        return Ok(());
    }
    // No CPU has every component.
    area.bytes()[HEADER..HEADER + 8].fill(0xff);
    ensure!(!area.restore(), "a component that no CPU has was taken");
    let found = controls()?;
    ensure!(found == RESET, "MXCSR and control word are {found:#x?} after a state was refused");
    Ok(())
}

fn bases() -> Outcome {
    let mut space = Space::with_program(programs::bases());
    let (fs, gs) = (DATA, VirtAddr(DATA.0 + PAGE_SIZE));
    let frames = [space.map(fs, READ_WRITE), space.map(gs, READ_WRITE)];
    memory::word(frames[0], 0).store(0xf5, Ordering::Relaxed);
    memory::word(frames[1], 0).store(0x65, Ordering::Relaxed);
    space.activate();
    let state = cpu::irq_save();
    let set = UserBases { fs, gs };
    cpu::set_user_bases(set);
    let told = cpu::user_bases();
    cpu::irq_restore(state);
    let (left, end) = user::run(&space.start());
    let state = cpu::irq_save();
    let after = cpu::user_bases();
    cpu::set_user_bases(UserBases::default());
    let cleared = cpu::user_bases();
    cpu::irq_restore(state);
    space::leave();
    ensure!(told == set, "set {set:x?}, told {told:x?}");
    ensure!(left == Left::SystemCall, "left by {left:?}");
    ensure!(end.r8 == 0xf5 && end.r9 == 0x65, "fs:0 is {:#x}, gs:0 {:#x}", end.r8, end.r9);
    ensure!(after == set, "after user mode {after:x?}");
    ensure!(cleared == UserBases::default(), "cleared, told {cleared:x?}");
    // The kernel's own private data is still where it was.
    ensure!(core::ptr::eq(cpus::of(cpus::id()), cpus::this()), "the kernel's GS was lost");
    Ok(())
}
