//! The host's loop: who runs, until what happens, and what then.

use core::fmt::{self, Write};
use core::sync::atomic::AtomicU32;

use lguest_abi::{LguestData, ShutdownReason};
use platform::{Nanoseconds, Unusable, VirtAddr};

use super::cpu::{self, UserState};
use super::options::Restart;
use super::paging::{forget, load_root, loaded_root};
use super::power::{self, Channel, EndLine};
use super::start::{self, Found};
use super::switch::{self, block};
use super::virtio::{Hardware, MOST_DRIVES, VirtioDrive};
use super::{apic, time, uart};
use crate::archive::MOST_GUESTS;
use crate::clock::Scale;
use crate::console::{Key, Keys, Lines};
use crate::context::{Context, Mode, Registers};
use crate::devices::port::{Drive, MOST_FRAME, Uplink};
use crate::devices::switch::{MOST_WAITING, Source, Switch};
use crate::guest::{Guest, Host, Outcome, State};
use crate::rule::Broken;
use crate::share::SLICE;
use crate::tables::shadow::{Given, Stale};

/// How long a guest goes on that has sent to others.
const BURST: Nanoseconds = Nanoseconds(1_000_000);

/// The machine, as guests use it.
struct Services {
    scale: Scale,
    wall_clock_base: Option<Nanoseconds>,
    lines: Lines,
    /// One guest has the channel for itself.
    passes_reports: bool,
    /// How it said that it ended: told when it is not started again.
    end: EndLine,
    switch: Switch,
    hardware: Hardware,
}

impl Host for Services {
    fn counter(&mut self) -> u64 {
        time::counter()
    }

    fn scale(&self) -> Scale {
        self.scale
    }

    fn wall_clock_base(&self) -> Option<Nanoseconds> {
        self.wall_clock_base
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        cpu::filtered(leaf, subleaf)
    }

    fn print(&mut self, guest: usize, text: &[u8]) {
        self.lines.write(guest, text, uart::write);
    }

    fn report(&mut self, _: usize, line: &[u8]) {
        if !self.passes_reports {
            return;
        }
        if line.starts_with(b"phase ") {
            Channel::bytes(line);
            Channel::bytes(b"\n");
        } else {
            self.end.set(line);
        }
    }

    type Drive = VirtioDrive;

    fn drive(&mut self, number: usize) -> &mut VirtioDrive {
        self.hardware.drives[number].as_mut().expect("guests' disks are on drives that were found")
    }

    fn send_frame(&mut self, guest: usize, frame: &[u8]) {
        if self.switch.forward(Source::Guest(guest), frame).outside
            && let Some(card) = &mut self.hardware.card
        {
            // Where there is no room, a frame is lost.
            let _ = card.send(frame);
        }
    }

    fn receive_frame(&mut self, guest: usize, frame: &mut [u8; MOST_FRAME]) -> Option<usize> {
        self.switch.take(guest, frame)
    }
}

impl Services {
    fn say(&mut self, text: fmt::Arguments<'_>) {
        self.lines.begin(uart::write);
        let _ = write!(uart::Console, "lguest-host: {text}\r\n");
    }
}

/// A guest's registers while another runs.
#[derive(Clone, Copy)]
struct Saved {
    context: Context,
    user: UserState,
}

struct Machine {
    found: Found,
    services: Services,
    keys: Keys,
    saved: [Saved; MOST_GUESTS],
    /// Whose registers are in the processor.
    loaded: Option<usize>,
    /// Counter for which the timer is armed.
    armed: Option<u64>,
    /// Guests that start again as soon as no drive uses their memory any more.
    restarting: [bool; MOST_GUESTS],
}

/// Why the inner loop gave up the processor.
enum Stop {
    /// An interrupt of the machine.
    Interrupt,
    /// The guest waits or is over.
    Blocked,
}

/// A page that stands for a guest's shared page before it has one: it sends every call the slow way.
static NO_DATA: LguestData = {
    let mut data = LguestData::new();
    data.hcall_pending = AtomicU32::new(1);
    data
};

