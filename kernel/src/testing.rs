//! Running tests of the kernel's policy as tasks of the kernel, on the simulated machine.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use platform::{
    BootInfo, CpuId, End, Exception, Interrupt, Kernel, PhysFrame, SecondaryStart, TrapFrame, VirtAddr,
};

use crate::boot::start::{KERNEL_PROCESS, kernel_process};
use crate::hook::{self, cpu};
use crate::mm::{self, KernelStack, frames};
use crate::process::process::NewProcess;
use crate::process::{Credentials, Limits, Pid, Process, Task};
use crate::sched;
use crate::signal::SignalActions;
use crate::trap::Upcalls;
use crate::{fs, percpu, time};

/// The kernel with another boot: it runs the test's body as its only task.
struct TestKernel;

type Body = fn();

static BODY: Mutex<Option<Body>> = Mutex::new(None);
static STACK: AtomicU64 = AtomicU64::new(0);

/// The process that the tasks of a test belong to.
pub fn process() -> Arc<Process> {
    kernel_process()
}

/// A process with no thread.
pub fn new_process(pid: Pid) -> Arc<Process> {
    Process::new(NewProcess {
        pid,
        files: fs::FileTable::empty(),
        fs: fs::FsContext::initial(),
        actions: SignalActions::new(),
        space: None,
        credentials: Arc::new(Credentials::root()),
        limits: Limits::initial(),
        exit_signal: 0,
    })
}

/// Runs `body` as a task of the kernel on `machine`. `name` is the test's full name, as the test harness prints it.
/// The machine is off when the body returns, and the test fails if it does not.
#[track_caller]
pub fn run(name: &str, machine: impl FnOnce() -> sim::Machine, body: Body) {
    sim::in_fresh_process(name, || {
        outcome(machine(), body).expect(End::PowerOff);
    });
}

/// Runs `body` as a task of the kernel on `machine`, which is the only one of this process.
pub fn outcome(machine: sim::Machine, body: Body) -> sim::Outcome {
    *BODY.lock().unwrap() = Some(body);
    machine.run::<TestKernel>()
}

/// Takes the process numbers from 1 to `last`, for processes and threads of the test's own.
pub fn take_numbers(last: i32) {
    while Pid::allocate().expect("there are numbers") < Pid(last) {}
}

/// Starts a task of the kernel's that runs `body` and ends.
pub fn spawn(body: Body) -> Arc<Task> {
    spawn_in(process(), Pid(0), body)
}

/// As [`spawn`], as a thread of `process` with the number `tid`.
pub fn spawn_in(process: Arc<Process>, tid: Pid, body: Body) -> Arc<Task> {
    let task =
        Task::kernel(tid, process.clone(), "test", run_body, body as usize).expect("no memory for a task");
    if tid != Pid(0) {
        process.threads.lock().push(task.clone());
        process.live_threads.fetch_add(1, Ordering::Relaxed);
    }
    sched::enqueue_new(&task);
    task
}

extern "C" fn run_body(body: usize) -> ! {
    cpu::irq_enable();
    // SAFETY: `spawn` passed a function of this type.
    let body = unsafe { core::mem::transmute::<usize, Body>(body) };
    body();
    cpu::irq_disable();
    sched::exit_current()
}

fn run_test() {
    let body = BODY.lock().unwrap().take().expect("there is one body");
    body();
    hook::power::end(End::PowerOff)
}

fn here() -> VirtAddr {
    let here = 0u64;
    VirtAddr((&raw const here as u64) & !15)
}

impl Kernel for TestKernel {
    fn boot(info: &'static BootInfo) -> ! {
        hook::install();
        percpu::init_boot_cpu();
        mm::set_direct_map(info.direct_map);
        mm::user::set_user_top(info.user_top);
        mm::set_kernel_window(info.kernel_window.0, info.kernel_window.1);
        frames::init(info).expect("memory can be managed");
        let machine = hook::boot::discover().expect("the machine is usable");
        time::init();
        fs::init();
        let process = KERNEL_PROCESS.call_once(|| new_process(Pid(0)));
        sched::install_idle_task(Task::idle(process.clone(), KernelStack::borrowed(here())));
        for other in machine.cpus.without(CpuId(0)).iter() {
            let stack = KernelStack::allocate().expect("no memory for a stack");
            STACK.store(stack.top().0, Ordering::Release);
            let start = SecondaryStart { local: percpu::create(other), stack: stack.top() };
            core::mem::forget(stack);
            hook::smp::start(other, start).expect("the CPU starts");
            while !percpu::online().contains(other) {
                core::hint::spin_loop();
            }
        }
        spawn(run_test);
        cpu::irq_enable();
        sched::run_idle()
    }

    fn secondary(cpu: CpuId) -> ! {
        let stack = KernelStack::borrowed(VirtAddr(STACK.load(Ordering::Acquire)));
        sched::install_idle_task(Task::idle(process(), stack));
        percpu::set_online(cpu);
        hook::cpu::irq_enable();
        sched::run_idle()
    }

    fn system_call(frame: &mut TrapFrame) {
        Upcalls::system_call(frame);
    }

    fn exception(exception: Exception, frame: &mut TrapFrame) {
        Upcalls::exception(exception, frame);
    }

    fn interrupt(interrupt: Interrupt, frame: &mut TrapFrame) {
        Upcalls::interrupt(interrupt, frame);
    }

    fn allocate_table_frame() -> Option<PhysFrame> {
        Upcalls::allocate_table_frame()
    }

    fn free_table_frame(frame: PhysFrame) {
        Upcalls::free_table_frame(frame);
    }
}
