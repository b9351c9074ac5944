//! User mode.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::{COUNT, Cpu, Paging, SCRIPT, Script, Timer, idle, run, say, start, take_frame};
use platform::{
    Access, CpuId, CpuSet, End, Exception, ExtendedState, FrameBatch, Interrupt, Message, Nanoseconds,
    PageRange, Protection, Root, TrapFrame, UserBases, VirtAddr,
};
use sim::{FailureKind, Machine, in_fresh_process, user};

const CODE: u64 = 0x40_0000;
const HANDLER: u64 = 0x40_0800;
const DATA: VirtAddr = VirtAddr(0x60_0000);
static ROOT: AtomicU64 = AtomicU64::new(0);
static KEPT: Mutex<Option<TrapFrame>> = Mutex::new(None);

fn root() -> Root {
    Root(ROOT.load(SeqCst))
}

/// Makes a space with a page of code and enters it.
fn enter() {
    let root = Paging::new_root().unwrap();
    ROOT.store(root.0, SeqCst);
    Paging::map(root, VirtAddr(CODE), &[take_frame()], Protection::READ | Protection::EXECUTE).unwrap();
    Paging::activate(root);
    Cpu::enter_user(&TrapFrame::user(CODE, 0x70_0000));
}

/// System calls: 1 adds its arguments, 60 ends the machine.
fn system_call(frame: &mut TrapFrame) {
    assert!(frame.is_user() && frame.interrupts_enabled());
    match frame.rax {
        1 => frame.rax = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9].iter().sum(),
        60 => common::Power::end(End::Exit(frame.rdi as u8)),
        other => panic!("system call {other}"),
    }
}

const USER: Script = Script { boot: enter, system_call, ..SCRIPT };

fn exit(status: u64) -> ! {
    user::last_call(60, [status, 0, 0, 0, 0, 0])
}

#[test]
fn system_calls_go_in_and_out() {
    in_fresh_process("system_calls_go_in_and_out", || {
        let machine = Machine::new().program(CODE, |start| {
            assert_eq!((start.rip, start.rsp), (CODE, 0x70_0000));
            for n in 0..1000 {
                assert_eq!(user::system_call(1, [n, 1, 2, 3, 4, 5]), n + 15);
            }
            exit(user::system_call(1, [1, 2, 3, 4, 5, 6]));
        });
        run(machine, USER).expect(End::Exit(21));
    });
}

#[test]
fn the_kernel_runs_on_its_own_stack() {
    in_fresh_process("the_kernel_runs_on_its_own_stack", || {
        let machine = Machine::new().program(CODE, |_| exit(0));
        let script = Script {
            system_call: |frame| {
                let local: *const platform::CpuLocal;
                // SAFETY: on a CPU, GS:0 is the address of its private data.
                unsafe { std::arch::asm!("mov {}, gs:[0]", out(reg) local) };
                // SAFETY: as above.
                let top = unsafe { (*local).kernel_stack.0 };
                let here = frame as *const TrapFrame as u64;
                assert!(here < top && top - here < 4096, "{here:#x} is not near {top:#x}");
                system_call(frame);
            },
            ..USER
        };
        run(machine, script).expect(End::Exit(0));
    });
}

#[test]
fn a_fault_is_repaired_and_tried_again() {
    in_fresh_process("a_fault_is_repaired_and_tried_again", || {
        let machine = Machine::new().program(CODE, |_| {
            user::write(DATA + 4094, b"over the border");
            let mut back = [0; 15];
            user::read(DATA + 4094, &mut back);
            assert_eq!(&back, b"over the border");
            user::word(DATA + 8, |word| word.store(5, SeqCst));
            exit(u64::from(user::word(DATA + 8, |word| word.fetch_add(1, SeqCst))));
        });
        let script = Script {
            exception: |exception, _| {
                let Exception::PageFault { address, access } = exception else { panic!("{exception:?}") };
                assert_eq!(access, Access::USER | Access::WRITE);
                COUNT.fetch_add(1, SeqCst);
                let rights = Protection::READ | Protection::WRITE;
                Paging::map(root(), address.page(), &[take_frame()], rights).unwrap();
            },
            ..USER
        };
        run(machine, script).expect(End::Exit(5));
        assert_eq!(COUNT.load(SeqCst), 2, "one fault a page");
    });
}

#[test]
fn an_address_without_code_faults() {
    in_fresh_process("an_address_without_code_faults", || {
        let script = Script {
            boot: || {
                Paging::activate(Paging::new_root().unwrap());
                Cpu::enter_user(&TrapFrame::user(0x1234, 0));
            },
            exception: |exception, frame| {
                say(format_args!("{exception:?} at {:#x}", frame.rip));
                common::Power::end(End::Panic);
            },
            ..USER
        };
        let outcome = run(Machine::new(), script);
        outcome.expect(End::Panic);
        assert!(outcome.reports[0].contains("PageFault") && outcome.reports[0].ends_with("at 0x1234"));
    });
}

