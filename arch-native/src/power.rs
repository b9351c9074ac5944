//! The end of the machine, and the channel beside the console.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use platform::{End, Kernel};
use x86_64::instructions::port::Port;
use x86_64::structures::DescriptorTablePointer;

use crate::cpu::NativeCpu;
use crate::cpu::features::{Features, has};
use crate::firmware::power as acpi;
use crate::time::tsc;

/// [`platform::Power`] of a bare PC.
#[derive(Debug)]
pub struct NativePower<K>(PhantomData<K>);

/// QEMU's `isa-debugcon`: reads as its own number.
const DEBUG_CONSOLE: u16 = 0xe9;
/// QEMU's `isa-debug-exit`.
const DEBUG_EXIT: u16 = 0xf4;

/// Exit values for an end that is not process 1's.
const PANIC: u8 = 101;
const UNUSABLE: u8 = 102;

/// Whether the debug console is there: 0 unknown, 1 no, 2 yes.
static CHANNEL: AtomicU8 = AtomicU8::new(0);

fn has_channel() -> bool {
    if CHANNEL.load(Relaxed) == 0 {
        // SAFETY: reading the port has no effect on a machine without the device.
        let present = unsafe { Port::<u8>::new(DEBUG_CONSOLE).read() } == DEBUG_CONSOLE as u8;
        CHANNEL.store(1 + u8::from(present), Relaxed);
    }
    CHANNEL.load(Relaxed) == 2
}

/// Writes one line to the channel.
pub(crate) fn report(line: &[u8]) {
    if !has_channel() {
        return;
    }
    let mut port = Port::<u8>::new(DEBUG_CONSOLE);
    for &byte in line.iter().chain(b"\n") {
        // SAFETY: the device is there.
        unsafe { port.write(byte) };
    }
}

/// Says why the boot cannot go on, and ends the machine.
#[cfg(target_os = "none")]
pub(crate) fn unusable<K: Kernel>(reason: platform::Unusable) -> ! {
    crate::console::write(b"monoguest: cannot run on this machine: ");
    crate::console::write(reason.0.as_bytes());
    crate::console::write(b"\r\n");
    let mut line = [0; 128];
    let text = b"unusable ".iter().chain(reason.0.as_bytes());
    let length = line.iter_mut().zip(text).map(|(to, from)| *to = *from).count();
    report(&line[..length]);
    NativePower::<K>::end(End::Unusable)
}

#[platform::backend]
impl<K: Kernel> platform::Power for NativePower<K> {
    fn report(line: &[u8]) {
        report(line);
    }

    #[cold]
    fn end(how: End) -> ! {
        NativeCpu::<K>::irq_disable();
        if how == End::Restart {
            restart();
            NativeCpu::<K>::halt();
        }
        // Only an emulator has the exit device; on a real machine the port may be anything. Where it is, it reads as 0.
        // SAFETY: nothing else answers at this port under a hypervisor.
        if (has(Features::HYPERVISOR) || has_channel()) && unsafe { Port::<u32>::new(DEBUG_EXIT).read() } == 0
        {
            let value = match how {
                End::Exit(status) => status,
                End::PowerOff | End::Restart => 0,
                End::Panic => PANIC,
                End::Unusable => UNUSABLE,
            };
            // SAFETY: nothing else answers at this port under a hypervisor.
            unsafe { Port::new(DEBUG_EXIT).write(u32::from(value)) };
            // The emulator ends a moment later.
            tsc::spin(tsc::TICKS_FOR_EFFECT);
        }
        acpi::enter_s5();
        tsc::spin(tsc::TICKS_FOR_EFFECT);
        // Nothing could switch the machine off. A panic must not restart it and hide itself.
        if !matches!(how, End::Panic | End::Unusable) {
            triple_fault();
        }
        NativeCpu::<K>::halt()
    }
}

/// Restarts the machine by the first way that works: ACPI's reset register, the chipset's, the keyboard controller's,
/// and a fault that cannot be handled.
fn restart() {
    acpi::reset();
    tsc::spin(tsc::TICKS_FOR_EFFECT);
    // SAFETY: the machine is to be reset; a port that does not exist swallows the write.
    unsafe {
        let mut chipset = Port::<u8>::new(0xcf9);
        chipset.write(0x02);
        chipset.write(0x06);
        tsc::spin(tsc::TICKS_FOR_EFFECT);
        Port::<u8>::new(0x64).write(0xfe);
    }
    tsc::spin(tsc::TICKS_FOR_EFFECT);
    triple_fault();
}

fn triple_fault() {
    let nothing = DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: without an interrupt table the breakpoint resets the processor, which is what is asked for.
    unsafe {
        x86_64::instructions::tables::lidt(&nothing);
        core::arch::asm!("int3");
    }
}
