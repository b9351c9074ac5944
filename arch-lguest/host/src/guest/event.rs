//! Entries to the guest's kernel, and returns from it.

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{Event, FIRST_INTERRUPT_VECTOR, IRQ_ENABLED, LguestData, USER_FLAGS};
use platform::VirtAddr;

use super::{Guest, Host, State};
use crate::context::{Context, Mode, Registers, sign_extended};
use crate::devices::With;
use crate::memory::GuestPhys;
use crate::rule::{Broken, Rule};
use crate::tables::guest::{is_canonical, locate};
use crate::tables::shadow::{Access, Fill};

const INTERRUPT_FLAG: u64 = 1 << 9;
const GENERAL_PROTECTION: u32 = 13;

/// The five words of an interrupt return.
struct ReturnFrame {
    rip: VirtAddr,
    cs: u64,
    rflags: u64,
    rsp: u64,
}

impl Guest {
    /// Delivers `event`.
    pub(super) fn deliver(&mut self, context: &mut Context, event: Event) -> Result<(), Broken> {
        let registers = &mut context.registers;
        let Some(data) = self.vcpu.data else {
            return Err(Rule::EarlyFault.broken_by(u64::from(event.vector)));
        };
        let from_user = context.mode == Mode::User;
        let top = if from_user { data.kernel_stack.load(Relaxed) } else { registers.rsp } & !15;
        let enabled = from_user || data.irq_enabled.load(Relaxed) != 0;
        let (cs, ss) = if from_user { (Registers::CODE, Registers::DATA) } else { (0x10, 0x18) };
        let words = [
            event.word(),
            registers.rip,
            cs,
            (registers.rflags & !INTERRUPT_FLAG) | if enabled { INTERRUPT_FLAG } else { 0 },
            registers.rsp,
            ss,
        ];
        let frame = top.wrapping_sub(size_of_val(&words) as u64);
        self.write_words(VirtAddr(frame), &words)?;
        if from_user {
            data.user_gsbase.store(context.gs_base, Relaxed);
            context.gs_base = sign_extended(data.kernel_gsbase.load(Relaxed));
            context.mode = Mode::Kernel;
            registers.rip = self.vcpu.entries.from_user.0;
        } else {
            registers.rip = self.vcpu.entries.from_kernel.0;
        }
        registers.rsp = frame;
        registers.rflags = Registers::FLAGS;
        data.irq_enabled.store(0, Relaxed);
        match event.vector {
            14 => self.counters.page_faults += 1,
            FIRST_INTERRUPT_VECTOR.. => self.counters.interrupts += 1,
            _ => self.counters.exceptions += 1,
        }
        Ok(())
    }

    /// Writes words to the guest kernel's stack, `to` being a multiple of 8.
    fn write_words(&mut self, to: VirtAddr, words: &[u64]) -> Result<(), Broken> {
        let mut place = None;
        for (at, &word) in words.iter().enumerate() {
            let address = self.stack_word(VirtAddr(to.0.wrapping_add(at as u64 * 8)), place, true)?;
            self.memory.write(address, word)?;
            place = Some(address);
        }
        Ok(())
    }

    /// Where the word of the stack at `address` is; `before` is where the word before it is, if there is one.
    #[inline]
    fn stack_word(
        &mut self,
        address: VirtAddr,
        before: Option<GuestPhys>,
        to_write: bool,
    ) -> Result<GuestPhys, Broken> {
        if let Some(before) = before
            && !address.is_page_aligned()
        {
            return Ok(GuestPhys(before.0 + 8));
        }
        if self.shadow().host().covers(address) {
            return Err(Rule::HostRange.broken_by(address.0));
        }
        let root = self.shadow().guest_root();
        locate(&self.memory, root, address, to_write)?.ok_or(Rule::StackUnmapped.broken_by(address.0))
    }

    fn read_frame(&mut self, rsp: u64) -> Result<ReturnFrame, Broken> {
        if !rsp.is_multiple_of(8) {
            return Err(Rule::StackUnmapped.broken_by(rsp));
        }
        let mut words = [0; 4];
        let mut place = None;
        for (at, word) in words.iter_mut().enumerate() {
            let address = self.stack_word(VirtAddr(rsp.wrapping_add(at as u64 * 8)), place, false)?;
            *word = self.memory.read(address)?;
            place = Some(address);
        }
        let [rip, cs, rflags, rsp] = words;
        Ok(ReturnFrame { rip: VirtAddr(rip), cs, rflags, rsp })
    }