/// Runs the host.
pub fn main(start_info: u64) -> ! {
    uart::init();
    let mut found = start::find(start_info).unwrap_or_else(|reason| power::unusable(reason));
    let scale = found.scale;
    let wall = time::wall_clock();
    let base = wall.map(|wall| wall.saturating_sub(scale.time(time::counter())));
    let several = found.count > 1;
    let start = Saved { context: Context::start(0, 0), user: UserState::new() };
    let mut machine = Machine {
        services: Services {
            scale,
            wall_clock_base: base,
            lines: Lines::new(several),
            passes_reports: !several,
            end: EndLine::new(),
            switch: core::mem::take(&mut found.switch),
            hardware: core::mem::take(&mut found.hardware),
        },
        keys: Keys::new(found.count),
        saved: [start; MOST_GUESTS],
        loaded: None,
        armed: None,
        restarting: [false; MOST_GUESTS],
        found,
    };
    for number in 0..machine.found.count {
        machine.start(number);
    }
    machine.run()
}

impl Machine {
    fn guest(&mut self, number: usize) -> &mut Guest {
        self.found.guests[number].as_mut().expect("guests below the count exist")
    }

    fn start(&mut self, number: usize) {
        let counter = time::counter();
        self.services.switch.clear(number);
        // SAFETY: the host's own root has the host's entry. The guest's, which may be the processor's, is given back now.
        unsafe { load_root(self.found.root) };
        match self.guest(number).start(counter) {
            Ok(context) => self.saved[number] = Saved { context, user: UserState::new() },
            Err(bad) => power::unusable(Unusable(bad.0)),
        }
        cpu::reset_area(number);
        if self.loaded == Some(number) {
            self.loaded = None;
        }
    }

    fn run(&mut self) -> ! {
        loop {
            self.take_input();
            self.take_completions();
            self.take_frames();
            let now = time::counter();
            let mut alive = false;
            for number in 0..self.found.count {
                let guest = self.guest(number);
                guest.expire(now);
                let wants = guest.wants_processor();
                alive |= matches!(guest.state, State::Running | State::Waiting) || guest.is_draining();
                self.found.shares.set_wanting(number, wants);
            }
            match self.found.shares.next() {
                Some(number) => self.run_guest(number),
                None if alive => {
                    self.arm(None);
                    let vector = switch::idle() as u8;
                    self.interrupted_by(vector);
                }
                None => self.finish(),
            }
        }
    }

    fn take_input(&mut self) {
        while let Some(byte) = uart::read() {
            match self.keys.take(byte) {
                Key::Input(number, byte) => self.guest(number).input(byte),
                Key::Counters => self.print_counters(),
                Key::Nothing => {}
            }
        }
    }

    /// Sees to what drives have completed.
    fn take_completions(&mut self) {
        let mut room = false;
        for number in 0..MOST_DRIVES {
            loop {
                let start = time::counter();
                let Some((ticket, result)) =
                    self.services.hardware.drives[number].as_mut().and_then(VirtioDrive::completed)
                else {
                    break;
                };
                room = true;
                let guest = usize::from(ticket.guest);
                let done = self.guest(guest).transfer_completed(ticket, result);
                // What was read has been copied: that time is the guest's who asked for it.
                let took = self.services.scale.time(time::counter().saturating_sub(start));
                self.found.shares.ran(guest, took);
                if let Err(broken) = done {
                    self.over(guest, Outcome::Killed(broken, VirtAddr(0)));
                }
            }
        }
        if room {
            self.found.guests.iter_mut().flatten().for_each(Guest::retry_transfers);
        }
        for number in 0..self.found.count {
            if self.restarting[number] && !self.guest(number).is_draining() {
                self.restarting[number] = false;
                self.start(number);
            }
        }
    }

    /// Hands on what frames have come in, and tells those that have got some.
    fn take_frames(&mut self) {
        if let Some(card) = &mut self.services.hardware.card {
            let mut frame = [0; MOST_FRAME];
            let mut start = time::counter();
            for _ in 0..MOST_WAITING {
                let Some(length) = card.receive(&mut frame) else { break };
                let route = self.services.switch.forward(Source::Uplink, &frame[..length]);
                // Whoever it is for pays for it: others have nothing of it.
                let end = time::counter();
                let took = self.services.scale.time(end.saturating_sub(start));
                self.found.shares.had_together(route.guests, took);
                start = end;
            }
        }
        for number in 0..self.found.count {
            if self.services.switch.take_fresh(number) {
                self.guest(number).frames_have_come();
            }
        }
    }

