//! Files: opening, reading and writing, names, directories, attributes, descriptors, mounts.

mod attributes;
mod descriptors;
mod directories;
mod links;
mod mounts;
mod names;
mod open;
mod rename;
mod transfer;

fn main() {
    guest_programs::run(
        &[
            open::CASES,
            transfer::CASES,
            links::CASES,
            rename::CASES,
            directories::CASES,
            names::CASES,
            attributes::CASES,
            descriptors::CASES,
            mounts::CASES,
        ],
        &[],
    )
}
