//! Guests of one lguest hypervisor that want what is another's, and what the hypervisor counts.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::bench::exits::{Counters, RING_OFF, counters};
use crate::lguest::Network;
use crate::testing::case::{Case, Files, Source, case};
use crate::testing::programs::Program;
use crate::variant::{Backend, Product};
use crate::workspace::Workspace;

/// The cases.
pub fn cases(workspace: &Workspace) -> Result<Vec<Case>> {
    Ok(vec![
        rules(workspace)?,
        shares(),
        spinner(),
        state(),
        hostile_neighbour(),
        evictions(),
        waiting(),
        not_waiting(),
        restarts(),
        counters_on_request(),
        counters_of_one(),
        killed(),
        killed_after_report(),
    ])
}

/// What happens to the breaches of `arch-lguest/hostile/src/breach.rs`, in their order: rules, and how often each is broken.
const BREACHES: [(&str, usize); 17] = [
    ("init-first", 1),
    ("init-once", 1),
    ("unknown-hypercall", 2),
    ("address-outside-memory", 5),
    ("unaligned-address", 5),
    ("bad-argument", 9),
    ("not-in-ring", 2),
    ("reserved-bits", 3),
    ("frame-outside-memory", 3),
    ("host-range", 3),
    ("bad-entry-point", 3),
    ("bad-return", 1),
    ("stack-unmapped", 3),
    ("early-fault", 1),
    ("released-root", 1),
    ("bad-device", 1),
    ("bad-queue", 1),
];

/// A guest breaks every rule that `ABI.md` has: each time the host says which, and the guest beside it goes on.
fn rules(workspace: &Workspace) -> Result<Case> {
    let breach = case("lguest/rules")
        .backend(Backend::Lguest)
        .product(Product::Hostile)
        .files(Files::None)
        .memory(4)
        .guests(2, "restart=1000")
        .append("role=breach")
        .wait_for("breach: all rules have been broken")
        // The key goes to the second guest, where it waits until that one looks.
        .type_in("\x1d1q")
        .prints("[1] neighbour: watching")
        .prints("[1] neighbour: memory unchanged")
        .judged(all_breaches_were_seen);
    Ok(documented_rules(workspace)?
        .iter()
        .fold(breach, |case, rule| case.prints(&format!("guest 0: killed: {rule} ("))))
}

