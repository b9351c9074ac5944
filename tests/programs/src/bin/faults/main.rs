//! Faults: what a program that does the impossible is told, and that the kernel survives it.

mod access;
mod instructions;
mod killed;

fn main() {
    guest_programs::run(&[access::CASES, instructions::CASES, killed::CASES], &[])
}