    /// IRET.
    pub(super) fn interrupt_return(
        &mut self,
        context: &mut Context,
        data: &LguestData,
    ) -> Result<(), Broken> {
        let frame = self.read_frame(context.registers.rsp)?;
        let registers = &mut context.registers;
        registers.rax = data.user_rax.load(Relaxed);
        registers.rcx = data.user_rcx.load(Relaxed);
        registers.r11 = data.user_r11.load(Relaxed);
        registers.rsp = frame.rsp;
        if frame.cs & 3 == 3 {
            return self.enter_user(context, data, frame.rip, frame.rflags);
        }
        self.resume_kernel(context, data, &frame)
    }

    fn resume_kernel(
        &mut self,
        context: &mut Context,
        data: &LguestData,
        frame: &ReturnFrame,
    ) -> Result<(), Broken> {
        if !is_canonical(frame.rip) {
            return Err(Rule::BadReturn.broken_by(frame.rip.0));
        }
        context.registers.rip = frame.rip.0;
        context.registers.rsp = frame.rsp;
        context.registers.rflags = frame.rflags & USER_FLAGS | Registers::FLAGS;
        let enabled = if frame.rflags & INTERRUPT_FLAG != 0 { IRQ_ENABLED } else { 0 };
        data.irq_enabled.store(enabled, Relaxed);
        Ok(())
    }

    /// SYSRET, where the entry code has not done it.
    pub(super) fn system_call_return(
        &mut self,
        context: &mut Context,
        data: &LguestData,
    ) -> Result<(), Broken> {
        let (rip, rflags) = (data.user_rip.load(Relaxed), data.user_rflags.load(Relaxed));
        context.registers.rax = data.user_rax.load(Relaxed);
        context.registers.rcx = rip;
        context.registers.r11 = rflags & USER_FLAGS | Registers::FLAGS;
        self.enter_user(context, data, VirtAddr(rip), rflags)
    }

    fn enter_user(
        &mut self,
        context: &mut Context,
        data: &LguestData,
        rip: VirtAddr,
        rflags: u64,
    ) -> Result<(), Broken> {
        context.registers.rip = rip.0;
        context.registers.rflags = rflags & USER_FLAGS | Registers::FLAGS;
        context.gs_base = sign_extended(data.user_gsbase.load(Relaxed));
        context.mode = Mode::User;
        data.irq_enabled.store(IRQ_ENABLED, Relaxed);
        if !is_canonical(rip) {
            return self.deliver(context, Event { vector: GENERAL_PROTECTION, error_code: 0 });
        }
        if let Some(address) = self.vcpu.fault.take() {
            // The access that faulted comes again: what it needs may be there now.
            let user = Access { user: true, ..Access::default() };
            let memory = self.memory;
            if self.shadow().fill_ahead(&memory, address, user)? == Fill::Filled {
                self.counters.fills_ahead += 1;
            }
        }
        Ok(())
    }

    /// Before the guest goes on: delivers an interrupt if one can be, and tells the guest if one waits.
    pub fn prepare(&mut self, context: &mut Context, host: &mut impl Host) -> Result<(), Broken> {
        let Some(data) = self.vcpu.data else { return Ok(()) };
        if self.vcpu.pending.bits() != 0 {
            self.run_ring(data, host)?;
        }
        if self.devices.have_work() {
            self.devices.work(&mut With {
                number: self.number,
                memory: self.memory,
                pending: &mut self.vcpu.pending,
                input: &mut self.input,
                counters: &mut self.counters,
                host,
            })?;
            if self.devices.have_work() {
                // Others come first.
                return Ok(());
            }
        }
        let Some(virq) = self.vcpu.pending.next(data) else {
            data.irq_pending.store(0, Relaxed);
            return Ok(());
        };
        if context.mode == Mode::Kernel {
            let rip = VirtAddr(context.registers.rip);
            if self.vcpu.entries.noirq_start <= rip && rip < self.vcpu.entries.noirq_end {
                let frame = self.read_frame(context.registers.rsp)?;
                self.resume_kernel(context, data, &frame)?;
            }
            if data.irq_enabled.load(Relaxed) == 0 {
                data.irq_pending.store(IRQ_ENABLED, Relaxed);
                return Ok(());
            }
        }
        self.state = State::Running;
        self.vcpu.pending.delivered(virq);
        self.refresh_time(data, host);
        self.deliver(context, Event { vector: FIRST_INTERRUPT_VECTOR + virq.0, error_code: 0 })?;
        self.vcpu.pending.announce(data);
        Ok(())
    }

    /// Sets the wall clock of the shared page.
    pub(super) fn refresh_time(&self, data: &LguestData, host: &mut impl Host) {
        let now = host.scale().time(host.counter());
        let wall = host.wall_clock_base().unwrap_or_default() + now;
        data.time.seconds.store(wall.seconds(), Relaxed);
        data.time.nanoseconds.store(u64::from(wall.subsec()), Relaxed);
    }
}
