//! What one process sees of another must fit what system calls then say, however the two fall together: each case lets
//! them meet many times.

mod ends;
mod groups;
mod masks;
mod stops;
mod timers;
mod times;

fn main() {
    guest_programs::run(
        &[stops::CASES, groups::CASES, masks::CASES, ends::CASES, timers::CASES, times::CASES],
        &[],
    )
}
