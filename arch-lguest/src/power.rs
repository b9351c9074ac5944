//! The end of the guest, and the channel beside the console.

use core::marker::PhantomData;

use lguest_abi::ShutdownReason;
use platform::{End, Kernel};

use crate::{console, host, irq};

/// [`platform::Power`] of an lguest guest.
#[derive(Debug)]
pub struct LguestPower<K>(PhantomData<K>);

/// Says why the boot cannot go on, and ends the guest.
#[cfg(target_os = "none")]
pub fn unusable<K: Kernel>(reason: platform::Unusable) -> ! {
    console::write(b"monoguest: cannot run on this machine: ");
    console::write(reason.0.as_bytes());
    console::write(b"\r\n");
    let mut line = [0; 128];
    let text = b"unusable ".iter().chain(reason.0.as_bytes());
    let length = line.iter_mut().zip(text).map(|(to, from)| *to = *from).count();
    console::report(&line[..length]);
    LguestPower::<K>::end(End::Unusable)
}

#[platform::backend]
impl<K: Kernel> platform::Power for LguestPower<K> {
    fn report(line: &[u8]) {
        console::report(line);
    }

    #[cold]
    fn end(how: End) -> ! {
        irq::disable();
        let (reason, status) = match how {
            End::Exit(status) => (ShutdownReason::Exit, status),
            End::PowerOff => (ShutdownReason::PowerOff, 0),
            End::Restart => (ShutdownReason::Restart, 0),
            End::Panic => (ShutdownReason::Panic, 0),
            End::Unusable => (ShutdownReason::Unusable, 0),
        };
        host::shut_down(reason, status)
    }
}
