//! The line discipline against what Linux's does.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::discipline::{CAPACITY, Discipline, Effects};
use super::termios::{Control, InputFlags, LocalFlags, OutputFlags, Termios};
use crate::signal::{SIGINT, SIGQUIT, SIGTSTP};

/// What Linux 6.18 did with a pseudo-terminal, one case a line: input, output and local flags and the EOL character,
/// then steps: `w:` what a program wrote and the master then read, `i:` what the master wrote and then read, `r:` size
/// of a read and what that, repeated up to three times, gave (`-`: nothing yet, `=`: end of file). All in hexadecimal.
const LINUX_CASES: &str = include_str!("fixtures/linux.txt");

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn number(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap()
}

/// A read that does not wait, as a terminal does it.
fn read(line: &mut Discipline, size: usize) -> Option<Vec<u8>> {
    let mut to = vec![0; size];
    let mut moved = 0;
    loop {
        match line.take(&mut to[moved..]) {
            None if moved == 0 => return None,
            None => break,
            Some(taken) => {
                moved += taken.count;
                if taken.complete || moved == size {
                    break;
                }
            }
        }
    }
    to.truncate(moved);
    Some(to)
}

fn typed(line: &mut Discipline, input: &[u8]) -> (Vec<u8>, Effects) {
    let mut effects = Effects::default();
    line.receive(input, &mut effects);
    (line.take_echo(usize::MAX), effects)
}

fn printed(line: &mut Discipline, output: &[u8]) -> Vec<u8> {
    let mut to = vec![0; output.len() * 8];
    let length = line.process_output(output, &mut to);
    to.truncate(length);
    to
}

/// Replays one case; returns what differs.
fn replay(case: &str) -> Result<(), String> {
    let mut fields = case.split(' ');
    let mut next = || number(fields.next().unwrap());
    let (input, output, local, eol) = (next(), next(), next(), next());
    let termios = Termios::initial()
        .set(
            InputFlags::from_bits_retain(input),
            OutputFlags::from_bits_retain(output),
            LocalFlags::from_bits_retain(local),
        )
        .with_character(Control::Eol, eol as u8);
    let mut line = Discipline::new(termios);
    for step in fields {
        let parts: Vec<&str> = step.split(':').collect();
        let given = bytes(parts[1]);
        let found = match parts[0] {
            "w" => hex(&printed(&mut line, &given)),
            "i" => hex(&typed(&mut line, &given).0),
            _ => {
                let mut reads = Vec::new();
                for _ in 0..3 {
                    match read(&mut line, given[0].into()) {
                        None => {
                            reads.push("-".to_string());
                            break;
                        }
                        Some(bytes) if bytes.is_empty() => reads.push("=".to_string()),
                        Some(bytes) => reads.push(hex(&bytes)),
                    }
                }
                reads.join(",")
            }
        };
        if found != parts[2] {
            return Err(format!("{case}\n  at {}:{}: Linux {}, we {found}", parts[0], parts[1], parts[2]));
        }
    }
    Ok(())
}

