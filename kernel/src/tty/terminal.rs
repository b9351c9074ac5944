//! A terminal: a line discipline, what is at its far end, and whom it belongs to.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use platform::Nanoseconds;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::console;
use super::discipline::{Discipline, Effects, Taken};
use super::job::Owner;
use super::pty::Pty;
use super::termios::{Control, Termios};
use crate::devices::console as device;
use crate::errno::{Errno, KResult};
use crate::fs::device::DeviceNumber;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::process::Pid;
use crate::signal::{SIGWINCH, SigInfo, Signal, send_group};
use crate::sync::{SpinLock, WaitQueue};
use crate::time;

/// Bytes moved in one step.
const STEP: usize = 256;
/// Room for what those become as output, if it is not more than two bytes each; else they take more steps.
const STEP_PROCESSED: usize = STEP * 2;

/// `struct winsize`: in characters and pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct WindowSize {
    /// Lines of characters.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    width: u16,
    height: u16,
}

/// What is at a terminal's far end.
pub(super) enum Far {
    /// The platform's console.
    Console,
    /// A console device.
    Device,
    /// A program that has the master open.
    Pty(Pty),
}

/// A terminal.
pub struct Tty {
    /// The device it is opened by.
    pub(super) number: DeviceNumber,
    pub(super) far: Far,
    pub(super) line: SpinLock<Discipline>,
    pub(super) owner: SpinLock<Owner>,
    window: SpinLock<WindowSize>,
    /// Counts hang-ups: a file opened before the last one is dead.
    generation: AtomicU32,
    /// `TIOCEXCL`: only the superuser may open it again.
    pub(super) exclusive: AtomicBool,
    /// A program is writing; others wait, so that what each writes stays together.
    writing: AtomicBool,
    /// Woken when there may be something to read.
    pub(super) readers: WaitQueue,
    /// Woken when there may be room for output, or one's turn to write.
    pub(super) writers: WaitQueue,
    /// Woken when there may be room for input.
    pub(super) input_room: WaitQueue,
}

/// How a file stands to the terminal it was opened from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    /// The terminal's generation then.
    pub generation: u32,
    /// By `/dev/console`, which does not hang up.
    pub as_console: bool,
    /// Reads and writes must not wait.
    pub nonblocking: bool,
}

