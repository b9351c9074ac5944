//! Signals: dispositions, masks, queues, handlers and their frames, job control, interruption of calls.

mod action;
mod deliver;
mod frame;
mod interrupt;
mod jobs;
mod queue;

fn main() {
    guest_programs::run(
        &[action::CASES, deliver::CASES, queue::CASES, frame::CASES, interrupt::CASES, jobs::CASES],
        &[],
    )
}
