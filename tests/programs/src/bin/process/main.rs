//! Processes: fork, exec, wait, exit, groups, sessions, clone.

mod clone;
mod exec;
mod exec_errors;
mod fork;
mod groups;
mod wait;

fn main() {
    guest_programs::run(
        &[fork::CASES, exec::CASES, exec_errors::CASES, wait::CASES, groups::CASES, clone::CASES],
        exec::HELPERS,
    )
}
