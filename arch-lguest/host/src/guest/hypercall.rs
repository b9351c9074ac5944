//! Hypercalls.

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{
    FREE, Hypercall, IRQ_ENABLED, KERNEL_HALF, LguestData, MOST_TEXT, PENDING, RING_ENTRIES, ShutdownReason,
    WaitMode,
};
use platform::{Nanoseconds, PAGE_SIZE, PageRange, VirtAddr};

use super::{EntryPoints, Guest, Host, Outcome, State};
use crate::context::Context;
use crate::devices::Devices;
use crate::memory::GuestPhys;
use crate::rule::{Broken, Rule};
use crate::tables::entry::{ACCESSED, PRESENT};
use crate::tables::entry_range;
use crate::tables::guest::GuestRoot;
use crate::tables::shadow::{Access, Fill};

/// One past the last address of the user half.
const USER_END: u64 = 1 << 47;

/// A call that does not change where the guest goes on, with its arguments: RDI, RSI, RDX.
struct Call {
    what: Hypercall,
    arguments: [u64; 3],
}

impl Guest {
    /// The `syscall` that the guest's kernel made.
    pub fn hypercall(&mut self, context: &mut Context, host: &mut impl Host) -> Result<(), Broken> {
        let registers = &mut context.registers;
        let what = Hypercall::try_from(registers.rax)
            .map_err(|unknown| Rule::UnknownHypercall.broken_by(unknown.0))?;
        let arguments = [registers.rdi, registers.rsi, registers.rdx];
        let Some(data) = self.vcpu.data else {
            if what != Hypercall::LguestInit {
                return Err(Rule::InitFirst.broken_by(registers.rax));
            }
            self.counters.count(what, false);
            return self.init(GuestPhys(arguments[0]), host);
        };
        self.run_ring(data, host)?;
        self.counters.count(what, false);
        match what {
            Hypercall::Iret => self.interrupt_return(context, data),
            Hypercall::Sysret => self.system_call_return(context, data),
            _ => {
                if let Some(result) = self.call(&Call { what, arguments }, data, host)? {
                    context.registers.rax = result;
                }
                Ok(())
            }
        }
    }

    /// Runs what waits in the ring.
    pub fn run_ring(&mut self, data: &'static LguestData, host: &mut impl Host) -> Result<(), Broken> {
        if data.hcall_pending.swap(0, Relaxed) == 0 {
            return Ok(());
        }
        for _ in 0..RING_ENTRIES {
            let at = self.vcpu.ring_next;
            let status = data.hcall_status[at].load(Relaxed);
            match status {
                FREE => break,
                PENDING => {}
                other => return Err(Rule::BadArgument.broken_by(u64::from(other))),
            }
            let entry = &data.hcalls[at];
            let number = entry.rax.load(Relaxed);
            let arguments = [&entry.rdi, &entry.rsi, &entry.rdx].map(|argument| argument.load(Relaxed));
            data.hcall_status[at].store(FREE, Relaxed);
            self.vcpu.ring_next = (at + 1) % RING_ENTRIES;
            let what =
                Hypercall::try_from(number).map_err(|unknown| Rule::UnknownHypercall.broken_by(unknown.0))?;
            if !what.may_wait() {
                return Err(Rule::NotInRing.broken_by(number));
            }
            self.counters.count(what, true);
            self.call(&Call { what, arguments }, data, host)?;
        }
        Ok(())
    }

