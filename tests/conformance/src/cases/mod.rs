//! The contract's promises, one module a part, and how they are run.

mod clock;
mod cpu;
mod devices;
mod exceptions;
mod interrupts;
mod outside;
mod paging;
mod shootdown;
mod smp;
mod state;
mod timer;

use platform::Nanoseconds;

use crate::hook;
use crate::report::{Outcome, say};
use crate::{cpus, memory};

/// One promise.
pub struct Case {
    name: &'static str,
    run: fn() -> Outcome,
    needs: Needs,
}

/// What a case needs beside one CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// A second CPU.
    TwoCpus,
    /// Somebody at the console, or who watches the host: it runs only when it is named.
    Outside,
}

const fn case(name: &'static str, run: fn() -> Outcome) -> Case {
    Case { name, run, needs: Needs::Nothing }
}

const fn two_cpus(name: &'static str, run: fn() -> Outcome) -> Case {
    Case { name, run, needs: Needs::TwoCpus }
}

const fn outside(name: &'static str, run: fn() -> Outcome) -> Case {
    Case { name, run, needs: Needs::Outside }
}

const ALL: &[&[Case]] = &[
    clock::CASES,
    timer::CASES,
    interrupts::CASES,
    cpu::CASES,
    exceptions::CASES,
    state::CASES,
    paging::CASES,
    smp::CASES,
    shootdown::CASES,
    devices::CASES,
    outside::CASES,
];

/// Whether a name has this text of the command line, where words end at spaces.
fn is_like(name: &[u8], text: &[u8]) -> bool {
    name.len() == text.len()
        && name.iter().zip(text).all(|(name, text)| name == text || (*name == b' ' && *text == b'_'))
}

/// Runs what the command line asks for; whether anything failed.
pub fn run(command_line: &[u8]) -> bool {
    let only = command_line.split(|&byte| byte == b' ').find_map(|word| word.strip_prefix(b"only="));
    let chosen = |case: &Case| match (only, case.needs) {
        (Some(text), _) => case.name.as_bytes().windows(text.len().max(1)).any(|name| is_like(name, text)),
        (None, Needs::Outside) => false,
        (None, Needs::TwoCpus) => cpus::online().count() > 1,
        (None, Needs::Nothing) => true,
    };
    let (mut passed, mut failed) = (0, 0);
    for case in ALL.iter().copied().flatten().filter(|case| chosen(case)) {
        let (tables, start) = (memory::tables(), hook::clock::now());
        let outcome = (case.run)().and_then(|()| {
            let lost = memory::tables().wrapping_sub(tables);
            // Tables of the kernel's windows stay; whoever may grow those says so by its name.
            if lost == 0 || case.name.starts_with("kernel") {
                Ok(())
            } else {
                Err(alloc::format!("{lost} table frames were not given back"))
            }
        });
        match outcome {
            Ok(()) => {
                passed += 1;
                let took = hook::clock::now().saturating_sub(start).0 / Nanoseconds::MILLISECOND.0;
                say!("ok {} ({took} ms)", case.name);
            }
            Err(why) => {
                failed += 1;
                say!("FAILED {}: {why}", case.name);
            }
        }
    }
    say!("conformance: {passed} passed, {failed} failed");
    failed != 0 || passed == 0
}
