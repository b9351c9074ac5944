//! Checks. The first one that does not hold prints the case's `FAIL` line and ends the whole process.

use std::sync::OnceLock;

/// Exit status of a process whose failure has been printed already.
pub const FAILED: i32 = 77;

/// Name of the case this process runs; inherited by what it forks.
pub static CASE: OnceLock<&'static str> = OnceLock::new();

/// Prints `FAIL case: why` in one write and ends the process, with all its threads.
pub fn fail(file: &str, line: u32, why: std::fmt::Arguments<'_>) -> ! {
    let case = CASE.get().copied().unwrap_or("?");
    let why = why.to_string().replace('\n', " ");
    let base = file.rsplit('/').next().unwrap_or(file);
    crate::harness::print(&format!("FAIL {case}: {why} [{base}:{line}]\n"));
    crate::sys::exit_group(FAILED)
}

/// Ends the case as failed, with a formatted reason.
#[macro_export]
macro_rules! fail {
    ($($why:tt)+) => { $crate::check::fail(file!(), line!(), format_args!($($why)+)) };
}

/// The condition must hold.
#[macro_export]
macro_rules! check {
    ($cond:expr $(,)?) => { if !$cond { $crate::fail!("not so: {}", stringify!($cond)) } };
    ($cond:expr, $($why:tt)+) => {
        if !$cond { $crate::fail!("{}", format_args!($($why)+)) }
    };
}

/// Both sides must be equal; prints both if not.
#[macro_export]
macro_rules! eq {
    ($left:expr, $right:expr $(,)?) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    $crate::fail!("{} is {:?}, expected {:?}", stringify!($left), left, right)
                }
            }
        }
    };
}

/// The call must succeed; gives its value.
#[macro_export]
macro_rules! ok {
    ($call:expr $(,)?) => {
        match $call {
            Ok(value) => value,
            Err(error) => $crate::fail!("{}: {:?}", stringify!($call), error),
        }
    };
}

/// The call must fail with one of the named error numbers.
#[macro_export]
macro_rules! err {
    ($call:expr, $($errno:ident)|+ $(,)?) => {
        match $call {
            Err($crate::Errno(number)) if false $(|| number == $crate::libc::$errno)+ => {}
            other => $crate::fail!(
                "{} gave {:?}, expected {}", stringify!($call), other, stringify!($($errno)|+)
            ),
        }
    };
}

/// A raw system call by the name of its number: `call!(SYS_close, fd)`. Gives `Result<usize, Errno>`.
#[macro_export]
macro_rules! call {
    ($nr:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::syscall($crate::libc::$nr, &[$($crate::sys::Arg::arg($arg)),*])
    };
}
