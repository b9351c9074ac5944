//! Threads: creation, joining, locks under load, thread-local storage, exits, robust lists.

mod ends;
mod locks;
mod many;

fn main() {
    guest_programs::run(&[many::CASES, locks::CASES, ends::CASES], ends::HELPERS)
}