    fn call(
        &mut self,
        call: &Call,
        data: &'static LguestData,
        host: &mut impl Host,
    ) -> Result<Option<u64>, Broken> {
        let [first, second, third] = call.arguments;
        let memory = self.memory;
        match call.what {
            Hypercall::FlushAsync | Hypercall::SendInterrupts => {}
            Hypercall::LguestInit => return Err(Rule::InitOnce.broken_by(first)),
            Hypercall::Shutdown => self.shut_down(GuestPhys(first), second, third, host)?,
            Hypercall::NewPgtable => self.shadow().load(&memory, GuestPhys(first))?,
            Hypercall::FlushTlb => match first {
                0 | 1 => self.shadow().flush(first == 1),
                _ => return Err(Rule::BadArgument.broken_by(first)),
            },
            Hypercall::SetClockevent => {
                let counts = host.scale().counts(Nanoseconds(first));
                self.vcpu.deadline = (first != 0).then_some(self.started.saturating_add(counts));
                self.expire(host.counter());
            }
            Hypercall::Halt => {
                self.state = match first {
                    _ if first == WaitMode::ForInterrupt as u64 => State::Waiting,
                    _ if first == WaitMode::ForEver as u64 => State::Stopped,
                    _ => return Err(Rule::BadArgument.broken_by(first)),
                };
                data.irq_enabled.store(IRQ_ENABLED, Relaxed);
            }
            Hypercall::SetPte => self.page_changed(first, VirtAddr(second).page(), third)?,
            Hypercall::SetRange => self.refresh(first, VirtAddr(second), VirtAddr(third))?,
            Hypercall::SetPgd => {
                let index = usize::try_from(second).unwrap_or(usize::MAX);
                self.shadow().forget_top(GuestPhys(first), index)?;
            }
            Hypercall::ReleasePgd => self.shadow().release(GuestPhys(first))?,
            Hypercall::Notify if Devices::contain(GuestPhys(first)) => {
                self.devices.notify(&memory, GuestPhys(first), second)?;
                self.offer_input();
            }
            Hypercall::Notify => {
                let number = self.number;
                self.text(GuestPhys(first), second, |piece| host.print(number, piece))?;
            }
            Hypercall::Report => {
                if second > MOST_TEXT {
                    return Err(Rule::BadArgument.broken_by(second));
                }
                let mut line = [0; MOST_TEXT as usize];
                let line = &mut line[..second as usize];
                memory.copy_out(GuestPhys(first), line)?;
                if line.contains(&b'\n') {
                    return Err(Rule::BadArgument.broken_by(u64::from(b'\n')));
                }
                host.report(self.number, line);
            }
            Hypercall::GetTime => return Ok(Some(self.clock(host).0)),
            Hypercall::Cpuid => {
                let (Ok(leaf), Ok(subleaf)) = (u32::try_from(first), u32::try_from(second)) else {
                    return Err(Rule::BadArgument.broken_by(first | second));
                };
                for (to, value) in data.cpuid.iter().zip(host.cpuid(leaf, subleaf)) {
                    to.store(value, Relaxed);
                }
            }
            Hypercall::ConsoleRead => {
                memory.check(GuestPhys(first), second)?;
                let mut count = 0;
                while count < second
                    && !self.devices.take_input()
                    && let Some(byte) = self.input.pop()
                {
                    memory.copy_in(GuestPhys(first + count), &[byte])?;
                    count += 1;
                }
                return Ok(Some(count));
            }
            // They change where the guest goes on, and come here from nowhere.
            Hypercall::Iret | Hypercall::Sysret => return Err(Rule::NotInRing.broken_by(call.what as u64)),
        }
        Ok(None)
    }

    fn init(&mut self, at: GuestPhys, host: &mut impl Host) -> Result<(), Broken> {
        let data = self.memory.shared_page(at)?;
        let (reserve_start, reserve_end) = entry_range(self.shadow().host().index);
        let entry_point = |word: &core::sync::atomic::AtomicU64| {
            let address = word.load(Relaxed);
            if address < KERNEL_HALF {
                return Err(Rule::BadEntryPoint.broken_by(address));
            }
            if (reserve_start..reserve_end).contains(&address) {
                return Err(Rule::HostRange.broken_by(address));
            }
            Ok(VirtAddr(address))
        };
        if data.kernel_address.load(Relaxed) != KERNEL_HALF {
            return Err(Rule::BadEntryPoint.broken_by(data.kernel_address.load(Relaxed)));
        }
        self.vcpu.entries = EntryPoints {
            from_user: entry_point(&data.event_from_user)?,
            from_kernel: entry_point(&data.event_from_kernel)?,
            system_call: entry_point(&data.system_call)?,
            noirq_start: entry_point(&data.noirq_start)?,
            noirq_end: entry_point(&data.noirq_end)?,
        };
        let scale = host.scale();
        data.tsc_khz.store(u32::try_from(scale.kilohertz()).unwrap_or(u32::MAX), Relaxed);
        data.tsc_scale.store(scale.0, Relaxed);
        data.tsc_base.store(self.started, Relaxed);
        let base = host.wall_clock_base().map_or(0, |base| (base + scale.time(self.started)).0);
        data.wall_clock_base.store(base, Relaxed);
        data.reserve_start.store(reserve_start, Relaxed);
        data.reserve_end.store(reserve_end, Relaxed);
        data.vcpu.store(0, Relaxed);
        data.irq_enabled.store(0, Relaxed);
        data.irq_pending.store(0, Relaxed);
        self.refresh_time(data, host);
        self.vcpu.data = Some(data);
        Ok(())
    }

