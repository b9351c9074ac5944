//! A console device on the simulated machine.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use platform::{DeviceId, End, Nanoseconds};
use sim::Machine;
use sim::devices::{Action, Model, configuration_changed, supply};

use crate::errno::Errno;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_NOCTTY, O_NONBLOCK, O_RDWR};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::open_kernel;
use crate::time::{now, sleep_until};
use crate::{testing, tty};

const MS: Nanoseconds = Nanoseconds::MILLISECOND;
const CONSOLE: DeviceId = DeviceId(0);

/// What was printed.
static PRINTED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static BREAKS: Mutex<bool> = Mutex::new(false);

/// A console that takes a millisecond for each piece of output.
struct Console;

impl Model for Console {
    fn kind(&self) -> u32 {
        3
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> u16 {
        2
    }

    fn configuration(&self) -> Vec<u8> {
        Vec::new()
    }

    fn take(&mut self, queue: u16, read: &[u8], _room: usize) -> Action {
        if queue == 0 {
            return Action::Keep;
        }
        if *BREAKS.lock().unwrap() {
            return Action::Break;
        }
        PRINTED.lock().unwrap().extend_from_slice(read);
        Action::Use(MS, Vec::new())
    }
}

#[track_caller]
fn run(name: &str, body: fn()) {
    let name = std::format!("devices::console_tests::{name}");
    sim::in_fresh_process(&name, || {
        testing::outcome(Machine::new().device(Console), body).expect(End::PowerOff);
    });
}

fn start() {
    tty::init();
    super::start();
}

fn open(flags: u32) -> Arc<OpenFile> {
    open_kernel(b"/dev/hvc0", flags | O_NOCTTY).expect("there is a console")
}

fn write(file: &OpenFile, bytes: &[u8]) -> Result<usize, Errno> {
    file.write(&mut IoSrc::kernel(bytes))
}

fn read(file: &OpenFile, most: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = alloc::vec![0; most];
    let moved = file.read(&mut IoDst::kernel(&mut bytes))?;
    bytes.truncate(moved);
    Ok(bytes)
}

fn sleep(time: Nanoseconds) {
    sleep_until(now().saturating_add(time)).expect("no signals");
}

fn printed() -> Vec<u8> {
    PRINTED.lock().unwrap().clone()
}

#[test]
fn the_device_is_left_alone_while_its_terminal_is_not_open() {
    run("the_device_is_left_alone_while_its_terminal_is_not_open", || {
        start();
        for times in 1..=3 {
            assert!(!supply(CONSOLE, 0, b"x"), "the device has a buffer");
            let (one, another) = (open(O_RDWR), open(O_RDWR));
            assert!(supply(CONSOLE, 0, b"x\n"), "the device has no buffer");
            assert_eq!(read(&one, 10), Ok(b"x\n".to_vec()));
            // Longer than the device has room for: what is left of it at the close is printed nevertheless.
            let text = alloc::vec![b'a'; 10_000];
            assert_eq!(write(&one, &text), Ok(text.len()));
            drop(one);
            sleep(Nanoseconds::SECOND);
            assert!(supply(CONSOLE, 0, b"y\n"), "the device was stopped while the terminal was open");
            assert_eq!(read(&another, 10), Ok(b"y\n".to_vec()));
            assert_eq!(write(&another, &text), Ok(text.len()));
            drop(another);
            sleep(Nanoseconds::SECOND);
            assert_eq!(printed().iter().filter(|byte| **byte == b'a').count(), times * 20_000);
        }
        assert!(!supply(CONSOLE, 0, b"x"), "the device was not stopped");
    });
}

#[test]
fn all_output_arrives_in_order_however_slow_the_device() {
    run("all_output_arrives_in_order_however_slow_the_device", || {
        start();
        let text: Vec<u8> = (0..40_000).map(|index| b'a' + (index % 23) as u8).collect();
        assert_eq!(write(&open(O_RDWR), &text), Ok(text.len()));
        sleep(MS);
        assert!(printed() == text, "{} bytes of {}", printed().len(), text.len());
        assert!(now() > Nanoseconds(2 * MS.0), "nobody has waited for the device");
    });
}

#[test]
fn output_without_waiting_ends_where_there_is_no_room() {
    run("output_without_waiting_ends_where_there_is_no_room", || {
        start();
        let file = open(O_RDWR | O_NONBLOCK);
        let text = alloc::vec![b'x'; 40_000];
        let first = write(&file, &text).expect("there is some room");
        assert!(first < text.len());
        assert_eq!(write(&file, &text), Err(Errno::EAGAIN));
        sleep(MS + MS);
        assert!(write(&file, &text).is_ok());
    });
}

#[test]
fn what_is_typed_is_echoed_and_read() {
    run("what_is_typed_is_echoed_and_read", || {
        start();
        let file = open(O_RDWR);
        // More than there are buffers for: each is given back.
        for line in 0..40u8 {
            let text = [b'0' + line % 10, b'a', b'b', b'\r'];
            assert!(supply(CONSOLE, 0, &text), "no buffer for line {line}");
            assert_eq!(read(&file, 100).as_deref(), Ok(&[text[0], b'a', b'b', b'\n'][..]));
        }
        sleep(MS + MS);
        let echoed: Vec<u8> =
            (0..40u8).flat_map(|line| [b'0' + line % 10, b'a', b'b', b'\r', b'\n']).collect();
        assert_eq!(printed().escape_ascii().to_string(), echoed.escape_ascii().to_string());
    });
}

#[test]
fn one_that_breaks_hangs_no_writer() {
    run("one_that_breaks_hangs_no_writer", || {
        start();
        let file = open(O_RDWR);
        assert_eq!(write(&file, b"before"), Ok(6));
        *BREAKS.lock().unwrap() = true;
        let text = alloc::vec![b'x'; 40_000];
        assert_eq!(write(&file, &text), Ok(text.len()));
        sleep(MS);
        configuration_changed(CONSOLE);
        assert_eq!(write(&file, &text), Ok(text.len()));
        assert_eq!(printed(), b"before");
    });
}
