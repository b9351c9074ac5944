//! Files that tell of events: sets of files to wait for, counters, timers and queues of signals.

mod epoll;
mod epoll_calls;
mod epoll_nesting;
mod epoll_ready;
mod eventfd;
mod signalfd;
mod timerfd;

#[cfg(test)]
mod tests;

use crate::syscall::Handler;
use crate::syscall::numbers::*;

/// System calls of these files.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (EPOLL_CREATE, epoll_calls::epoll_create),
    (EPOLL_CREATE1, epoll_calls::epoll_create1),
    (EPOLL_CTL, epoll_calls::epoll_ctl),
    (EPOLL_WAIT, epoll_calls::epoll_wait),
    (EPOLL_PWAIT, epoll_calls::epoll_pwait),
    (EPOLL_PWAIT2, epoll_calls::epoll_pwait2),
    (EVENTFD, eventfd::eventfd),
    (EVENTFD2, eventfd::eventfd2),
    (SIGNALFD, signalfd::signalfd),
    (SIGNALFD4, signalfd::signalfd4),
    (TIMERFD_CREATE, timerfd::timerfd_create),
    (TIMERFD_SETTIME, timerfd::timerfd_settime),
    (TIMERFD_GETTIME, timerfd::timerfd_gettime),
];
