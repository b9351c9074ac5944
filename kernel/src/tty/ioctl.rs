//! Device control of terminals: `ioctl_tty(2)`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::discipline::Effects;
use super::job;
use super::terminal::{Far, Tty, WindowSize};
use super::termios::{Control, ShortTermios, Termios};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::{Pid, current};
use crate::signal::{SIGTTOU, Signal};
use crate::syscall::SysResult;

/// Requests (Linux include/uapi/asm-generic/ioctls.h).
mod request {
    pub const TCGETS: u32 = 0x5401;
    pub const TCSETS: u32 = 0x5402;
    pub const TCSETSW: u32 = 0x5403;
    pub const TCSETSF: u32 = 0x5404;
    pub const TCSBRK: u32 = 0x5409;
    pub const TCXONC: u32 = 0x540a;
    pub const TCFLSH: u32 = 0x540b;
    pub const TIOCEXCL: u32 = 0x540c;
    pub const TIOCNXCL: u32 = 0x540d;
    pub const TIOCSCTTY: u32 = 0x540e;
    pub const TIOCGPGRP: u32 = 0x540f;
    pub const TIOCSPGRP: u32 = 0x5410;
    pub const TIOCOUTQ: u32 = 0x5411;
    pub const TIOCSTI: u32 = 0x5412;
    pub const TIOCGWINSZ: u32 = 0x5413;
    pub const TIOCSWINSZ: u32 = 0x5414;
    pub const TIOCMGET: u32 = 0x5415;
    pub const FIONREAD: u32 = 0x541b;
    pub const TIOCGSERIAL: u32 = 0x541e;
    pub const TIOCNOTTY: u32 = 0x5422;
    pub const TIOCSETD: u32 = 0x5423;
    pub const TIOCGETD: u32 = 0x5424;
    pub const TCSBRKP: u32 = 0x5425;
    pub const TIOCSBRK: u32 = 0x5427;
    pub const TIOCCBRK: u32 = 0x5428;
    pub const TIOCGSID: u32 = 0x5429;
    pub const TCGETS2: u32 = 0x802c_542a;
    pub const TCSETS2: u32 = 0x402c_542b;
    pub const TCSETSW2: u32 = 0x402c_542c;
    pub const TCSETSF2: u32 = 0x402c_542d;
    pub const TIOCGPTN: u32 = 0x8004_5430;
    pub const TIOCSPTLCK: u32 = 0x4004_5431;
    pub const TIOCGDEV: u32 = 0x8004_5432;
    pub const TIOCSIG: u32 = 0x4004_5436;
    pub const TIOCVHANGUP: u32 = 0x5437;
    pub const TIOCGPTLCK: u32 = 0x8004_5439;
    pub const TIOCGEXCL: u32 = 0x8004_5440;
}

/// From which side a terminal is controlled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// As a terminal.
    Terminal,
    /// As the program that plays the terminal's user.
    Master,
}

/// What is flushed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Input,
    Output,
    Both,
}

/// Carries out `request`.
pub(super) fn ioctl(tty: &Arc<Tty>, side: Side, request: u32, argument: UserAddr) -> SysResult {
    match side {
        Side::Master if is_for_master(request) => master(tty, request, argument),
        _ => match request {
            request::TIOCSCTTY
            | request::TIOCNOTTY
            | request::TIOCGPGRP
            | request::TIOCSPGRP
            | request::TIOCGSID
            | request::TIOCVHANGUP => job_control(tty, side, request, argument),
            _ => settings(tty, side, request, argument),
        },
    }
}

fn is_for_master(request: u32) -> bool {
    use request::*;
    matches!(request, TIOCGPTN | TIOCSPTLCK | TIOCGPTLCK | TIOCSIG | FIONREAD | TIOCOUTQ)
}