    /// Arms the timer for what comes first: a guest's deadline, or `slice_end`. One that is armed for earlier stays.
    fn arm(&mut self, slice_end: Option<u64>) {
        let deadlines = self.found.guests.iter().flatten().filter_map(Guest::deadline);
        let Some(first) = deadlines.chain(slice_end).min() else { return };
        if self.armed.is_some_and(|armed| armed <= first) {
            return;
        }
        self.armed = Some(first);
        apic::arm(first, self.services.scale.time(first.saturating_sub(time::counter())));
    }

    /// Gives the processor to guest `number` until it gives it up or its time is over.
    fn run_guest(&mut self, number: usize) {
        self.load(number);
        let start = time::counter();
        let contended = self.found.shares.is_contended(number);
        let mut slice_end = contended.then(|| start + self.services.scale.counts(SLICE));
        self.arm(slice_end);
        loop {
            match self.step(number) {
                Ok(None) => {
                    let deadline = self.found.guests[number].as_ref().and_then(Guest::deadline);
                    let wakes = slice_end.is_none() && self.services.switch.has_fresh();
                    if wakes {
                        // Others have got something, and get it soon: in one piece, if it is several frames.
                        slice_end = Some(time::counter() + self.services.scale.counts(BURST));
                    }
                    let earlier = |deadline| self.armed.is_none_or(|armed| deadline < armed);
                    if wakes || deadline.is_some_and(earlier) {
                        self.arm(slice_end);
                    }
                }
                Ok(Some(Stop::Interrupt | Stop::Blocked)) => break,
                Err(broken) => {
                    // SAFETY: no guest runs, and no other reference lives.
                    let rip = unsafe { block() }.context.registers.rip;
                    self.guest(number).state = State::Over(Outcome::Killed(broken, VirtAddr(rip)));
                    break;
                }
            }
        }
        let ran = self.services.scale.time(time::counter().saturating_sub(start));
        self.found.shares.ran(number, ran);
        if let State::Over(outcome) = self.guest(number).state {
            self.over(number, outcome);
        }
    }

    /// Lets the loaded guest run once and sees to what stopped it.
    fn step(&mut self, number: usize) -> Result<Option<Stop>, Broken> {
        let guest = self.found.guests[number].as_mut().expect("guests below the count exist");
        let services = &mut self.services;
        // SAFETY: the reference ends before the guest is entered.
        let switch = unsafe { block() };
        guest.prepare(&mut switch.context, services)?;
        if !guest.is_ready() {
            return Ok(Some(Stop::Blocked));
        }
        let data = guest.data().unwrap_or(&NO_DATA);
        switch.data = data;
        switch.pending = u64::from(guest.pending().bits());
        switch.system_call = guest.system_call_entry().0;
        let Given { kernel, user, stale } = guest.shadow().give();
        switch.kernel_root = kernel;
        switch.user_root = user;
        let root = if switch.context.mode == Mode::User { user } else { kernel };
        switch.context.registers.cs = Registers::CODE;
        switch.context.registers.ss = Registers::DATA;
        // SAFETY: shadows have the host's entry, the guest module keeps RIP canonical, and `data` is a shared page. What
        // the processor remembers of other roots is forgotten with each load.
        let (vector, fault) = unsafe {
            if root != loaded_root() || stale == Stale::Everything {
                load_root(root);
            } else if let Stale::Page(page) = stale {
                forget(page);
            }
            switch::enter();
            (block().context.registers.vector, fault_address())
        };
        // SAFETY: the guest has been left.
        let switch = unsafe { block() };
        guest.counters.system_calls += core::mem::take(&mut switch.system_calls);
        guest.counters.fast_returns += core::mem::take(&mut switch.fast_returns);
        let context = &mut switch.context;
        match vector {
            Registers::HYPERCALL => guest.hypercall(context, services)?,
            14 => {
                let error_code = context.registers.error_code as u32;
                guest.page_fault(context, fault, error_code, services)?;
            }
            0..32 => {
                let error_code = context.registers.error_code as u32;
                guest.exception(context, vector as u32, error_code, services)?;
            }
            _ => {
                guest.counters.machine_interrupts += 1;
                self.interrupted_by(vector as u8);
                return Ok(Some(Stop::Interrupt));
            }
        }
        Ok((guest.state != State::Running).then_some(Stop::Blocked))
    }

