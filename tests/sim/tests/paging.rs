//! Translations, and what CPUs remember of them.

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::{
    Cpu, EXHAUSTED, Paging, SCRIPT, Script, free_frames, give_frame, host, info, run, start, take_frame,
};
use platform::{
    Access, CacheMode, CpuId, CpuSet, End, ForkMode, FrameBatch, Mapping, MemoryKind, OutOfFrames, PAGE_SIZE,
    PageRange, Protection, Root, VirtAddr,
};
use sim::{AccessError, FailureKind, Machine, access, in_fresh_process};

const PAGE: VirtAddr = VirtAddr(0x40_0000);
const READ: Protection = Protection::READ;
const USER_READ: Protection = Protection::READ.union(Protection::USER);
const BOOT_CPU: CpuId = CpuId(0);

fn read_write() -> Protection {
    Protection::READ | Protection::WRITE
}

fn pages(count: u64) -> PageRange {
    PageRange::new(PAGE, PAGE + count * PAGE_SIZE)
}

fn fails(boot: fn(), kind: FailureKind, expected: &str) {
    let outcome = run(Machine::new(), Script { boot, ..SCRIPT });
    let message = outcome.expect_failure(kind);
    assert!(message.contains(expected), "{message}");
}

fn unmap_all(root: Root, range: PageRange) {
    let mut taken = FrameBatch::new();
    assert_eq!(Paging::unmap(root, range, &mut taken), range.end);
    Paging::flush(root, range, CpuSet::one(BOOT_CPU));
    taken.frames().iter().for_each(|frame| give_frame(*frame));
}

#[test]
fn a_space_gives_back_every_frame() {
    in_fresh_process("a_space_gives_back_every_frame", || {
        let outcome = run(
            Machine::new(),
            Script {
                boot: || {
                    let before = free_frames();
                    let root = Paging::new_root().unwrap();
                    let frames: Vec<_> = (0..64).map(|_| take_frame()).collect();
                    assert_eq!(Paging::map(root, PAGE, &frames, read_write()), Ok(u64::MAX));
                    assert_eq!(Paging::map(root, PAGE, &frames[..2], READ), Ok(0), "mapped pages stay");
                    assert_eq!(before - free_frames(), 64 + 4, "four levels");
                    let mapping = Mapping { frame: frames[3], protection: read_write() | Protection::USER };
                    assert_eq!(Paging::query(root, PAGE + 3 * PAGE_SIZE), Some(mapping));
                    assert_eq!(Paging::query(root, PAGE + 64 * PAGE_SIZE), None);

                    let child = Paging::new_root().unwrap();
                    let mut shared = FrameBatch::new();
                    let done =
                        Paging::fork(root, child, pages(64), ForkMode::CopyOnWrite, &mut shared).unwrap();
                    assert_eq!((shared.frames(), done), (frames.as_slice(), PAGE + 64 * PAGE_SIZE));
                    let mapping = Mapping { frame: frames[3], protection: USER_READ };
                    assert_eq!(Paging::query(child, PAGE + 3 * PAGE_SIZE), Some(mapping));
                    assert_eq!(Paging::query(root, PAGE + 3 * PAGE_SIZE), Some(mapping));

                    let mut taken = FrameBatch::new();
                    assert_eq!(Paging::unmap(child, pages(65), &mut taken), PAGE + 64 * PAGE_SIZE);
                    unmap_all(root, pages(64));
                    // SAFETY: neither is active, and the tokens are not used again.
                    unsafe {
                        Paging::drop_root(root);
                        Paging::drop_root(child);
                    }
                    assert_eq!(free_frames(), before);
                },
                ..SCRIPT
            },
        );
        assert!(outcome.expect(End::PowerOff).unflushed.is_empty());
    });
}