#[test]
fn a_handler_interrupts_a_call_that_goes_on_or_is_made_again() {
    in_fresh_process("a_handler_interrupts_a_call_that_goes_on_or_is_made_again", || {
        // Call 100 runs the handler and then returns 7; call 101 runs it and is then made again, as call 1.
        let machine = Machine::new()
            .program(CODE, |_| {
                assert_eq!(user::system_call(100, [0; 6]), 7);
                assert_eq!(user::system_call(101, [3, 0, 0, 0, 0, 0]), 3);
                exit(COUNT.load(SeqCst));
            })
            .program(HANDLER, |start| {
                assert_eq!(start.rdi, 10, "the signal");
                COUNT.fetch_add(1, SeqCst);
                user::last_call(15, [0; 6]);
            });
        let script = Script {
            system_call: |frame| match frame.rax {
                15 => *frame = KEPT.lock().unwrap().take().unwrap(),
                number @ (100 | 101) => {
                    let mut kept = *frame;
                    kept.rax = 7;
                    if number == 101 {
                        (kept.rax, kept.rip) = (1, frame.rip - 2);
                    }
                    assert!(KEPT.lock().unwrap().replace(kept).is_none());
                    (frame.rip, frame.rdi) = (HANDLER, 10);
                }
                _ => system_call(frame),
            },
            ..USER
        };
        run(machine, script).expect(End::Exit(2));
    });
}

#[test]
fn a_fork_comes_back_twice() {
    in_fresh_process("a_fork_comes_back_twice", || {
        // Call 57 keeps the parent and lets the child go on; the child's call 61 lets the parent go on.
        let machine = Machine::new().program(CODE, |_| {
            let stack = 55;
            let result = user::fork_call(57, [0; 6], |start| {
                assert_eq!((start.rax, start.rsp), (0, 0x70_0000));
                COUNT.fetch_add(1, SeqCst);
                user::last_call(61, [0; 6]);
            });
            assert_eq!(result, 1234);
            exit(stack + COUNT.load(SeqCst));
        });
        let script = Script {
            system_call: |frame| match frame.rax {
                57 => {
                    let mut parent = *frame;
                    parent.rax = 1234;
                    *KEPT.lock().unwrap() = Some(parent);
                    frame.rax = 0;
                }
                61 => {
                    let parent = KEPT.lock().unwrap().take().unwrap();
                    Cpu::enter_user(&parent);
                }
                _ => system_call(frame),
            },
            ..USER
        };
        run(machine, script).expect(End::Exit(56));
    });
}

#[test]
fn a_call_returns_once() {
    in_fresh_process("a_call_returns_once", || {
        let machine = Machine::new().program(CODE, |_| {
            user::system_call(100, [0; 6]);
            user::system_call(100, [0; 6]);
        });
        let script = Script {
            system_call: |frame| {
                let kept = *KEPT.lock().unwrap().get_or_insert(*frame);
                Cpu::enter_user(&kept);
            },
            ..USER
        };
        let outcome = run(machine, script);
        assert!(outcome.expect_failure(FailureKind::Violation).contains("has returned"));
    });
}

#[test]
fn work_takes_time_and_is_interrupted() {
    in_fresh_process("work_takes_time_and_is_interrupted", || {
        let machine = Machine::new().program(CODE, |_| {
            sim::run_for(Nanoseconds(100));
            exit(0);
        });
        let script = Script {
            boot: || {
                Timer::arm(Nanoseconds(30));
                enter();
            },
            frame_interrupt: Some(|interrupt, frame| {
                assert_eq!(interrupt, Interrupt::Timer);
                assert!(frame.is_user());
                say(sim::now().0);
                // The kernel's own time does not count as the program's.
                sim::run_for(Nanoseconds(5));
                Timer::arm(sim::now() + Nanoseconds(40));
            }),
            ..USER
        };
        let outcome = run(machine, script);
        outcome.expect(End::Exit(0));
        assert_eq!(outcome.reports, ["30", "75"]);
        assert_eq!(outcome.time, Nanoseconds(110));
    });
}

