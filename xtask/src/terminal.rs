//! The state of this terminal, kept while QEMU uses it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// What QEMU changes on standard input, output and error: put back when this is dropped.
#[derive(Debug)]
pub struct Saved {
    modes: Option<Termios>,
    flags: [Option<OFlag>; 3],
}

impl Saved {
    /// Remembers the present state.
    pub fn take() -> Self {
        let flags = with_streams(|stream| fcntl(stream, FcntlArg::F_GETFL).ok().map(OFlag::from_bits_retain));
        Self { modes: tcgetattr(std::io::stdin()).ok(), flags }
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        // QEMU makes the streams non-blocking, which whoever shares them would see as failing writes.
        let mut flags = self.flags.into_iter();
        with_streams(|stream| {
            if let Some(Some(flags)) = flags.next() {
                let _ = fcntl(stream, FcntlArg::F_SETFL(flags));
            }
        });
        if let Some(modes) = &self.modes {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, modes);
        }
    }
}

fn with_streams<T>(mut action: impl FnMut(BorrowedFd<'_>) -> T) -> [T; 3] {
    [action(std::io::stdin().as_fd()), action(std::io::stdout().as_fd()), action(std::io::stderr().as_fd())]
}
