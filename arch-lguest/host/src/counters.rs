//! What a guest has cost.

use core::fmt;

use lguest_abi::Hypercall;

/// Counts since the guest was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// By position in [`Hypercall::ALL`]: direct calls, and calls from the ring.
    calls: [[u64; 2]; Hypercall::ALL.len()],
    /// System calls by user mode.
    pub system_calls: u64,
    /// Returns to user mode that the entry code made by itself.
    pub fast_returns: u64,
    /// Page faults that filled a shadow.
    pub shadow_fills: u64,
    /// Fills made beforehand, at the return from a page fault that the guest has handled.
    pub fills_ahead: u64,
    /// How often shadows had to make room.
    pub evictions: u64,
    /// Page faults delivered to the guest.
    pub page_faults: u64,
    /// Other exceptions delivered.
    pub exceptions: u64,
    /// Virtual interrupts delivered.
    pub interrupts: u64,
    /// Interrupts of the machine that came while the guest ran.
    pub machine_interrupts: u64,
    /// Times the guest was given the processor after another or after idleness.
    pub switches: u64,
    /// Requests to disks.
    pub disk_requests: u64,
    /// Frames sent to the network.
    pub frames_sent: u64,
    /// Frames taken from it.
    pub frames_received: u64,
    /// Frames to this guest for which there was no room.
    pub frames_lost: u64,
    /// Times it has been started again.
    pub restarts: u64,
}

impl Counters {
    /// One more of `call`.
    pub fn count(&mut self, call: Hypercall, from_ring: bool) {
        if let Some(at) = Hypercall::ALL.iter().position(|other| *other == call) {
            self.calls[at][usize::from(from_ring)] += 1;
        }
    }

    /// How many there were of `call`, in all.
    pub fn of(&self, call: Hypercall) -> u64 {
        let at = Hypercall::ALL.iter().position(|other| *other == call);
        at.map_or(0, |at| self.calls[at].iter().sum())
    }

    /// All hypercalls.
    pub fn hypercalls(&self) -> u64 {
        self.calls.iter().flatten().sum::<u64>() + self.fast_returns
    }
}

/// Lines `name count`, for those that are not zero; hypercalls with those from the ring apart.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (call, [direct, ring]) in Hypercall::ALL.iter().zip(self.calls) {
            let direct = direct + if *call == Hypercall::Sysret { self.fast_returns } else { 0 };
            for (kind, count) in [("", direct), (" ring", ring)] {
                if count != 0 {
                    write!(f, "hypercall {}{kind} {count}\r\n", call.name())?;
                }
            }
        }
        for (name, count) in [
            ("hypercalls", self.hypercalls()),
            ("system_calls", self.system_calls),
            ("fast_returns", self.fast_returns),
            ("shadow_fills", self.shadow_fills),
            ("fills_ahead", self.fills_ahead),
            ("evictions", self.evictions),
            ("page_faults", self.page_faults),
            ("exceptions", self.exceptions),
            ("interrupts", self.interrupts),
            ("machine_interrupts", self.machine_interrupts),
            ("switches", self.switches),
            ("disk_requests", self.disk_requests),
            ("frames_sent", self.frames_sent),
            ("frames_received", self.frames_received),
            ("frames_lost", self.frames_lost),
            ("restarts", self.restarts),
        ] {
            write!(f, "{name} {count}\r\n")?;
        }
        Ok(())
    }
}