    /// An interrupt of the machine has been taken.
    fn interrupted_by(&mut self, vector: u8) {
        if vector == apic::TIMER {
            // Whether or not it was early: it does not come again.
            self.armed = None;
        }
        if vector == apic::DEVICE {
            self.services.hardware.acknowledge();
        }
        apic::end(vector);
    }

    /// Puts guest `number`'s registers into the processor.
    fn load(&mut self, number: usize) {
        if self.loaded == Some(number) {
            return;
        }
        let features = self.found.features;
        // SAFETY: no guest runs, and no other reference lives.
        let switch = unsafe { block() };
        if let Some(before) = self.loaded {
            let user = cpu::save(before, features);
            self.saved[before] = Saved { context: switch.context, user };
        }
        switch.context = self.saved[number].context;
        cpu::restore(number, &self.saved[number].user, features);
        self.loaded = Some(number);
        self.guest(number).counters.switches += 1;
    }

    /// A guest has ended: starts it again if that is wanted.
    fn over(&mut self, number: usize, outcome: Outcome) {
        self.guest(number).state = State::Over(outcome);
        let restarts = self.guest(number).counters.restarts;
        let asked = matches!(outcome, Outcome::ShutDown { reason: ShutdownReason::Restart, .. });
        let again = match self.found.options.restart {
            Restart::Never => false,
            Restart::Asked => asked,
            Restart::Killed(most) => {
                asked || (matches!(outcome, Outcome::Killed(..)) && restarts < u64::from(most))
            }
        };
        let shut_down = matches!(outcome, Outcome::ShutDown { .. });
        // A guest that ends by itself is all there is to see if it is alone; one that starts again is not over.
        if !(shut_down && (again || self.found.count == 1)) {
            self.services.say(format_args!("guest {number}: {outcome}"));
        }
        self.guest(number).stop_devices();
        if again {
            self.services.end = EndLine::new();
            self.guest(number).counters.restarts += 1;
            self.restarting[number] = true;
        } else if self.loaded == Some(number) {
            self.loaded = None;
        }
    }

    fn print_counters(&mut self) {
        for number in 0..self.found.count {
            let mut counters = self.guest(number).counters;
            counters.evictions = self.guest(number).shadow().evictions();
            counters.frames_lost = self.services.switch.lost(number);
            self.services.say(format_args!("guest {number} counters"));
            let _ = write!(uart::Console, "{counters}");
        }
    }

    /// All guests are over.
    fn finish(&mut self) -> ! {
        if self.found.options.counters {
            self.print_counters();
        }
        let mut end = 0;
        for number in 0..self.found.count {
            if self.guest(number).state == State::Stopped {
                self.services.say(format_args!("guest {number}: stopped for ever"));
            }
            let status = match self.guest(number).state {
                State::Over(Outcome::ShutDown { reason, status }) => match reason {
                    ShutdownReason::Exit => status,
                    ShutdownReason::PowerOff | ShutdownReason::Restart => 0,
                    ShutdownReason::Panic => power::PANIC,
                    ShutdownReason::Unusable => power::UNUSABLE,
                },
                _ => power::PANIC,
            };
            end = if end == 0 { status } else { end };
        }
        let killed = self.found.count == 1 && matches!(self.guest(0).state, State::Over(Outcome::Killed(..)));
        // What it said before it was killed is not how it ended.
        if killed {
            Channel::line(format_args!("panic"));
        } else if !self.services.end.tell() {
            Channel::line(format_args!("exit {end}"));
        }
        power::end(end)
    }
}

/// CR2: the address of the last page fault.
fn fault_address() -> VirtAddr {
    let address: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    VirtAddr(address)
}

/// An exception in the host itself.
pub extern "C" fn host_fault(vector: u64, error_code: u64, rip: u64) -> ! {
    panic!("exception {vector} (error code {error_code:#x}, address {:#x}) at {rip:#x}", fault_address().0)
}