fn master(tty: &Arc<Tty>, request: u32, argument: UserAddr) -> SysResult {
    let Far::Pty(pty) = &tty.far else { return Err(Errno::ENOTTY) };
    match request {
        request::TIOCGPTN => argument.write(&tty.number.minor)?,
        request::TIOCSPTLCK => pty.locked.store(argument.read::<i32>()? != 0, Ordering::Release),
        request::TIOCGPTLCK => argument.write(&i32::from(pty.locked.load(Ordering::Acquire)))?,
        request::TIOCSIG => {
            let signal = i32::try_from(argument.0).ok().and_then(Signal::new).ok_or(Errno::EINVAL)?;
            tty.signal_foreground(signal);
        }
        request::FIONREAD => argument.write(&(pty.waiting() as i32))?,
        // What the master writes is with the line discipline at once.
        request::TIOCOUTQ => argument.write(&0_i32)?,
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn job_control(tty: &Arc<Tty>, side: Side, request: u32, argument: UserAddr) -> SysResult {
    // The master's side may ask for what it has no part in itself.
    let concerned = side == Side::Master || tty.controls_current();
    match request {
        request::TIOCSCTTY => tty.become_controlling(argument.0 == 1)?,
        request::TIOCNOTTY if !tty.controls_current() => return Err(Errno::ENOTTY),
        request::TIOCNOTTY => job::give_up(&current().process),
        request::TIOCGPGRP if concerned => argument.write(&tty.foreground().0)?,
        request::TIOCSPGRP => {
            let group = Pid(argument.read()?);
            tty.set_foreground(group)?;
        }
        request::TIOCGSID if concerned => {
            let session = tty.owner.lock().session;
            if session == Pid(0) {
                return Err(Errno::ENOTTY);
            }
            argument.write(&session.0)?;
        }
        request::TIOCVHANGUP if current().process.credentials().is_privileged() => tty.hang_up(),
        request::TIOCVHANGUP => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn settings(tty: &Arc<Tty>, side: Side, request: u32, argument: UserAddr) -> SysResult {
    match request {
        request::TCGETS => {
            let termios = tty.line.lock().termios().short();
            argument.write(&termios)?;
        }
        request::TCGETS2 => {
            let termios = *tty.line.lock().termios();
            argument.write(&termios)?;
        }
        request::TCSETS | request::TCSETSW | request::TCSETSF => {
            let short: ShortTermios = argument.read()?;
            let wanted = tty.line.lock().termios().with_short(&short);
            set_termios(tty, wanted, request == request::TCSETSF)?;
        }
        request::TCSETS2 | request::TCSETSW2 | request::TCSETSF2 => {
            set_termios(tty, argument.read()?, request == request::TCSETSF2)?;
        }
        request::TCFLSH => {
            let what = match argument.0 {
                0 => Flush::Input,
                1 => Flush::Output,
                2 => Flush::Both,
                _ => return Err(Errno::EINVAL),
            };
            tty.check_foreground(SIGTTOU)?;
            flush(tty, what);
        }
        request::TCXONC => {
            tty.check_foreground(SIGTTOU)?;
            control_flow(tty, argument.0)?;
        }
        request::TCSBRK | request::TCSBRKP | request::TIOCSBRK | request::TIOCCBRK => {
            // Output is sent as it is written, and none of the far ends can see a break.
            tty.check_foreground(SIGTTOU)?;
        }
        request::TIOCGWINSZ => argument.write(&tty.window())?,
        request::TIOCSWINSZ => tty.set_window(argument.read::<WindowSize>()?),
        request::FIONREAD => {
            let bytes = tty.line.lock().readable_bytes();
            argument.write(&(bytes as i32))?;
        }
        request::TIOCOUTQ => {
            let waiting = if let Far::Pty(pty) = &tty.far { pty.waiting() } else { 0 };
            argument.write(&(waiting as i32))?;
        }
        // As where Linux has `dev.tty.legacy_tiocsti` off.
        request::TIOCSTI => return Err(Errno::EIO),
        request::TIOCEXCL => tty.exclusive.store(true, Ordering::Relaxed),
        request::TIOCNXCL => tty.exclusive.store(false, Ordering::Relaxed),
        request::TIOCGEXCL => argument.write(&i32::from(tty.exclusive.load(Ordering::Relaxed)))?,
        request::TIOCGETD => argument.write(&0_i32)?,
        request::TIOCSETD if argument.read::<i32>()? == 0 => tty.check_foreground(SIGTTOU)?,
        request::TIOCSETD => return Err(Errno::EINVAL),
        request::TIOCGDEV => argument.write(&(tty.number.encode() as u32))?,
        _ if side == Side::Terminal && matches!(tty.far, Far::Console) => return serial(request, argument),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// Requests that only serial lines answer.
fn serial(request: u32, argument: UserAddr) -> SysResult {
    /// DTR, RTS, CTS, carrier and DSR.
    const MODEM_LINES: i32 = 0x002 | 0x004 | 0x020 | 0x040 | 0x100;
    /// `struct serial_struct`: line 0 of an unknown kind.
    const SERIAL_BYTES: usize = 72;
    match request {
        request::TIOCMGET => argument.write(&MODEM_LINES)?,
        request::TIOCGSERIAL => argument.clear(SERIAL_BYTES)?,
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn set_termios(tty: &Tty, wanted: Termios, flush_input: bool) -> KResult<()> {
    tty.check_foreground(SIGTTOU)?;
    if flush_input {
        flush(tty, Flush::Input);
    }
    let mut effects = Effects::default();
    {
        let mut line = tty.line.lock();
        effects.readable = line.set_termios(wanted);
        if !wanted.input().contains(super::termios::InputFlags::IXON) {
            // Nobody could start output again.
            line.start(&mut effects);
        }
    }
    // VMIN may have become smaller: waiting readers look again.
    effects.readable = true;
    tty.input_room.wake_all();
    tty.carry_out(effects);
    Ok(())
}

fn flush(tty: &Tty, what: Flush) {
    if what != Flush::Output {
        tty.line.lock().flush_input();
        tty.input_room.wake_all();
    }
    if what != Flush::Input {
        tty.line.lock().drop_echo();
        if let Far::Pty(pty) = &tty.far {
            pty.drop_output();
        }
        tty.writers.wake_all();
    }
}

/// `tcflow(3)`
fn control_flow(tty: &Tty, action: u64) -> KResult<()> {
    let character = |control| {
        let byte = tty.line.lock().termios().character(control);
        if byte != 0 {
            tty.send_byte(byte);
        }
    };
    match action {
        0 => tty.line.lock().stop(),
        1 => {
            let mut effects = Effects::default();
            tty.line.lock().start(&mut effects);
            tty.carry_out(effects);
        }
        2 => character(Control::Stop),
        3 => character(Control::Start),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