#[test]
fn a_batch_that_is_full_stops_a_hook() {
    in_fresh_process("a_batch_that_is_full_stops_a_hook", || {
        run(
            Machine::new(),
            Script {
                boot: || {
                    let root = Paging::new_root().unwrap();
                    for n in 0..65 {
                        Paging::map(root, PAGE + n * PAGE_SIZE, &[take_frame()], READ).unwrap();
                    }
                    let mut taken = FrameBatch::new();
                    assert_eq!(Paging::unmap(root, pages(100), &mut taken), PAGE + 64 * PAGE_SIZE);
                    assert!(taken.is_full());
                    assert!(Paging::query(root, PAGE + 64 * PAGE_SIZE).is_some());
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
    });
}

#[test]
fn running_out_of_table_frames_is_an_error() {
    in_fresh_process("running_out_of_table_frames_is_an_error", || {
        run(
            Machine::new(),
            Script {
                boot: || {
                    let root = Paging::new_root().unwrap();
                    EXHAUSTED.store(true, SeqCst);
                    assert_eq!(Paging::new_root(), Err(OutOfFrames));
                    assert_eq!(Paging::map(root, PAGE, &[take_frame()], READ), Err(OutOfFrames));
                    assert_eq!(Paging::query(root, PAGE), None);
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
    });
}

#[test]
fn rights_are_enforced_and_protect_never_adds_write() {
    in_fresh_process("rights_are_enforced_and_protect_never_adds_write", || {
        run(
            Machine::new(),
            Script {
                boot: || {
                    let root = Paging::new_root().unwrap();
                    Paging::map(root, PAGE, &[take_frame()], READ).unwrap();
                    let user = |wanted| match access(BOOT_CPU, PAGE, Access::USER | wanted) {
                        Ok(_) => Access::empty(),
                        Err(AccessError::Fault(code)) => code,
                        Err(other) => panic!("{other:?}"),
                    };
                    assert_eq!(user(Access::empty()), Access::USER, "not active yet");
                    Paging::activate(root);
                    assert_eq!(user(Access::empty()), Access::empty());
                    let present = Access::USER | Access::PRESENT;
                    assert_eq!(user(Access::WRITE), present | Access::WRITE);
                    assert_eq!(user(Access::EXECUTE), present | Access::EXECUTE);
                    Paging::protect(root, pages(1), Protection::all());
                    assert_eq!(user(Access::EXECUTE), Access::empty());
                    assert_eq!(user(Access::WRITE), present | Access::WRITE);
                    Paging::protect(root, pages(1), Protection::empty());
                    Paging::flush(root, pages(1), CpuSet::one(BOOT_CPU));
                    assert_eq!(user(Access::empty()), present);
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
    });
}

static CHANGED: AtomicBool = AtomicBool::new(false);

#[test]
fn a_forgotten_flush_shows() {
    in_fresh_process("a_forgotten_flush_shows", || {
        let outcome = run(
            Machine::new(),
            Script {
                boot: || {
                    let root = Paging::new_root().unwrap();
                    let frame = take_frame();
                    Paging::map(root, PAGE, &[frame], read_write()).unwrap();
                    Paging::activate(root);
                    let reached = access(BOOT_CPU, PAGE + 5, Access::USER | Access::WRITE).unwrap();
                    assert_eq!(reached.as_mut_ptr(), host(frame).wrapping_add(5));

                    Paging::unmap(root, pages(1), &mut FrameBatch::new());
                    let stale = sim::may_still_reach(frame).expect("not flushed yet");
                    assert_eq!((stale.page, stale.cpus), (PAGE, CpuSet::one(BOOT_CPU)));
                    let error = access(BOOT_CPU, PAGE, Access::USER).unwrap_err();
                    assert!(
                        matches!(&error, AccessError::Stale { stale, .. } if stale.was.frame == frame),
                        "{error:?}"
                    );
                    Paging::flush(root, pages(1), CpuSet::one(BOOT_CPU));
                    assert!(sim::may_still_reach(frame).is_none());
                    let error = access(BOOT_CPU, PAGE, Access::USER).unwrap_err();
                    assert!(matches!(error, AccessError::Fault(Access::USER)), "{error:?}");

                    // Once more, left to the end.
                    Paging::map(root, PAGE, &[frame], read_write()).unwrap();
                    Paging::replace(root, PAGE, frame, READ);
                },
                ..SCRIPT
            },
        );
        outcome.expect(End::PowerOff);
        assert_eq!(outcome.unflushed.len(), 1, "{:?}", outcome.unflushed);
    });
}

#[test]
fn activating_another_space_forgets_the_former() {
    in_fresh_process("activating_another_space_forgets_the_former", || {
        let outcome = run(
            Machine::new(),
            Script {
                boot: || {
                    let root = Paging::new_root().unwrap();
                    Paging::map(root, PAGE, &[take_frame()], READ).unwrap();
                    Paging::activate(root);
                    access(BOOT_CPU, PAGE, Access::USER).unwrap();
                    let mut taken = FrameBatch::new();
                    Paging::unmap(root, pages(1), &mut taken);
                    Paging::activate_kernel();
                    assert!(sim::may_still_reach(taken.frames()[0]).is_none());
                    // SAFETY: it is not active, and the token is not used again.
                    unsafe { Paging::drop_root(root) };
                },
                ..SCRIPT
            },
        );
        assert!(outcome.expect(End::PowerOff).unflushed.is_empty());
    });
}

#[test]
fn a_table_frame_must_not_be_reachable() {
    in_fresh_process("a_table_frame_must_not_be_reachable", || {
        fails(
            || {
                let root = Paging::new_root().unwrap();
                let frame = take_frame();
                Paging::map(root, PAGE, &[frame], READ).unwrap();
                Paging::activate(root);
                Paging::unmap(root, pages(1), &mut FrameBatch::new());
                give_frame(frame);
                let _ = Paging::new_root();
            },
            FailureKind::Violation,
            "may still be reached",
        );
    });
}

#[test]
fn a_space_with_pages_must_not_be_dropped() {
    in_fresh_process("a_space_with_pages_must_not_be_dropped", || {
        fails(
            || {
                let root = Paging::new_root().unwrap();
                Paging::map(root, PAGE, &[take_frame()], READ).unwrap();
                // SAFETY: it is not active, and the token is not used again.
                unsafe { Paging::drop_root(root) };
            },
            FailureKind::Violation,
            "still maps",
        );
    });
}

#[test]
fn flushing_others_wants_interrupts_enabled() {
    in_fresh_process("flushing_others_wants_interrupts_enabled", || {
        let outcome = run(
            Machine::new().cpus(2),
            Script {
                boot: || {
                    start(1).unwrap();
                    let root = Paging::new_root().unwrap();
                    Paging::flush(root, pages(1), CpuSet::first(2));
                },
                ..SCRIPT
            },
        );
        assert!(outcome.expect_failure(FailureKind::Violation).contains("with interrupts disabled"));
    });
}

#[test]
fn a_flush_waits_until_others_could_hear_it() {
    in_fresh_process("a_flush_waits_until_others_could_hear_it", || {
        let outcome = run(
            Machine::new().cpus(2),
            Script {
                boot: || {
                    start(1).unwrap();
                    let root = Paging::new_root().unwrap();
                    Cpu::irq_enable();
                    Paging::flush(root, pages(1), CpuSet::first(2));
                    assert!(CHANGED.load(SeqCst), "CPU 1 had interrupts disabled until then");
                },
                secondary: |_| {
                    for _ in 0..1000 {
                        std::thread::yield_now();
                    }
                    CHANGED.store(true, SeqCst);
                    Cpu::irq_enable();
                    common::idle();
                },
                ..SCRIPT
            },
        );
        outcome.expect(End::PowerOff);
    });
}

#[test]
fn kernel_mappings_are_real() {
    in_fresh_process("kernel_mappings_are_real", || {
        let outcome = run(
            Machine::new(),
            Script {
                boot: || {
                    let page = info().kernel_window.0;
                    let frames = [take_frame(), take_frame()];
                    Paging::map_kernel(page, &frames, read_write(), CacheMode::WriteBack).unwrap();
                    // SAFETY: just mapped; the frames are this kernel's own.
                    unsafe {
                        (page + PAGE_SIZE).as_mut_ptr::<u8>().write_volatile(42);
                        assert_eq!(host(frames[1]).read_volatile(), 42);
                    }
                    let both = PageRange::new(page, page + 2 * PAGE_SIZE);
                    let mut taken = FrameBatch::new();
                    assert_eq!(Paging::unmap_kernel(both, &mut taken), both.end);
                    assert_eq!(taken.frames(), frames);
                    Paging::flush_kernel(both, CpuSet::one(BOOT_CPU));
                    Paging::map_kernel(page, &frames[1..], READ, CacheMode::WriteBack).unwrap();
                    // SAFETY: just mapped again.
                    assert_eq!(unsafe { page.as_ptr::<u8>().read_volatile() }, 42);
                    // SAFETY: the page is not mapped, so the read only faults: that is what is tested.
                    unsafe { (page + PAGE_SIZE).as_ptr::<u8>().read_volatile() };
                },
                ..SCRIPT
            },
        );
        let message = outcome.expect_failure(FailureKind::Crash);
        assert!(message.contains("in the kernel window"), "{message}");
    });
}

#[test]
fn kernel_pages_are_not_mapped_twice() {
    in_fresh_process("kernel_pages_are_not_mapped_twice", || {
        fails(
            || {
                let map = || {
                    Paging::map_kernel(info().kernel_window.0, &[take_frame()], READ, CacheMode::WriteBack)
                };
                map().unwrap();
                map().unwrap();
            },
            FailureKind::Violation,
            "is mapped already",
        );
    });
}

#[test]
fn kernel_pages_are_flushed_before_they_are_mapped_again() {
    in_fresh_process("kernel_pages_are_flushed_before_they_are_mapped_again", || {
        fails(
            || {
                let page = info().kernel_window.0;
                let map = || Paging::map_kernel(page, &[take_frame()], READ, CacheMode::WriteBack);
                map().unwrap();
                Paging::unmap_kernel(PageRange::page(page), &mut FrameBatch::new());
                map().unwrap();
            },
            FailureKind::Violation,
            "was not flushed everywhere",
        );
    });
}

#[test]
fn boot_facts_describe_the_memory() {
    in_fresh_process("boot_facts_describe_the_memory", || {
        run(
            Machine::new()
                .memory(&[(0x1000, 0x80_0000), (0x1_0000_0000, 0x1_0100_0000)])
                .command_line("quiet -- one")
                .initramfs(vec![7; 5000]),
            Script {
                boot: || {
                    let info = info();
                    assert_eq!(info.command_line, b"quiet -- one");
                    let initramfs = info.initramfs.unwrap();
                    assert_eq!(initramfs.bytes(), 5000);
                    let bytes: &[u8] =
                        // SAFETY: the direct map covers the initramfs, which nobody changes.
                        unsafe { std::slice::from_raw_parts(host(initramfs.start.frame()), 5000) };
                    assert!(bytes.iter().all(|byte| *byte == 7));
                    let regions = info.memory;
                    assert!(regions.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
                    let ram = regions.iter().filter(|region| region.kind != MemoryKind::Reserved);
                    assert_eq!(
                        ram.map(|region| region.range.bytes()).sum::<u64>(),
                        0x7f_f000 + 0x100_0000,
                        "above 4 GiB too"
                    );
                    let of = |kind| regions.iter().find(|region| region.kind == kind).unwrap();
                    assert_eq!(of(MemoryKind::Initramfs).range.start, initramfs.start);
                    assert!(info.direct_map >= info.user_top && info.kernel_window.0 >= info.user_top);
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
    });
}
