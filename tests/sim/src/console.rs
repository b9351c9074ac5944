//! Captured output and injected input.

use core::marker::PhantomData;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use platform::{Console, IrqLine, Kernel};

use crate::state::{FACTS, discovered, world};

/// The line that the console's input raises, as long as there is some.
pub const INPUT_LINE: IrqLine = IrqLine(4);

static OUTPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A console whose output is kept for [`crate::Outcome::console`] and whose input comes from [`crate::input`].
#[derive(Debug)]
pub struct SimConsole<K>(PhantomData<fn() -> K>);

#[platform::backend]
impl<K: Kernel> Console for SimConsole<K> {
    fn write(bytes: &[u8]) {
        match FACTS.get() {
            None => print!("{}", String::from_utf8_lossy(bytes)),
            Some(facts) => {
                if facts.echo {
                    // A console that nobody reads is no reason to stop the machine.
                    let _ = std::io::stderr().write_all(bytes);
                }
                OUTPUT.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            }
        }
    }

    fn read(buffer: &mut [u8]) -> usize {
        let mut world = world();
        let count = buffer.len().min(world.input.len());
        for (to, from) in buffer.iter_mut().zip(world.input.drain(..count)) {
            *to = from;
        }
        let waiting = !world.input.is_empty();
        if let Some(line) = world.lines.get(INPUT_LINE) {
            line.asserted = waiting;
        }
        world.lines.update();
        count
    }

    fn input_line() -> Option<IrqLine> {
        drop(discovered("Console::input_line"));
        Some(INPUT_LINE)
    }
}

/// What was written so far.
pub fn output() -> String {
    String::from_utf8_lossy(&OUTPUT.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}
