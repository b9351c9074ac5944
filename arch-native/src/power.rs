//! The end of the machine, and the channel beside the console.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use platform::{End, Kernel};
use x86_64::structures::DescriptorTablePointer;

use crate::cpu::features::{Features, has};
use crate::firmware::power as acpi;
use crate::machine::Machine;
use crate::time::tsc;

/// [`platform::Power`] of a PC.
#[derive(Debug)]
pub struct PcPower<K, M>(PhantomData<(K, M)>);

/// QEMU's `isa-debugcon`: reads as its own number.
const DEBUG_CONSOLE: u16 = 0xe9;
/// QEMU's `isa-debug-exit`.
const DEBUG_EXIT: u16 = 0xf4;

/// The chipset's reset control, and the keyboard controller's commands.
const CHIPSET_RESET: u16 = 0xcf9;
const KEYBOARD_COMMAND: u16 = 0x64;

/// Exit values for an end that is not process 1's.
const PANIC: u8 = 101;
const UNUSABLE: u8 = 102;

/// Whether the debug console is there: 0 unknown, 1 no, 2 yes.
static CHANNEL: AtomicU8 = AtomicU8::new(0);

fn has_channel<M: Machine>() -> bool {
    if CHANNEL.load(Relaxed) == 0 {
        // SAFETY: reading the port has no effect on a machine without the device.
        let present = unsafe { M::in8(DEBUG_CONSOLE) } == DEBUG_CONSOLE as u8;
        CHANNEL.store(1 + u8::from(present), Relaxed);
    }
    CHANNEL.load(Relaxed) == 2
}

/// Writes one line to the channel.
pub(crate) fn report<M: Machine>(line: &[u8]) {
    if !has_channel::<M>() {
        return;
    }
    for &byte in line.iter().chain(b"\n") {
        // SAFETY: the device is there.
        unsafe { M::out8(DEBUG_CONSOLE, byte) };
    }
}

/// Says why the boot cannot go on, and ends the machine.
#[cfg(target_os = "none")]
pub fn unusable<K: Kernel, M: Machine>(reason: platform::Unusable) -> ! {
    crate::console::write::<M>(b"monoguest: cannot run on this machine: ");
    crate::console::write::<M>(reason.0.as_bytes());
    crate::console::write::<M>(b"\r\n");
    let mut line = [0; 128];
    let text = b"unusable ".iter().chain(reason.0.as_bytes());
    let length = line.iter_mut().zip(text).map(|(to, from)| *to = *from).count();
    report::<M>(&line[..length]);
    PcPower::<K, M>::end(End::Unusable)
}

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Power for PcPower<K, M> {
    fn report(line: &[u8]) {
        report::<M>(line);
    }

    #[cold]
    fn end(how: End) -> ! {
        M::irq_disable();
        if how == End::Restart {
            restart::<M>();
            M::halt();
        }
        // Only an emulator has the exit device; on a real machine the port may be anything. Where it is, it reads as 0.
        // SAFETY: nothing else answers at this port under a hypervisor.
        if (has(Features::HYPERVISOR) || has_channel::<M>()) && unsafe { M::in32(DEBUG_EXIT) } == 0 {
            let value = match how {
                End::Exit(status) => status,
                End::PowerOff | End::Restart => 0,
                End::Panic => PANIC,
                End::Unusable => UNUSABLE,
            };
            // SAFETY: nothing else answers at this port under a hypervisor.
            unsafe { M::out32(DEBUG_EXIT, u32::from(value)) };
            // The emulator ends a moment later.
            tsc::spin(tsc::TICKS_FOR_EFFECT);
        }
        M::power_off();
        acpi::enter_s5::<M>();
        tsc::spin(tsc::TICKS_FOR_EFFECT);
        // Nothing could switch the machine off. A panic must not restart it and hide itself.
        if !matches!(how, End::Panic | End::Unusable) {
            triple_fault::<M>();
        }
        M::halt()
    }
}

/// Restarts the machine by the first way that works: one of its own, ACPI's reset register, the chipset's, the keyboard controller's,
/// and a fault that cannot be handled.
fn restart<M: Machine>() {
    M::restart();
    acpi::reset::<M>();
    tsc::spin(tsc::TICKS_FOR_EFFECT);
    // SAFETY: the machine is to be reset; a port that does not exist swallows the write.
    unsafe {
        M::out8(CHIPSET_RESET, 0x02);
        M::out8(CHIPSET_RESET, 0x06);
        tsc::spin(tsc::TICKS_FOR_EFFECT);
        M::out8(KEYBOARD_COMMAND, 0xfe);
    }
    tsc::spin(tsc::TICKS_FOR_EFFECT);
    triple_fault::<M>();
}

fn triple_fault<M: Machine>() {
    let nothing = DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: without an interrupt table the breakpoint resets the processor, which is what is asked for.
    unsafe {
        M::load_idt(&nothing);
        core::arch::asm!("int3");
    }
}
