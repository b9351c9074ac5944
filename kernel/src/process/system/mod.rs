//! System calls about the system as a whole, and about what is kept for processes rather than done by them.

pub mod attributes;
pub mod names;

mod barrier;
mod groups;
mod machine;
mod prctl;
mod priority;
mod resources;
mod scheduling;
mod scheduling_abi;
mod users;

use crate::random;
use crate::syscall::{Handler, numbers as n};

/// This subsystem's system calls.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (n::UNAME, names::uname),
    (n::SETHOSTNAME, names::sethostname),
    (n::SETDOMAINNAME, names::setdomainname),
    (n::SYSINFO, machine::sysinfo),
    (n::SYSLOG, machine::syslog),
    (n::REBOOT, machine::reboot),
    (n::GETCPU, machine::getcpu),
    (n::GETRANDOM, random::getrandom),
    (n::MEMBARRIER, barrier::membarrier),
    (n::PRCTL, prctl::prctl),
    (n::PERSONALITY, prctl::personality),
    (n::GETRLIMIT, resources::getrlimit),
    (n::SETRLIMIT, resources::setrlimit),
    (n::PRLIMIT64, resources::prlimit64),
    (n::GETRUSAGE, resources::getrusage),
    (n::GETPRIORITY, priority::getpriority),
    (n::SETPRIORITY, priority::setpriority),
    (n::IOPRIO_GET, priority::ioprio_get),
    (n::IOPRIO_SET, priority::ioprio_set),
    (n::SCHED_YIELD, scheduling::sched_yield),
    (n::SCHED_SETAFFINITY, scheduling::sched_setaffinity),
    (n::SCHED_GETAFFINITY, scheduling::sched_getaffinity),
    (n::SCHED_SETPARAM, scheduling::sched_setparam),
    (n::SCHED_GETPARAM, scheduling::sched_getparam),
    (n::SCHED_SETSCHEDULER, scheduling::sched_setscheduler),
    (n::SCHED_GETSCHEDULER, scheduling::sched_getscheduler),
    (n::SCHED_GET_PRIORITY_MAX, scheduling::sched_get_priority_max),
    (n::SCHED_GET_PRIORITY_MIN, scheduling::sched_get_priority_min),
    (n::SCHED_RR_GET_INTERVAL, scheduling::sched_rr_get_interval),
    (n::SCHED_SETATTR, scheduling_abi::sched_setattr),
    (n::SCHED_GETATTR, scheduling_abi::sched_getattr),
    (n::GETUID, users::getuid),
    (n::GETEUID, users::geteuid),
    (n::GETRESUID, users::getresuid),
    (n::SETUID, users::setuid),
    (n::SETREUID, users::setreuid),
    (n::SETRESUID, users::setresuid),
    (n::SETFSUID, users::setfsuid),
    (n::CAPGET, users::capget),
    (n::CAPSET, users::capset),
    (n::GETGID, groups::getgid),
    (n::GETEGID, groups::getegid),
    (n::GETRESGID, groups::getresgid),
    (n::SETGID, groups::setgid),
    (n::SETREGID, groups::setregid),
    (n::SETRESGID, groups::setresgid),
    (n::SETFSGID, groups::setfsgid),
    (n::GETGROUPS, groups::getgroups),
    (n::SETGROUPS, groups::setgroups),
];
