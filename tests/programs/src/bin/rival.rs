//! What part of the processor this program gets, beside other guests of one hypervisor that want it too: prints `rival: N %`.
//!
//! `rival now|SECONDS MILLISECONDS`: for so long, from now on or from that moment of the wall clock on, which is the same for
//! all guests. It counts how often it comes to do a piece of work; what that takes undisturbed is measured before. Good under a
//! clock that counts instructions, where a piece always takes the same.

use guest_programs::harness::print;
use guest_programs::ok;
use guest_programs::sys::exit_group;
use guest_programs::time::{MILLI, SECOND, clock, elapsed, sleep};
use std::hint::black_box;

/// Long against reading the clock, and short against a time slice.
const STEPS: u32 = 10_000;
/// Some of so many in a row are undisturbed.
const SAMPLES: u32 = 200;

fn main() {
    let mut args = std::env::args().skip(1);
    let from = args.next().unwrap_or_default();
    let moment = from.parse::<i64>().ok();
    let length = args.next().and_then(|n| n.parse::<i64>().ok());
    let Some(length) = length.filter(|_| moment.is_some() || from == "now") else {
        print("usage: rival now|SECONDS MILLISECONDS\n");
        exit_group(2);
    };
    let least = (0..SAMPLES).map(|_| elapsed(piece)).min().unwrap_or(0).max(1);
    let begin = moment.map_or_else(wall_clock, |seconds| seconds * SECOND);
    if moment.is_some() {
        let early = begin - wall_clock();
        if early <= 0 {
            print(&format!("rival: too late by {} ms\n", -early / MILLI));
            exit_group(1);
        }
        sleep(early);
    }
    // Who comes late to a moment that was agreed on has lost that time.
    let end = begin + length * MILLI;
    let mut pieces = 0;
    while wall_clock() < end {
        piece();
        pieces += 1;
    }
    print(&format!("rival: {} %\n", pieces * least * 100 / (length * MILLI)));
}

fn wall_clock() -> i64 {
    ok!(clock(libc::CLOCK_REALTIME))
}

fn piece() {
    for step in 0..STEPS {
        black_box(step);
    }
}
