//! From the platform's first call to the end of the machine.

use platform::{
    BootInfo, CpuId, CpuSet, End, Exception, ImageNote, Interrupt, Kernel, PhysFrame, Platform, TrapFrame,
};

use crate::hook::{self, Backend, power};
use crate::report::{self, say};
use crate::{cases, costs, cpus, events, memory, probe, user};

/// This kernel, as the platform sees it.
pub struct Upcalls;

hook::backend::boot_entry!(hook::Upcalls);

/// What this image says of itself.
#[used]
#[unsafe(link_section = ".note.monoguest")]
static NOTE: ImageNote = ImageNote::new(<Backend as Platform>::NAME);

impl Kernel for Upcalls {
    fn boot(info: &'static BootInfo) -> ! {
        hook::install();
        let patched = hook::patch(info);
        cpus::init_boot_cpu();
        memory::init(info);
        report::init_log();
        say!("conformance on {}", <Backend as Platform>::NAME);
        if let Some(patched) = patched {
            say!("{patched}");
            assert!(patched.is_complete(), "hook call sites were not patched");
        }
        let machine = match hook::boot::discover() {
            Ok(machine) => machine,
            Err(unusable) => report::unusable(unusable.0),
        };
        say!("{} CPUs, {}", machine.cpus.count(), machine.description);
        hook::cpu::irq_enable();
        start_others(machine.cpus);
        let failed = if info.command_line.split(|&byte| byte == b' ').any(|word| word == b"costs") {
            costs::run();
            false
        } else {
            run(info.command_line)
        };
        cpus::stop_others();
        power::report(if failed { b"exit 1" } else { b"exit 0" });
        power::end(End::Exit(u8::from(failed)))
    }

    fn secondary(cpu: CpuId) -> ! {
        cpus::work(cpu)
    }

    fn system_call(frame: &mut TrapFrame) {
        user::on_system_call(frame);
    }

    fn exception(exception: Exception, frame: &mut TrapFrame) {
        if frame.is_user() {
            user::on_exception(exception, frame);
        } else if !probe::expected(exception, frame) {
            panic!("{exception:?} in the kernel at {:#x}\n{frame:#x?}", frame.rip);
        }
    }

    fn interrupt(interrupt: Interrupt, frame: &mut TrapFrame) {
        events::on_interrupt(interrupt, frame);
    }

    fn allocate_table_frame() -> Option<PhysFrame> {
        memory::allocate_table()
    }

    fn free_table_frame(frame: PhysFrame) {
        memory::free_table(frame);
    }
}

#[cfg(not(feature = "planted"))]
fn run(command_line: &[u8]) -> bool {
    cases::run(command_line)
}

/// On the backend as it is, and then with the planted violation, which is what counts.
#[cfg(feature = "planted")]
fn run(command_line: &[u8]) -> bool {
    cases::run(command_line);
    crate::planted::plant(command_line);
    cases::run(command_line)
}

fn start_others(found: CpuSet) {
    for cpu in found.without(CpuId(0)).iter() {
        if let Err(error) = cpus::start(cpu) {
            panic!("CPU {} did not start: {error:?}", cpu.0);
        }
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    cpus::stop_others();
    report::panicked(info)
}