impl Tty {
    pub(super) const fn new(number: DeviceNumber, far: Far, termios: Termios) -> Self {
        Self {
            number,
            far,
            line: SpinLock::new(Discipline::new(termios)),
            owner: SpinLock::new(Owner::NOBODY),
            window: SpinLock::new(WindowSize { rows: 0, columns: 0, width: 0, height: 0 }),
            generation: AtomicU32::new(0),
            exclusive: AtomicBool::new(false),
            writing: AtomicBool::new(false),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            input_room: WaitQueue::new(),
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn is_hung_up(&self, opened: Opened) -> bool {
        !opened.as_console && opened.generation != self.generation()
    }

    /// Makes every file opened before a dead one.
    pub(super) fn start_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        {
            let mut line = self.line.lock();
            line.flush_input();
            line.drop_echo();
            line.start(&mut Effects::default());
        }
        self.wake_everyone();
    }

    pub(super) fn wake_everyone(&self) {
        self.readers.wake_all();
        self.writers.wake_all();
        self.input_room.wake_all();
        if let Far::Pty(pty) = &self.far {
            pty.master_events.wake_all();
        }
    }

    /// Size of its window.
    pub(super) fn window(&self) -> WindowSize {
        *self.window.lock()
    }

    /// Sets the size of its window, and tells the foreground group if it is another.
    pub(super) fn set_window(&self, size: WindowSize) {
        let before = core::mem::replace(&mut *self.window.lock(), size);
        if before != size {
            self.signal_foreground(SIGWINCH);
        }
    }

    /// Sends a signal to the foreground process group, if there is one.
    pub(super) fn signal_foreground(&self, signal: Signal) {
        let group = self.owner.lock().foreground;
        if group != Pid(0) {
            send_group(group, &SigInfo::kernel(signal));
        }
    }

    /// Takes in what was typed, or what a pty's master writes; returns how many bytes there was room for. Context: a
    /// task, no lock held.
    pub(super) fn receive(&self, bytes: &[u8]) -> usize {
        let mut effects = Effects::default();
        let mut taken = 0;
        {
            let mut line = self.line.lock();
            while taken < bytes.len() && line.room() > 0 {
                let part = line.room().min(bytes.len() - taken);
                line.receive(&bytes[taken..taken + part], &mut effects);
                taken += part;
            }
        }
        self.carry_out(effects);
        taken
    }

    /// Does what input or settings have asked for.
    pub(super) fn carry_out(&self, effects: Effects) {
        if effects.drop_output
            && let Far::Pty(pty) = &self.far
        {
            pty.drop_output();
        }
        self.send_echo();
        for signal in effects.signals {
            self.signal_foreground(signal);
        }
        if effects.readable {
            self.readers.wake_all();
        }
        if effects.output_may_go_on || effects.drop_output {
            self.writers.wake_all();
        }
    }

    /// Sends what echo there is room for.
    pub(super) fn send_echo(&self) {
        let mut line = self.line.lock();
        match &self.far {
            Far::Console => {
                let echo = line.take_echo(usize::MAX);
                drop(line);
                console::write(&echo);
            }
            // Under the lock, so that nobody else takes the room.
            Far::Device => device::emit(&line.take_echo(device::room())),
            Far::Pty(pty) => pty.emit(&line.take_echo(pty.room())),
        }
    }

    /// Sends the first of these bytes as output, as many as there is room for; returns how many.
    fn send(&self, bytes: &[u8]) -> usize {
        let mut processed = [0; STEP_PROCESSED];
        let mut line = self.line.lock();
        if line.is_stopped() {
            return 0;
        }
        let most = self.far_room().min(processed.len()) / line.expansion();
        let bytes = &bytes[..bytes.len().min(most)];
        let length = line.process_output(bytes, &mut processed);
        match &self.far {
            Far::Console => {
                drop(line);
                console::write(&processed[..length]);
            }
            Far::Device => device::emit(&processed[..length]),
            Far::Pty(pty) => pty.emit(&processed[..length]),
        }
        bytes.len()
    }

    /// Bytes of output the far end has room for.
    fn far_room(&self) -> usize {
        match &self.far {
            Far::Console => usize::MAX,
            Far::Device => device::room(),
            Far::Pty(pty) => pty.room(),
        }
    }

    /// Sends one byte of flow control past everything else.
    pub(super) fn send_byte(&self, byte: u8) {
        let _line = self.line.lock();
        match &self.far {
            Far::Console => console::write(&[byte]),
            Far::Device => device::emit(&[byte]),
            Far::Pty(pty) => pty.emit(&[byte]),
        }
    }

    /// `read(2)`. The caller has seen to job control.
    pub(super) fn read(&self, opened: Opened, to: &mut IoDst<'_>) -> KResult<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let (by_lines, minimum, timeout) = {
            let line = self.line.lock();
            let termios = line.termios();
            let tenths = u64::from(termios.character(Control::Time));
            let timeout = (tenths > 0).then(|| Nanoseconds::from_millis(tenths * 100));
            (line.is_canonical(), usize::from(termios.character(Control::Min)), timeout)
        };
        let wanted = if by_lines { 1 } else { minimum.min(to.remaining()) };
        loop {
            // Between bytes the timer runs; before the first it does so only if none is needed.
            let timer_runs = !by_lines && (minimum == 0 || to.moved() > 0);
            let deadline = match timeout {
                Some(timeout) if timer_runs => Some(time::now().saturating_add(timeout)),
                _ => None,
            };
            let may_wait =
                !opened.nonblocking && to.moved() < wanted.max(1) && (wanted > 0 || deadline.is_some());
            match self.read_step(opened, to, may_wait, deadline)? {
                Step::Moved { complete: false } => {}
                // Without lines, there may be too little yet.
                Step::Moved { complete: true } if !by_lines && to.moved() < wanted => {}
                Step::Nothing
                    if to.moved() == 0 && opened.nonblocking && (wanted > 0 || timeout.is_some()) =>
                {
                    return Err(Errno::EAGAIN);
                }
                Step::Moved { .. } | Step::Nothing => return Ok(to.moved()),
            }
            if to.remaining() == 0 {
                return Ok(to.moved());
            }
        }
    }