#[test]
fn editing_and_echo_are_those_of_linux() {
    let failures: Vec<String> = LINUX_CASES.lines().filter_map(|case| replay(case).err()).collect();
    assert!(LINUX_CASES.lines().count() >= 300);
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

fn fresh() -> Discipline {
    Discipline::new(Termios::initial())
}

#[test]
fn control_characters_raise_signals_and_flush() {
    for (byte, signal, shown) in [(3, SIGINT, b"^C"), (0x1c, SIGQUIT, b"^\\"), (0x1a, SIGTSTP, b"^Z")] {
        let mut line = fresh();
        typed(&mut line, b"finished\nbegun");
        let (echo, effects) = typed(&mut line, &[byte]);
        assert_eq!(effects.signals, [signal]);
        assert_eq!(echo, shown);
        assert!(effects.drop_output);
        assert_eq!(read(&mut line, 64), None);
    }
}

#[test]
fn with_noflsh_input_survives_a_signal() {
    let termios = Termios::initial();
    let local = termios.local() | LocalFlags::NOFLSH;
    let mut line = Discipline::new(termios.set(termios.input(), termios.output(), local));
    let (_, effects) = typed(&mut line, b"finished\n\x03");
    assert_eq!(effects.signals, [SIGINT]);
    assert_eq!(read(&mut line, 64), Some(b"finished\n".to_vec()));
}

#[test]
fn stop_holds_echo_back_until_start() {
    let mut line = fresh();
    let (echo, _) = typed(&mut line, b"\x13ab");
    assert!(echo.is_empty() && line.is_stopped());
    let (echo, effects) = typed(&mut line, b"\x11");
    assert_eq!(echo, b"ab");
    assert!(effects.output_may_go_on && !line.is_stopped());
}

#[test]
fn lines_too_long_lose_their_end_and_can_still_be_ended() {
    let mut line = fresh();
    typed(&mut line, &[b'x'; CAPACITY + 100]);
    assert!(line.room() > 0, "whoever types is not held up");
    typed(&mut line, b"\n");
    let first = read(&mut line, 2 * CAPACITY).unwrap();
    assert_eq!((first.len(), first.last()), (CAPACITY, Some(&b'\n')));
    assert_eq!(read(&mut line, 64), None);
}

#[test]
fn finished_lines_are_kept_and_hold_up_the_sender() {
    let mut line = fresh();
    let one = [&[b'x'; 99][..], b"\n"].concat();
    let mut sent = 0;
    while line.room() > 0 {
        let part = line.room().min(100);
        typed(&mut line, &one[..part]);
        sent += part;
    }
    assert_eq!(sent, CAPACITY - 1);
    assert_eq!(read(&mut line, 200), Some(one));
    assert!(line.room() > 0);
}

#[test]
fn changing_to_raw_makes_everything_readable_and_back_makes_it_a_line() {
    let mut line = fresh();
    typed(&mut line, b"abc");
    assert!(!line.is_readable(1) && line.readable_bytes() == 0);
    let canonical = *line.termios();
    let raw = canonical.set(canonical.input(), canonical.output(), LocalFlags::empty());
    assert!(line.set_termios(raw));
    assert!(line.is_readable(3) && !line.is_readable(4) && line.readable_bytes() == 3);
    line.set_termios(canonical);
    assert!(line.is_readable(1));
    assert_eq!(read(&mut line, 64), Some(b"abc".to_vec()));
}

proptest! {
    #[test]
    fn raw_input_comes_out_as_it_went_in(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..10), size in 1usize..300) {
        let none = Termios::initial().set(InputFlags::empty(), OutputFlags::empty(), LocalFlags::empty());
        let mut line = Discipline::new(none);
        let mut out = Vec::new();
        for chunk in &chunks {
            typed(&mut line, chunk);
        }
        while let Some(part) = read(&mut line, size) {
            prop_assert!(part.len() <= size);
            out.extend(part);
        }
        prop_assert_eq!(out, chunks.concat());
    }

    #[test]
    fn no_input_breaks_the_discipline(
        flags in (any::<u32>(), any::<u32>(), any::<u32>()),
        steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..600), 0usize..64, any::<bool>()), 1..20),
    ) {
        let settings = |flip: bool| {
            let local = if flip { flags.2 ^ LocalFlags::ICANON.bits() } else { flags.2 };
            Termios::initial().set(
                InputFlags::from_bits_retain(flags.0),
                OutputFlags::from_bits_retain(flags.1),
                LocalFlags::from_bits_retain(local),
            )
        };
        let mut line = Discipline::new(settings(false));
        for (input, size, flip) in &steps {
            typed(&mut line, input);
            prop_assert!(line.readable_bytes() <= CAPACITY);
            if *size > 0 && let Some(part) = read(&mut line, *size) {
                prop_assert!(part.len() <= *size);
            }
            line.set_termios(settings(*flip));
        }
        line.flush_input();
        prop_assert_eq!(read(&mut line, 16), None);
    }
}
