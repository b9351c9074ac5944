//! Exceptions: which, where, and what of.

use platform::{Access, Exception, PAGE_SIZE, Protection, TrapFrame, VirtAddr};

use super::{Case, case};
use crate::report::{Outcome, ensure};
use crate::space::{self, CODE, DATA, READ_WRITE, Space};
use crate::user::{self, Left};
use crate::{memory, probe, programs};

pub const CASES: &[Case] = &[
    case("exception of user mode is told with its exact address", user_exceptions),
    case("page fault tells address and access", page_faults),
    case("page fault at the last word of a page is that page's", at_the_border),
    case("user mode cannot reach the kernel", kernel_addresses),
    case("address that is not canonical is a protection fault", not_canonical),
    case("single step stops after one instruction", single_step),
    case("fault of the kernel tells address and access", kernel_fault),
];

fn run(code: &[u8], change: impl FnOnce(&mut TrapFrame, &mut Space)) -> (Left, TrapFrame) {
    let mut space = Space::with_program(code);
    let mut frame = space.start();
    change(&mut frame, &mut space);
    space.activate();
    let end = user::run(&frame);
    space::leave();
    end
}

fn user_exceptions() -> Outcome {
    let expectations: [(&[u8], Exception, u64); 4] = [
        // The division is the third instruction, behind two of two bytes.
        (programs::divide(), Exception::DivideError, 4),
        (programs::undefined(), Exception::InvalidOpcode, 0),
        // A trap: the address is that of the next instruction.
        (programs::breakpoint(), Exception::Breakpoint, 1),
        (programs::privileged(), Exception::GeneralProtection(0), 0),
    ];
    for (code, exception, at) in expectations {
        let (left, end) = run(code, |_, _| {});
        ensure!(left == Left::Exception(exception), "expected {exception:?}, got {left:?}");
        ensure!(end.rip == CODE.0 + at, "{exception:?} at {:#x}, not {:#x}", end.rip, CODE.0 + at);
        ensure!(end.is_user() && end.rsp == space::STACK_TOP.0, "{exception:?}: {end:#x?}");
    }
    Ok(())
}

fn expect_fault(
    what: &str,
    (left, end): (Left, TrapFrame),
    at: u64,
    address: u64,
    expected: Access,
) -> Outcome {
    let Left::Exception(Exception::PageFault { address: told, access }) = left else {
        return Err(alloc::format!("{what}: expected a page fault, got {left:?} at {:#x}", end.rip));
    };
    ensure!(told.0 == address, "{what}: the fault at {address:#x} was told as {told:x?}");
    ensure!(access == expected, "{what}: the access was told as {access:?}, not {expected:?}");
    ensure!(end.rip == at, "{what}: the instruction was told at {:#x}, not {at:#x}", end.rip);
    Ok(())
}

fn page_faults() -> Outcome {
    let address = DATA.0 + 0x128;
    let to = |frame: &mut TrapFrame| frame.rdi = address;
    let absent = run(programs::read(), |frame, _| to(frame));
    expect_fault("reading nothing", absent, CODE.0, address, Access::USER)?;
    let absent = run(programs::write(), |frame, _| to(frame));
    expect_fault("writing nothing", absent, CODE.0, address, Access::USER | Access::WRITE)?;
    let read_only = run(programs::write(), |frame, space| {
        to(frame);
        space.map(DATA, Protection::READ);
    });
    let protected = Access::USER | Access::WRITE | Access::PRESENT;
    expect_fault("writing what is read-only", read_only, CODE.0, address, protected)?;
    let forbidden = run(programs::read(), |frame, space| {
        to(frame);
        space.map(DATA, Protection::empty());
    });
    let Left::Exception(Exception::PageFault { address: told, .. }) = forbidden.0 else {
        return Err(alloc::format!("reading what allows nothing: {:?}", forbidden.0));
    };
    ensure!(told.0 == address, "the fault at {address:#x} was told as {told:x?}");
    let jump = run(programs::jump(), |frame, space| {
        to(frame);
        space.map(DATA, READ_WRITE);
    });
    let Left::Exception(Exception::PageFault { address: told, access }) = jump.0 else {
        return Err(alloc::format!("executing data: {:?}", jump.0));
    };
    ensure!(told.0 == address && jump.1.rip == address, "the fetch at {address:#x} was told as {told:x?}");
    ensure!(access.contains(Access::EXECUTE | Access::USER), "the fetch was told as {access:?}");
    Ok(())
}

