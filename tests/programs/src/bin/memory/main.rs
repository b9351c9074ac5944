//! Memory: mapping, protection, growth, copy-on-write, sharing.

mod cow;
mod map;
mod protect;
mod remap;
mod shared;

fn main() {
    guest_programs::run(&[map::CASES, protect::CASES, remap::CASES, cow::CASES, shared::CASES], &[])
}
