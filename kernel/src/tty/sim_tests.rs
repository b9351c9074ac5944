//! Terminals on the simulated machine, in virtual time.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

use platform::Nanoseconds;
use sim::Machine;

use super::job::Owner;
use super::pty::{MasterFile, Pty, SLAVE_MAJOR};
use super::terminal::{Far, Opened, Tty};
use super::termios::{Control, LocalFlags, Termios};
use crate::errno::{Errno, KResult};
use crate::fs::device::DeviceNumber;
use crate::fs::io::{IoDst, IoSrc};
use crate::process::{Pid, tree};
use crate::signal::{Action, SIGHUP, SIGINT};
use crate::time::{now, sleep_until};
use crate::{testing, tty};

const MS: Nanoseconds = Nanoseconds::MILLISECOND;

fn ms(count: u64) -> Nanoseconds {
    Nanoseconds(count * MS.0)
}

fn sleep(time: Nanoseconds) {
    sleep_until(now() + time).unwrap();
}

static PAIR: OnceLock<Arc<Tty>> = OnceLock::new();
static DONE: Mutex<Vec<(Nanoseconds, KResult<Vec<u8>>)>> = Mutex::new(Vec::new());

fn slave() -> &'static Arc<Tty> {
    PAIR.get().unwrap()
}

/// Makes the pair of a test; returns the master's side.
fn pair(termios: Termios) -> MasterFile {
    let number = DeviceNumber::new(SLAVE_MAJOR, 0);
    let tty = Arc::new(Tty::new(number, Far::Pty(Pty::new().unwrap()), termios));
    assert!(PAIR.set(tty.clone()).is_ok());
    MasterFile(tty)
}

fn raw(minimum: u8, tenths: u8) -> Termios {
    let termios = Termios::initial();
    termios
        .set(termios.input(), termios.output(), LocalFlags::empty())
        .with_character(Control::Min, minimum)
        .with_character(Control::Time, tenths)
}

fn waiting(tty: &Tty) -> Opened {
    Opened { generation: tty.generation(), as_console: false, nonblocking: false }
}

fn read(tty: &Tty, opened: Opened, size: usize) -> KResult<Vec<u8>> {
    let mut bytes = vec![0; size];
    let count = tty.read(opened, &mut IoDst::kernel(&mut bytes))?;
    bytes.truncate(count);
    Ok(bytes)
}

fn type_in(master: &MasterFile, bytes: &[u8]) {
    assert_eq!(master.write_to(false, &mut IoSrc::kernel(bytes)), Ok(bytes.len()));
}

fn seen(master: &MasterFile) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    match master.read_from(true, &mut IoDst::kernel(&mut bytes)) {
        Ok(count) => bytes.truncate(count),
        Err(Errno::EAGAIN) => bytes.clear(),
        Err(error) => panic!("{error:?}"),
    }
    bytes
}

/// Starts a task that reads once.
fn start_reader() {
    testing::spawn(|| {
        let result = read(slave(), waiting(slave()), 64);
        DONE.lock().unwrap().push((now(), result));
    });
    sleep(MS);
}

fn done() -> Vec<(Nanoseconds, KResult<Vec<u8>>)> {
    core::mem::take(&mut DONE.lock().unwrap())
}

#[test]
fn a_reader_sleeps_until_the_line_is_finished() {
    testing::run("tty::sim_tests::a_reader_sleeps_until_the_line_is_finished", Machine::new, || {
        let master = pair(Termios::initial());
        start_reader();
        type_in(&master, b"hel");
        sleep(MS);
        assert!(done().is_empty());
        type_in(&master, b"p\x7flo\r");
        sleep(MS);
        assert_eq!(done().remove(0).1, Ok(b"hello\n".to_vec()));
        assert_eq!(seen(&master), b"help\x08 \x08lo\r\n");
        let at_once = Opened { nonblocking: true, ..waiting(slave()) };
        assert_eq!(read(slave(), at_once, 64), Err(Errno::EAGAIN));
        type_in(&master, b"\x04");
        assert_eq!(read(slave(), at_once, 64), Ok(Vec::new()), "end of file");
    });
}

#[test]
fn without_lines_minimum_and_time_decide() {
    testing::run("tty::sim_tests::without_lines_minimum_and_time_decide", Machine::new, || {
        // Nothing needed, but waited for: half a second.
        let master = pair(raw(0, 5));
        let start = now();
        assert_eq!(read(slave(), waiting(slave()), 64), Ok(Vec::new()));
        assert_eq!(now(), start + ms(500));
        start_reader();
        sleep(ms(100));
        type_in(&master, b"x");
        sleep(MS);
        assert_eq!(done().remove(0).1, Ok(b"x".to_vec()));
        // Three bytes needed, however long it takes.
        slave().line.lock().set_termios(raw(3, 0));
        start_reader();
        type_in(&master, b"ab");
        sleep(ms(5000));
        assert!(done().is_empty());
        type_in(&master, b"cd");
        sleep(MS);
        assert_eq!(done().remove(0).1, Ok(b"abcd".to_vec()));
        // Three bytes, or two tenths after the last.
        slave().line.lock().set_termios(raw(3, 2));
        start_reader();
        sleep(ms(3000));
        let start = now();
        type_in(&master, b"e");
        sleep(ms(1000));
        assert_eq!(done(), [(start + ms(200), Ok(b"e".to_vec()))]);
        // Nothing needed and nothing waited for.
        slave().line.lock().set_termios(raw(0, 0));
        assert_eq!(read(slave(), waiting(slave()), 64), Ok(Vec::new()));
    });
}