fn at_the_border() -> Outcome {
    let border = DATA.0 + PAGE_SIZE;
    let map = |_: &mut TrapFrame, space: &mut Space| {
        space.map(DATA, READ_WRITE);
    };
    let inside = run(programs::write(), |frame, space| {
        map(frame, space);
        frame.rdi = border - 8;
    });
    ensure!(inside.0 == Left::SystemCall, "the last word of a page: {:?}", inside.0);
    let outside = run(programs::write(), |frame, space| {
        map(frame, space);
        frame.rdi = border;
    });
    expect_fault("the first word beyond", outside, CODE.0, border, Access::USER | Access::WRITE)?;
    let across = run(programs::write(), |frame, space| {
        map(frame, space);
        frame.rdi = border - 4;
    });
    let Left::Exception(Exception::PageFault { address, .. }) = across.0 else {
        return Err(alloc::format!("a word across the border: {:?}", across.0));
    };
    ensure!(
        (border - 4..border + 4).contains(&address.0),
        "a word across the border faulted at {address:x?}"
    );
    Ok(())
}

fn kernel_addresses() -> Outcome {
    let secret = memory::frame();
    memory::word(secret, 0).store(1, core::sync::atomic::Ordering::Relaxed);
    let of_kernel = [
        memory::direct(secret.start()).0,
        kernel_addresses as *const () as u64,
        core::ptr::from_ref(crate::cpus::this()) as u64,
    ];
    for address in of_kernel {
        for code in [programs::read(), programs::write(), programs::jump()] {
            let (left, _) = run(code, |frame, _| frame.rdi = address);
            let Left::Exception(Exception::PageFault { address: told, access }) = left else {
                return Err(alloc::format!("user mode at {address:#x}: {left:?}"));
            };
            ensure!(told.0 == address && access.contains(Access::USER), "{address:#x}: {left:x?}");
        }
    }
    let kept = memory::word(secret, 0).load(core::sync::atomic::Ordering::Relaxed);
    memory::put(secret);
    ensure!(kept == 1, "user mode wrote to the kernel's memory");
    Ok(())
}

fn not_canonical() -> Outcome {
    for address in [0x0000_8000_0000_0000, 0x1234_0000_0000_0000] {
        let (left, end) = run(programs::read(), |frame, _| frame.rdi = address);
        ensure!(left == Left::Exception(Exception::GeneralProtection(0)), "{address:#x}: {left:?}");
        ensure!(end.rip == CODE.0, "{address:#x}: the instruction was told at {:#x}", end.rip);
    }
    // A context that user mode cannot have is user mode's fault, wherever the machine notices.
    let (left, end) = run(programs::read(), |frame, _| frame.rip = 0x0000_8000_0000_0000);
    ensure!(matches!(left, Left::Exception(Exception::GeneralProtection(_))), "a start nowhere: {left:?}");
    ensure!(end.is_user(), "a start nowhere was told as the kernel's");
    Ok(())
}

fn single_step() -> Outcome {
    const TRAP: u64 = 1 << 8;
    let (left, end) = run(programs::divide(), |frame, _| frame.rflags |= TRAP);
    ensure!(left == Left::Exception(Exception::Debug), "left by {left:?}");
    ensure!(end.rip == CODE.0 + 2, "stopped at {:#x}", end.rip);
    ensure!(end.rflags & TRAP != 0, "the frame lost the trap flag");
    Ok(())
}

fn kernel_fault() -> Outcome {
    let page = memory::kernel_pages(1);
    let address = VirtAddr(page.0 + 0x18);
    let fault = probe::read(address);
    let Err(fault) = fault else { return Err("an unmapped kernel page could be read".into()) };
    ensure!(fault.address == address, "the fault at {address:x?} was told as {:x?}", fault.address);
    ensure!(fault.access == Access::empty(), "the read was told as {:?}", fault.access);
    let Err(fault) = probe::write(address, 1) else {
        return Err("an unmapped kernel page could be written".into());
    };
    ensure!(fault.address == address && fault.access == Access::WRITE, "the write was told as {fault:x?}");
    Ok(())
}
