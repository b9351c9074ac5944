//! The boot CPU's way from its first line to the first program.

use alloc::sync::Arc;

use platform::{BootInfo, MemoryKind, PAGE_SIZE, PhysFrame};
use spin::Once;

use super::chart::phase;
use super::{end, init, parameters, smp};
use crate::hook;
use crate::mm::{self, KernelStack, frames};
use crate::net::inet;
use crate::process::process::NewProcess;
use crate::process::{Credentials, Limits, Pid, Process, Task, ids};
use crate::signal::SignalActions;
use crate::sync::interrupts;
use crate::{devices, fs, logger, percpu, random, sched, time, tty, vdso};

pub(crate) static KERNEL_PROCESS: Once<Arc<Process>> = Once::new();

/// The process that the kernel's own tasks belong to.
///
/// # Panics
/// Before it is made, at boot.
pub fn kernel_process() -> Arc<Process> {
    match KERNEL_PROCESS.get() {
        Some(process) => process.clone(),
        None => panic!("a kernel task was made too early"),
    }
}

/// First code of the kernel above the platform.
pub fn boot_cpu(info: &'static BootInfo) -> ! {
    hook::install();
    let patched = hook::patch(info);
    percpu::init_boot_cpu();
    logger::init();
    mm::set_direct_map(info.direct_map);
    mm::user::set_user_top(info.user_top);
    mm::set_kernel_window(info.kernel_window.0, info.kernel_window.1);
    if let Err(error) = frames::init(info) {
        end::unusable(&match error {
            frames::InitError::TooLittleMemory => "there is too little memory",
            frames::InitError::BadMemoryMap => "the memory map contradicts itself",
        });
    }
    parameters::set(info.command_line);
    log::info!("Monoguest {} on {}", env!("CARGO_PKG_VERSION"), <hook::Backend as platform::Platform>::NAME);
    if let Some(patched) = patched {
        log::info!("{patched}");
        if !patched.is_complete() {
            end::unusable(&"the dispatch control `patched` has hook call sites that were not patched");
        }
    }
    phase("memory");

    let machine = match hook::boot::discover() {
        Ok(machine) => machine,
        Err(unusable) => end::unusable(&unusable.0),
    };
    log::info!("{} CPUs, {}", machine.cpus.count(), machine.description);
    phase("platform");
    give_back(info, MemoryKind::Reclaimable);

    time::init();
    ids::init();
    mm::init_stacks();
    random::init();
    fs::init();
    vdso::init();
    KERNEL_PROCESS.call_once(|| {
        Process::new(NewProcess {
            pid: Pid(0),
            files: fs::FileTable::empty(),
            fs: fs::FsContext::initial(),
            actions: SignalActions::new(),
            space: None,
            credentials: Arc::new(Credentials::root()),
            limits: Limits::initial(),
            exit_signal: 0,
        })
    });
    // The boot stack is the idle task's; it is never given back.
    sched::install_idle_task(Task::idle(kernel_process(), KernelStack::borrowed(boot_stack_top())));
    tty::init();
    devices::start();
    phase("kernel");

    smp::start_others(allowed_cpus(machine.cpus));
    phase("processors");
    unpack_initramfs(info);
    phase("initramfs");
    if inet::AVAILABLE
        && let Err(error) = inet::start(devices::network::take())
    {
        log::warn!("there is no network: {error}");
    }
    if let Err(error) = init::start() {
        end::unusable(&error);
    }
    interrupts::enable();
    sched::run_idle()
}

/// The idle task never enters from user mode, so its stack's top is not used: any address will do.
fn boot_stack_top() -> platform::VirtAddr {
    let here = 0u64;
    platform::VirtAddr((&raw const here as u64) & !15)
}

/// CPUs to be used: `nosmp` and `maxcpus=` leave some off.
fn allowed_cpus(found: platform::CpuSet) -> platform::CpuSet {
    let line = parameters::command_line();
    let most = match line.number("maxcpus") {
        _ if line.has("nosmp") => 1,
        Ok(Some(most)) => (most as usize).max(1),
        _ => platform::MAX_CPUS,
    };
    found.and(platform::CpuSet::first(most))
}

/// Lets the allocator have memory that was needed for the boot only.
fn give_back(info: &BootInfo, kind: MemoryKind) {
    for region in info.memory.iter().filter(|region| region.kind == kind) {
        if let Err(error) = frames::add(region.range.start.frame(), region.range.end.frame()) {
            log::warn!("memory at {:?} is lost: {error:?}", region.range);
        }
    }
}

/// Fills the root file system. The archive's own memory becomes that of the files where it can, and free otherwise.
fn unpack_initramfs(info: &BootInfo) {
    let Some(range) = info.initramfs else { end::unusable(&"no initramfs was given") };
    for region in info.memory.iter().filter(|region| region.kind == MemoryKind::Initramfs) {
        let (start, end) = (region.range.start.frame(), region.range.end.frame());
        if let Err(error) = frames::adopt(start, end) {
            log::warn!("the initramfs's memory is lost: {error:?}");
            return;
        }
    }
    // SAFETY: the platform says that the archive lies there, in RAM that the direct map shows; it is held until below.
    let image = unsafe {
        core::slice::from_raw_parts(mm::direct(range.start).as_ptr::<u8>(), range.bytes() as usize)
    };
    let result = fs::initramfs::unpack(image);
    for region in info.memory.iter().filter(|region| region.kind == MemoryKind::Initramfs) {
        let frames_in = region.range.start.0 / PAGE_SIZE..region.range.end.0 / PAGE_SIZE;
        frames_in.map(PhysFrame).for_each(frames::put);
    }
    if let Err(error) = result {
        end::unusable(&error);
    }
    fs::tree::limit_root();
}