    /// SET_PTE.
    fn page_changed(&mut self, root: u64, page: VirtAddr, entry: u64) -> Result<(), Broken> {
        // An entry marked accessed says that the page will be used; a fill finds the new entry too.
        let soon = entry & (PRESENT | ACCESSED) == PRESENT | ACCESSED;
        if soon && page.0 < USER_END && self.shadow().guest_root() == GuestRoot::Table(GuestPhys(root)) {
            let memory = self.memory;
            if self.shadow().fill_ahead(&memory, page, Access::default())? == Fill::Filled {
                self.vcpu.fault = self.vcpu.fault.filter(|address| address.page() != page);
                return Ok(());
            }
        }
        let end = VirtAddr(page.0.wrapping_add(PAGE_SIZE));
        self.refresh(root, page, end)
    }

    /// SET_RANGE.
    fn refresh(&mut self, root: u64, start: VirtAddr, end: VirtAddr) -> Result<(), Broken> {
        let kernel = start.0 >= KERNEL_HALF;
        // The last page of all ends at 0.
        let last = end.0.wrapping_sub(1);
        let ordered = start == end || (start.0 <= last && (last >= KERNEL_HALF) == kernel);
        if !start.is_page_aligned() || !end.is_page_aligned() || !ordered {
            return Err(Rule::UnalignedAddress.broken_by(start.0));
        }
        if !kernel && last >= USER_END && start != end {
            return Err(Rule::UnalignedAddress.broken_by(end.0));
        }
        if kernel != (root == 0) {
            return Err(Rule::BadArgument.broken_by(root));
        }
        let memory = self.memory;
        let pages = PageRange { start, end };
        self.shadow().refresh(&memory, (!kernel).then_some(GuestPhys(root)), pages)
    }

    /// Hands the text at `at` on in pieces.
    fn text(&self, at: GuestPhys, bytes: u64, mut to: impl FnMut(&[u8])) -> Result<(), Broken> {
        if bytes > MOST_TEXT {
            return Err(Rule::BadArgument.broken_by(bytes));
        }
        self.memory.check(at, bytes)?;
        let mut piece = [0; 128];
        let mut done = 0;
        while done < bytes {
            let length = (bytes - done).min(piece.len() as u64);
            let piece = &mut piece[..length as usize];
            self.memory.copy_out(GuestPhys(at.0 + done), piece)?;
            to(piece);
            done += length;
        }
        Ok(())
    }

    fn shut_down(
        &mut self,
        text: GuestPhys,
        reason: u64,
        status: u64,
        host: &mut impl Host,
    ) -> Result<(), Broken> {
        let reason = ShutdownReason::from_number(reason).ok_or(Rule::BadArgument.broken_by(reason))?;
        let status = u8::try_from(status).map_err(|_| Rule::BadArgument.broken_by(status))?;
        if text.0 != 0 {
            let mut length = 0;
            let mut byte = [0];
            loop {
                self.memory.copy_out(GuestPhys(text.0.saturating_add(length)), &mut byte)?;
                if byte[0] == 0 {
                    break;
                }
                length += 1;
                if length >= MOST_TEXT {
                    return Err(Rule::BadArgument.broken_by(text.0));
                }
            }
            let number = self.number;
            self.text(text, length, |piece| host.print(number, piece))?;
            host.print(number, b"\r\n");
        }
        self.state = State::Over(Outcome::ShutDown { reason, status });
        Ok(())
    }
}