#[test]
fn a_program_moves_to_another_cpu() {
    in_fresh_process("a_program_moves_to_another_cpu", || {
        let machine = Machine::new().cpus(2).program(CODE, |_| {
            assert_eq!(user::cpu(), CpuId(0));
            user::set_fs_base(0x1000);
            user::set_vector(99);
            assert_eq!(user::system_call(100, [0; 6]), 8);
            assert_eq!(user::cpu(), CpuId(1));
            assert_eq!((user::fs_base(), user::vector()), (0x1000, 99));
            exit(3);
        });
        static AREA: Mutex<Option<(u64, UserBases)>> = Mutex::new(None);
        let script = Script {
            boot: || {
                start(1).unwrap();
                enter();
            },
            secondary: |_| {
                Cpu::wait_for_interrupt();
                Cpu::irq_disable();
                let (area, bases) = AREA.lock().unwrap().take().unwrap();
                Cpu::set_user_bases(bases);
                // SAFETY: CPU 0 saved the state there.
                assert!(unsafe { Cpu::restore_extended(ExtendedState(VirtAddr(area))) });
                Paging::activate(root());
                let mut frame = KEPT.lock().unwrap().take().unwrap();
                frame.rax = 8;
                Cpu::enter_user(&frame);
            },
            system_call: |frame| match frame.rax {
                100 => {
                    *KEPT.lock().unwrap() = Some(*frame);
                    let area = common::stack().0 - 4096;
                    let area = area & !63;
                    assert!(Cpu::extended_state_bytes() <= 4096);
                    // SAFETY: the lower end of 256 KiB that nobody else uses.
                    unsafe { Cpu::save_extended(ExtendedState(VirtAddr(area))) };
                    *AREA.lock().unwrap() = Some((area, Cpu::user_bases()));
                    common::Smp::send(CpuSet::one(CpuId(1)), Message::Reschedule);
                    idle();
                }
                _ => system_call(frame),
            },
            interrupt: |_| (),
            ..USER
        };
        run(machine, script).expect(End::Exit(3));
    });
}

#[test]
fn the_kernel_reaches_user_memory() {
    in_fresh_process("the_kernel_reaches_user_memory", || {
        // Call 100 reads a word at its argument; a fault outside the data page makes it fail.
        let machine = Machine::new().program(CODE, |_| {
            user::word(DATA, |word| word.store(77, SeqCst));
            assert_eq!(user::system_call(100, [DATA.0, 0, 0, 0, 0, 0]), 77);
            assert_eq!(user::system_call(100, [0x10, 0, 0, 0, 0, 0]), u64::MAX);
            exit(0);
        });
        let script = Script {
            system_call: |frame| match frame.rax {
                100 => {
                    Cpu::user_access_begin();
                    let at = sim::kernel_access(VirtAddr(frame.rdi), false);
                    Cpu::user_access_end();
                    // SAFETY: the address is that of RAM in the direct map.
                    frame.rax = at.map_or(u64::MAX, |at| u64::from(unsafe { at.as_ptr::<u32>().read() }));
                }
                _ => system_call(frame),
            },
            exception: |exception, frame| {
                let Exception::PageFault { address, .. } = exception else { panic!("{exception:?}") };
                if address.page() == DATA {
                    let rights = Protection::READ | Protection::WRITE;
                    Paging::map(root(), DATA, &[take_frame()], rights).unwrap();
                } else {
                    assert!(!frame.is_user());
                    frame.rip = 1;
                }
            },
            ..USER
        };
        run(machine, script).expect(End::Exit(0));
    });
}

#[test]
fn a_cpu_must_not_go_on_without_its_own_flush() {
    in_fresh_process("a_cpu_must_not_go_on_without_its_own_flush", || {
        let machine = Machine::new().program(CODE, |_| {
            user::touch(DATA, Access::empty());
            user::system_call(100, [0; 6]);
            user::touch(DATA, Access::empty());
        });
        let script = Script {
            boot: || {
                let root = Paging::new_root().unwrap();
                ROOT.store(root.0, SeqCst);
                let code = Protection::READ | Protection::EXECUTE;
                Paging::map(root, VirtAddr(CODE), &[take_frame()], code).unwrap();
                Paging::map(root, DATA, &[take_frame()], Protection::READ).unwrap();
                Paging::activate(root);
                Cpu::enter_user(&TrapFrame::user(CODE, 0));
            },
            system_call: |_| {
                Paging::unmap(root(), PageRange::page(DATA), &mut FrameBatch::new());
            },
            ..USER
        };
        let outcome = run(machine, script);
        assert!(outcome.expect_failure(FailureKind::Violation).contains("did not flush it"));
    });
}

#[test]
fn thousands_of_programs_come_and_go() {
    in_fresh_process("thousands_of_programs_come_and_go", || {
        let machine = Machine::new().program(CODE, |_| {
            for n in 0..20_000 {
                let result = user::fork_call(57, [0; 6], |_| user::last_call(61, [0; 6]));
                assert_eq!(result, n + 1);
            }
            exit(9);
        });
        let script = Script {
            system_call: |frame| match frame.rax {
                57 => {
                    let mut parent = *frame;
                    parent.rax = COUNT.fetch_add(1, SeqCst) + 1;
                    *KEPT.lock().unwrap() = Some(parent);
                    frame.rax = 0;
                }
                61 => *frame = KEPT.lock().unwrap().take().unwrap(),
                _ => system_call(frame),
            },
            ..USER
        };
        run(machine, script).expect(End::Exit(9));
    });
}