#[test]
fn a_writer_waits_for_the_master_and_loses_nothing() {
    const LINES: usize = 2000;
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    testing::run("tty::sim_tests::a_writer_waits_for_the_master_and_loses_nothing", Machine::new, || {
        let master = pair(Termios::initial());
        testing::spawn(|| {
            let text = b"0123456789\n".repeat(LINES);
            let written = slave().write(waiting(slave()), &mut IoSrc::kernel(&text));
            WRITTEN.store(written.unwrap(), Ordering::Relaxed);
        });
        sleep(MS);
        assert_eq!(WRITTEN.load(Ordering::Relaxed), 0, "it waits for room");
        let mut all = Vec::new();
        // Echo in between does not take a writer's room.
        for _ in 0..1000 {
            type_in(&master, b"!");
            all.extend(seen(&master));
            sleep(Nanoseconds(10_000));
        }
        assert_eq!(WRITTEN.load(Ordering::Relaxed), LINES * 11);
        all.retain(|&byte| byte != b'!');
        assert_eq!(all, b"0123456789\r\n".repeat(LINES));
    });
}

#[test]
fn stopped_output_goes_on_at_start() {
    testing::run("tty::sim_tests::stopped_output_goes_on_at_start", Machine::new, || {
        let master = pair(Termios::initial());
        type_in(&master, b"\x13");
        testing::spawn(|| {
            let result = slave().write(waiting(slave()), &mut IoSrc::kernel(b"out"));
            DONE.lock().unwrap().push((now(), result.map(|_| Vec::new())));
        });
        sleep(ms(50));
        assert!(done().is_empty() && seen(&master).is_empty());
        type_in(&master, b"\x11");
        sleep(MS);
        assert_eq!((done().len(), seen(&master)), (1, b"out".to_vec()));
    });
}

#[test]
fn interrupt_goes_to_the_foreground_group_and_hangup_to_the_leader() {
    testing::run(
        "tty::sim_tests::interrupt_goes_to_the_foreground_group_and_hangup_to_the_leader",
        Machine::new,
        || {
            let master = pair(Termios::initial());
            testing::take_numbers(12);
            let processes: Vec<_> = [10, 11, 12].map(|pid| testing::new_process(Pid(pid))).into();
            {
                let mut tree = tree::lock();
                for process in &processes {
                    tree.add_process(process);
                    let related = tree.of_mut(process);
                    (related.group, related.session) = (process.pid, Pid(10));
                }
            }
            for process in &processes {
                for signal in [SIGINT, SIGHUP] {
                    process.actions.lock().set(signal, Action::handled_at(0x1000));
                }
                *process.terminal.lock() = Some(slave().clone());
            }
            *slave().owner.lock() = Owner { session: Pid(10), foreground: Pid(11) };
            type_in(&master, b"\x03");
            let pending = |signal| -> Vec<bool> {
                processes.iter().map(|process| process.signals.pending().contains(signal)).collect()
            };
            assert_eq!(pending(SIGINT), [false, true, false]);
            start_reader();
            drop(master);
            sleep(MS);
            assert_eq!(pending(SIGHUP), [true, true, false]);
            assert_eq!(done().remove(0).1, Ok(Vec::new()));
            assert!(processes.iter().all(|process| process.terminal.lock().is_none()));
            assert!(slave().is_hung_up(Opened { generation: 0, as_console: false, nonblocking: false }));
        },
    );
}

#[test]
fn the_console_takes_input_by_its_interrupt_and_sleeps_otherwise() {
    static INTERRUPTS: fn() -> u64 = || crate::percpu::this_cpu().interrupts.load(Ordering::Relaxed);
    testing::run(
        "tty::sim_tests::the_console_takes_input_by_its_interrupt_and_sleeps_otherwise",
        || Machine::new().input_at(Nanoseconds::from_seconds(3600), *b"ls\r"),
        || {
            tty::init();
            let console = super::console::tty().unwrap();
            let before = INTERRUPTS();
            let line = read(console, Opened { as_console: true, ..waiting(console) }, 64);
            assert_eq!(line, Ok(b"ls\n".to_vec()));
            assert!(now() >= Nanoseconds::from_seconds(3600));
            assert!(INTERRUPTS() - before < 5, "an idle prompt takes no interrupts");
        },
    );
}
