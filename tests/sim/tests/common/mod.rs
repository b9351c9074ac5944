//! The smallest kernel that can test a platform: what it does is set by the test, which has a process of its own.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};

use platform::{
    BootInfo, CpuId, CpuLocal, End, Exception, Interrupt, Kernel, Machine, MemoryKind, PAGE_SIZE, PhysFrame,
    Platform, SecondaryStart, TrapFrame, VirtAddr,
};
use sim::{Outcome, Sim};

pub struct Tiny;

pub type Cpu = <Sim<Tiny> as Platform>::Cpu;
pub type Paging = <Sim<Tiny> as Platform>::Paging;
pub type Interrupts = <Sim<Tiny> as Platform>::Interrupts;
pub type Clock = <Sim<Tiny> as Platform>::Clock;
pub type Timer = <Sim<Tiny> as Platform>::Timer;
pub type Smp = <Sim<Tiny> as Platform>::Smp;
pub type Console = <Sim<Tiny> as Platform>::Console;
pub type Power = <Sim<Tiny> as Platform>::Power;
pub type Boot = <Sim<Tiny> as Platform>::Boot;

/// What the kernel does. `boot` runs after discovery, interrupts disabled.
#[derive(Clone, Copy)]
pub struct Script {
    pub boot: fn(),
    pub secondary: fn(CpuId),
    pub system_call: fn(&mut TrapFrame),
    pub exception: fn(Exception, &mut TrapFrame),
    pub interrupt: fn(Interrupt),
    pub frame_interrupt: Option<fn(Interrupt, &mut TrapFrame)>,
}

pub const SCRIPT: Script = Script {
    boot: || (),
    secondary: |_| idle(),
    system_call: |frame| panic!("unexpected system call {}", frame.rax),
    exception: |exception, frame| panic!("unexpected {exception:?} at {:#x}", frame.rip),
    interrupt: |interrupt| LOG.lock().unwrap().push((sim::now().0, here(), interrupt)),
    frame_interrupt: None,
};

static ACTIVE: OnceLock<Script> = OnceLock::new();
static INFO: OnceLock<&'static BootInfo> = OnceLock::new();
static MACHINE: OnceLock<Machine> = OnceLock::new();
static FRAMES: Mutex<Vec<PhysFrame>> = Mutex::new(Vec::new());
/// No more frames for tables.
pub static EXHAUSTED: AtomicBool = AtomicBool::new(false);
pub static COUNT: AtomicU64 = AtomicU64::new(0);
/// Interrupts as [`SCRIPT`] takes them: when, where and what.
pub static LOG: Mutex<Vec<(u64, u32, Interrupt)>> = Mutex::new(Vec::new());

pub fn run(machine: sim::Machine, script: Script) -> Outcome {
    assert!(ACTIVE.set(script).is_ok());
    machine.run::<Tiny>()
}

pub fn info() -> &'static BootInfo {
    INFO.get().unwrap()
}

pub fn machine() -> &'static Machine {
    MACHINE.get().unwrap()
}

/// The number of this CPU, as the kernel finds it: through GS.
pub fn here() -> u32 {
    let cpu: u32;
    // SAFETY: on a CPU, GS:16 is `CpuLocal::cpu`.
    unsafe { std::arch::asm!("mov {:e}, gs:[16]", out(reg) cpu) };
    cpu
}

pub fn idle() -> ! {
    loop {
        Cpu::irq_disable();
        Cpu::wait_for_interrupt();
    }
}

pub fn say(line: impl std::fmt::Display) {
    Power::report(line.to_string().as_bytes());
}

pub fn take_frame() -> PhysFrame {
    FRAMES.lock().unwrap().pop().unwrap()
}

pub fn give_frame(frame: PhysFrame) {
    FRAMES.lock().unwrap().push(frame);
}

pub fn free_frames() -> usize {
    FRAMES.lock().unwrap().len()
}

pub fn host(frame: PhysFrame) -> *mut u8 {
    (info().direct_map + frame.start().0).as_mut_ptr()
}

fn local(cpu: CpuId) -> &'static mut CpuLocal {
    Box::leak(Box::new(CpuLocal::new(cpu)))
}

/// A stack outside the machine, where nothing is checked but it works.
pub fn stack() -> VirtAddr {
    let top = Box::leak(vec![0u128; 1 << 14].into_boxed_slice()).as_ptr_range().end;
    VirtAddr(top as u64)
}

pub fn start(cpu: u32) -> Result<(), platform::StartError> {
    Smp::start(CpuId(cpu), SecondaryStart { local: local(CpuId(cpu)), stack: stack() })
}

impl Kernel for Tiny {
    fn boot(info: &'static BootInfo) -> ! {
        INFO.set(info).unwrap();
        Cpu::set_local(local(CpuId(0)));
        Cpu::set_kernel_stack(stack());
        for region in info.memory.iter().filter(|region| region.kind == MemoryKind::Usable) {
            let pages = region.range.bytes() / PAGE_SIZE;
            FRAMES
                .lock()
                .unwrap()
                .extend((0..pages).map(|page| PhysFrame(region.range.start.frame().0 + page)));
        }
        match Boot::discover() {
            Ok(machine) => MACHINE.set(machine).unwrap(),
            Err(reason) => {
                say(reason.0);
                Power::end(End::Unusable);
            }
        }
        (ACTIVE.get().unwrap().boot)();
        Power::end(End::PowerOff)
    }

    fn secondary(cpu: CpuId) -> ! {
        Cpu::set_kernel_stack(stack());
        (ACTIVE.get().unwrap().secondary)(cpu);
        Cpu::halt()
    }

    fn system_call(frame: &mut TrapFrame) {
        (ACTIVE.get().unwrap().system_call)(frame);
    }

    fn exception(exception: Exception, frame: &mut TrapFrame) {
        (ACTIVE.get().unwrap().exception)(exception, frame);
    }

    fn interrupt(interrupt: Interrupt, frame: &mut TrapFrame) {
        let script = ACTIVE.get().unwrap();
        match script.frame_interrupt {
            Some(handler) => handler(interrupt, frame),
            None => (script.interrupt)(interrupt),
        }
    }

    fn allocate_table_frame() -> Option<PhysFrame> {
        if EXHAUSTED.load(SeqCst) { None } else { FRAMES.lock().unwrap().pop() }
    }

    fn free_table_frame(frame: PhysFrame) {
        give_frame(frame);
    }
}