    /// Moves what is there, up to the end of a line, to the reader; waits for it if that is allowed.
    fn read_step(
        &self,
        opened: Opened,
        to: &mut IoDst<'_>,
        may_wait: bool,
        deadline: Option<Nanoseconds>,
    ) -> KResult<Step> {
        let mut bytes = [0; STEP];
        let length = to.remaining().min(STEP);
        let mut look = || {
            let taken = self.line.lock().take(&mut bytes[..length]);
            match taken {
                Some(taken) => Some(Found::Input(taken)),
                None if self.is_hung_up(opened) => Some(Found::HungUp),
                None => None,
            }
        };
        let found = if may_wait {
            match self.readers.wait_until(deadline, look) {
                Ok(found) => found,
                Err(_) if to.moved() > 0 => None,
                Err(interrupted) => return Err(interrupted.into()),
            }
        } else {
            look()
        };
        let taken = match found {
            Some(Found::Input(taken)) => taken,
            Some(Found::HungUp) | None => return Ok(Step::Nothing),
        };
        self.input_room.wake_all();
        let moved = to.write(&bytes[..taken.count])?;
        Ok(Step::Moved { complete: taken.complete || moved < taken.count })
    }

    /// `write(2)`. The caller has seen to job control.
    pub(super) fn write(&self, opened: Opened, from: &mut IoSrc<'_>) -> KResult<usize> {
        let _turn = self.take_turn(opened)?;
        let mut bytes = [0; STEP];
        while from.remaining() > 0 {
            let count = from.remaining().min(STEP);
            let count = from.read(&mut bytes[..count])?;
            if count == 0 {
                break;
            }
            let mut sent = 0;
            while sent < count {
                if self.is_hung_up(opened) {
                    return Err(Errno::EIO);
                }
                sent += self.send(&bytes[sent..count]);
                if sent < count
                    && let Err(error) = self.wait_for_room(opened)
                {
                    // What was read and not sent does not count.
                    let done = from.moved() - (count - sent);
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
            }
        }
        Ok(from.moved())
    }

    /// Waits until output is not stopped and the far end has room.
    fn wait_for_room(&self, opened: Opened) -> KResult<()> {
        let look = || {
            if self.is_hung_up(opened) {
                return Some(Err(Errno::EIO));
            }
            let line = self.line.lock();
            (!line.is_stopped() && self.far_room() >= line.expansion()).then_some(Ok(()))
        };
        if opened.nonblocking { look().unwrap_or(Err(Errno::EAGAIN)) } else { self.writers.wait(look)? }
    }

    fn take_turn(&self, opened: Opened) -> KResult<Turn<'_>> {
        let free = || (!self.writing.swap(true, Ordering::Acquire)).then_some(());
        if opened.nonblocking {
            free().ok_or(Errno::EAGAIN)?;
        } else {
            self.writers.wait(free)?;
        }
        Ok(Turn(self))
    }

    /// What can be done now without waiting.
    pub(super) fn poll(&self, opened: Opened) -> PollEvents {
        if self.is_hung_up(opened) {
            return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::ERR | PollEvents::HUP;
        }
        let line = self.line.lock();
        let mut events = PollEvents::empty();
        if line.is_ready() {
            events |= PollEvents::READABLE;
        }
        if !line.is_stopped() && self.far_room() >= line.expansion() {
            events |= PollEvents::WRITABLE;
        }
        events
    }
}

/// What a reader found.
enum Found {
    Input(Taken),
    HungUp,
}

/// What a step of a read came to.
enum Step {
    Moved { complete: bool },
    Nothing,
}

/// Holds the right to write.
struct Turn<'a>(&'a Tty);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.writing.store(false, Ordering::Release);
        self.0.writers.wake_all();
    }
}
