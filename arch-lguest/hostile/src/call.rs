//! Hypercalls, as a guest makes them.

use core::arch::asm;

use lguest_abi::{BOOT_IMAGE_BASE, Hypercall, LguestData, ShutdownReason};

/// The shared page.
pub static DATA: LguestData = LguestData::new();

/// The guest-physical address of something in the image.
pub fn physical<T: ?Sized>(of: *const T) -> u64 {
    (of.cast::<u8>() as u64).wrapping_sub(BOOT_IMAGE_BASE)
}

/// Any call, whatever it is.
pub fn raw(number: u64, arguments: [u64; 3]) -> u64 {
    let result;
    // SAFETY: the host keeps all registers but these; what it writes to memory is where the arguments say.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") arguments[0], in("rsi") arguments[1],
             in("rdx") arguments[2], lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// A call of the interface.
pub fn call(what: Hypercall, arguments: [u64; 3]) -> u64 {
    raw(what as u64, arguments)
}

/// Prints.
pub fn print(text: &[u8]) {
    call(Hypercall::Notify, [physical(text), text.len() as u64, 0]);
}

/// Prints a line, `text` and a number, in one piece: nothing of another guest's comes between.
pub fn print_line(text: &[u8], mut number: u64) {
    let mut line = [0; 96];
    let end = line.len() - 2;
    line[end..].copy_from_slice(b"\r\n");
    let mut at = end;
    loop {
        at -= 1;
        line[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let start = at - text.len();
    line[start..at].copy_from_slice(text);
    // The buffer is on the stack, which is in the image.
    print(&line[start..]);
}

/// Ends this guest.
pub fn shut_down(reason: ShutdownReason, status: u64) -> ! {
    call(Hypercall::Shutdown, [0, reason as u64, status]);
    never()
}

/// The host is not what it should be: `text` (with a NUL at its end) says why.
pub fn failed(text: &[u8]) -> ! {
    call(Hypercall::Shutdown, [physical(text), ShutdownReason::Panic as u64, 0]);
    never()
}

/// The host does not come back from a shutdown.
fn never() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