fn documented_rules(workspace: &Workspace) -> Result<Vec<String>> {
    let path = workspace.root.join("arch-lguest/ABI.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let section =
        text.split("\n## ").find(|section| section.starts_with("Rules")).context("no section Rules")?;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |")).skip(1);
    let rules: Vec<String> = rows.flat_map(|(names, _)| names.split(", ")).map(str::to_owned).collect();
    ensure!(!rules.is_empty(), "{} has no table of rules", path.display());
    Ok(rules)
}

fn all_breaches_were_seen(console: &str) -> Result<()> {
    let killed = console.lines().filter_map(|line| line.split_once("guest 0: killed: ")?.1.split(' ').next());
    let killed: Vec<&str> = killed.collect();
    let expected: Vec<&str> =
        BREACHES.into_iter().flat_map(|(rule, times)| std::iter::repeat_n(rule, times)).collect();
    ensure!(killed == expected, "expected {expected:?}, seen {killed:?}");
    Ok(())
}

/// A guest whose program tells what part of the processor it gets.
fn rival(name: &str, from: &str, milliseconds: &str) -> Case {
    let path = "/test/rival";
    case(name)
        .backend(Backend::Lguest)
        .memory(32)
        .by_instructions()
        .with(path, Source::Program(Program::Rust("rival".to_owned())))
        .argv([path, from, milliseconds])
}

/// The percentage that a guest's rival got.
fn part(console: &str, guest: usize) -> Result<u32> {
    let prefix = format!("[{guest}] rival: ");
    let line = console.lines().find_map(|line| line.split_once(&prefix)).context("a rival said nothing")?;
    line.1.trim_end_matches(" %").parse().with_context(|| format!("{:?} is no percentage", line.1))
}

/// Both want the processor all the time, for the same time.
fn shares() -> Case {
    // A second after the machine's clock began: both have started by then.
    rival("lguest/shares", "1767225601", "480").guests(2, "").shares([300, 100]).judged(|console| {
        let parts = [part(console, 0)?, part(console, 1)?];
        ensure!((70..=78).contains(&parts[0]) && (22..=30).contains(&parts[1]), "3:1 became {parts:?}");
        Ok(())
    })
}

/// The other guest never gives the processor up and takes no interrupt.
fn spinner() -> Case {
    rival("lguest/spinner", "now", "120")
        .guests(2, "")
        .beside(Product::Hostile, "role=spin until=900 beside=other")
        .prints("[1] spinner: the end")
        .judged(|console| {
            let part = part(console, 0)?;
            ensure!((45..=55).contains(&part), "half of the processor became {part} %");
            Ok(())
        })
}

/// Both have everything in registers that only a change of guests touches, each something else.
fn state() -> Case {
    case("lguest/state")
        .backend(Backend::Lguest)
        .product(Product::Hostile)
        .files(Files::None)
        .memory(4)
        .by_instructions()
        .append("role=state until=60")
        .guests(2, "counters")
        .prints("[0] state: kept")
        .prints("[1] state: kept")
        .judged(|console| {
            for guest in 0..2 {
                let switches = of(&counters(console, guest)?, "switches");
                ensure!(switches >= 5, "guest {guest} got the processor {switches} times");
            }
            Ok(())
        })
}

/// A real guest works while the other attacks the hypervisor.
fn hostile_neighbour() -> Case {
    program("lguest/hostile-neighbour", "memory")
        .guests(2, "restart=1000000")
        .disk(&[0x5a; 64 * 512], false)
        .network(Network::Guests)
        .beside(Product::Hostile, "seed=1001 lives=40 beside=other")
        .prints("guest 0: exit 0")
        .prints("hostile: lives survived by the host: 40")
        .never_prints("hostile: panic")
        .never_prints("REACHED")
}

/// A program that tests memory has fewer shadow tables than it needs.
fn evictions() -> Case {
    program("lguest/evictions", "memory").guests(1, "counters tables=32").judged(|console| {
        let counters = counters(console, 0)?;
        let evictions = of(&counters, "evictions");
        // How many depends on when which process runs: 76 is the least seen.
        ensure!(evictions >= 10, "there were only {evictions} evictions");
        Ok(())
    })
}

fn program(name: &str, program: &str) -> Case {
    let path = format!("/test/{program}");
    case(name)
        .backend(Backend::Lguest)
        .with(&path, Source::Program(Program::Rust(program.to_owned())))
        .argv([&path])
        .prints("passed, 0 failed\n")
        .limit(180)
}

const SWITCHES: u64 = 200;

/// So many changes of address space, under a hypervisor that counts.
fn switches(name: &str) -> Case {
    let path = "/test/bench";
    case(name)
        .backend(Backend::Lguest)
        .with(path, Source::Program(Program::Rust("bench".to_owned())))
        .argv([path, "--times", &SWITCHES.to_string(), "switch_pipe_one_cpu"])
        .guests(1, "counters")
        .prints("bench: done")
}

/// Calls wait in the ring.
fn waiting() -> Case {
    switches("lguest/ring").judged(|console| {
        let counters = counters(console, 0)?;
        let (waited, direct) =
            (of(&counters, "hypercall NEW_PGTABLE ring"), of(&counters, "hypercall NEW_PGTABLE"));
        ensure!(waited >= SWITCHES && direct <= 5, "{waited} loads of a root waited, {direct} did not");
        Ok(())
    })
}

/// No call waits.
fn not_waiting() -> Case {
    switches("lguest/no-ring").append(RING_OFF).judged(|console| {
        let counters = counters(console, 0)?;
        if let Some(waited) = counters.keys().find(|name| name.ends_with(" ring")) {
            bail!("{waited} waited");
        }
        let direct = of(&counters, "hypercall NEW_PGTABLE");
        ensure!(direct >= SWITCHES, "there were only {direct} loads of a root");
        Ok(())
    })
}

fn of(counters: &Counters, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or(0)
}

/// A guest that asks for a restart gets it; its second life ends with its own status.
fn restarts() -> Case {
    case("lguest/restart")
        .backend(Backend::Lguest)
        .memory(32)
        .guests(1, "counters restart=asked")
        .sh("echo what next; read answer; case $answer in again) reboot -f; sleep 1000;; end) exit 5;; esac")
        .wait_for("what next")
        .type_in("again\n")
        .wait_for("what next")
        .type_in("end\n")
        .exits(5)
        .prints("restarts 1\n")
}

/// Counters of every guest, while they run.
fn counters_on_request() -> Case {
    case("lguest/counters-on-request")
        .backend(Backend::Lguest)
        .memory(32)
        .guests(2, "")
        .sh("echo ready; read line; echo got $line")
        .wait_for("[0] ready")
        .type_in("\x1dc")
        .wait_for("guest 0 counters")
        .wait_for("guest 1 counters")
        .wait_for("restarts 0")
        .type_in("\x1d0one\n\x1d1two\n")
        .prints("[0] got one")
        .prints("[1] got two")
}

/// The same with one guest, to which every other key goes, Ctrl-] itself too.
fn counters_of_one() -> Case {
    case("lguest/counters-of-one")
        .backend(Backend::Lguest)
        .memory(32)
        .sh("stty -echoctl; echo ready; read line; echo -n \"$line\" | od -An -tx1")
        .wait_for("ready")
        .type_in("\x1dc")
        .wait_for("guest 0 counters")
        .wait_for("restarts 0")
        .type_in("c\x1d\x1dd\n")
        .prints("63 1d 64")
}

/// What the only guest has reported of its end before it is killed is worth nothing.
fn killed_after_report() -> Case {
    case("lguest/killed-after-report")
        .backend(Backend::Lguest)
        .product(Product::Hostile)
        .files(Files::None)
        .memory(4)
        .append("role=report")
        .panics()
        .prints("guest 0: killed: unknown-hypercall (")
}

/// The only guest is killed: that is the machine's status.
fn killed() -> Case {
    case("lguest/killed")
        .backend(Backend::Lguest)
        .product(Product::Hostile)
        .files(Files::None)
        .memory(4)
        .append("role=breach")
        .panics()
        .prints("guest 0: killed: init-first (0x41)")
}
