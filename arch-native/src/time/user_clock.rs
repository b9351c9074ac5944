//! The clock for user mode: a page with the counter's origin and scale, and a few instructions that read it.

use platform::UserClock;

/// Nothing runs in user mode on the build machine.
#[cfg(not(target_os = "none"))]
pub fn get() -> Option<UserClock> {
    None
}

#[cfg(target_os = "none")]
mod image {
    use core::arch::global_asm;
    use core::sync::atomic::AtomicU64;

    use platform::PhysFrame;

    use crate::layout::IMAGE_BASE;

    /// What user mode sees; the page holds nothing else.
    #[repr(C, align(4096))]
    pub struct Page {
        pub origin: AtomicU64,
        pub tick: AtomicU64,
        rest: [u64; 510],
    }

    pub static PAGE: Page = Page { origin: AtomicU64::new(0), tick: AtomicU64::new(0), rest: [0; 510] };

    pub fn frame() -> PhysFrame {
        platform::PhysAddr(&raw const PAGE as u64 - IMAGE_BASE.0).frame()
    }

    global_asm!(
        ".pushsection .rodata.native_user_clock, \"a\", @progbits",
        ".globl native_user_clock, native_user_clock_end",
        ".balign 16",
        "native_user_clock:",
        "lfence",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "xor edx, edx",
        "sub rax, [rdi]",
        "cmovb rax, rdx",
        "mul qword ptr [rdi + 8]",
        "shrd rax, rdx, 32",
        "ret",
        "native_user_clock_end:",
        ".popsection",
    );
    unsafe extern "C" {
        static native_user_clock: u8;
        static native_user_clock_end: u8;
    }

    pub fn code() -> &'static [u8] {
        let start = &raw const native_user_clock;
        let bytes = &raw const native_user_clock_end as usize - start as usize;
        // SAFETY: both symbols lie in the image's read-only data, in this order.
        unsafe { core::slice::from_raw_parts(start, bytes) }
    }
}

/// [`platform::Clock::user_clock`]: none before the rate is known, or if the CPUs' counters differ.
#[cfg(target_os = "none")]
pub fn get() -> Option<UserClock> {
    use core::sync::atomic::Ordering::Relaxed;

    use super::tsc;

    let tick = tsc::tick()?;
    if !tsc::is_synchronized() {
        return None;
    }
    image::PAGE.origin.store(tsc::origin(), Relaxed);
    image::PAGE.tick.store(tick.0, Relaxed);
    Some(UserClock { data: image::frame(), code: image::code() })
}
