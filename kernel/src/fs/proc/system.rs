//! Files about the system as a whole.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::fixed::{Fixed, Item, What};
use super::load::{self, TICK};
use super::mounts;
use super::sysctl;
use super::text::{Text, put};
use crate::devices::{self, block};
use crate::errno::KResult;
use crate::mm::heap::HEAP;
use crate::mm::{frames, shortage};
use crate::net::inet;
use crate::process::system::names::{RELEASE, VERSION};
use crate::process::{current, ids, tree};
use crate::time;

/// The top directory's own entries.
pub const ITEMS: &[Item<()>] = &[
    Item { name: "self", permissions: 0o777, what: What::Link(self_link) },
    Item { name: "thread-self", permissions: 0o777, what: What::Link(thread_self) },
    Item { name: "cmdline", permissions: 0o444, what: What::Text(command_line) },
    Item { name: "cpuinfo", permissions: 0o444, what: What::Text(cpu_info) },
    Item { name: "devices", permissions: 0o444, what: What::Text(device_drivers) },
    Item { name: "filesystems", permissions: 0o444, what: What::Text(filesystems) },
    Item { name: "interrupts", permissions: 0o444, what: What::Text(interrupts) },
    Item { name: "loadavg", permissions: 0o444, what: What::Text(load_average) },
    Item { name: "meminfo", permissions: 0o444, what: What::Text(memory) },
    Item { name: "mounts", permissions: 0o777, what: What::Link(|()| Ok(b"self/mounts".to_vec())) },
    Item { name: "partitions", permissions: 0o444, what: What::Text(partitions) },
    Item { name: "slabinfo", permissions: 0o400, what: What::Text(slabs) },
    Item { name: "stat", permissions: 0o444, what: What::Text(statistics) },
    Item { name: "swaps", permissions: 0o444, what: What::Text(swaps) },
    Item { name: "sys", permissions: 0o555, what: What::Directory(|(), number| sysctl::directory(number)) },
    Item { name: "uptime", permissions: 0o444, what: What::Text(uptime) },
    Item { name: "version", permissions: 0o444, what: What::Text(version) },
    Item { name: "vmstat", permissions: 0o444, what: What::Text(virtual_memory) },
    Item {
        name: "net",
        permissions: 0o555,
        what: What::Directory(|(), number| Box::new(Fixed::new((), (number << 16) | 1, NET))),
    },
];

/// Where programs look whether there is a network.
const NET: &[Item<()>] = if inet::AVAILABLE { WITH_INET } else { WITHOUT_INET };

const WITHOUT_INET: &[Item<()>] =
    &[Item { name: "dev", permissions: 0o444, what: What::Text(network_devices) }];

const WITH_INET: &[Item<()>] = &[
    Item { name: "arp", permissions: 0o444, what: What::Text(|()| inet::describe::neighbours()) },
    Item { name: "dev", permissions: 0o444, what: What::Text(|()| inet::describe::devices()) },
    Item { name: "pnp", permissions: 0o444, what: What::Text(|()| inet::describe::configured()) },
    Item { name: "raw", permissions: 0o444, what: What::Text(|()| inet::describe::raw()) },
    Item { name: "route", permissions: 0o444, what: What::Text(|()| inet::describe::routes()) },
    Item { name: "tcp", permissions: 0o444, what: What::Text(|()| inet::describe::tcp()) },
    Item { name: "udp", permissions: 0o444, what: What::Text(|()| inet::describe::udp()) },
];

fn network_devices(_: &()) -> KResult<Vec<u8>> {
    Ok(b"Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
        .to_vec())
}

fn self_link(_: &()) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    put!(text, "{}", current().process.pid.0);
    text.finish()
}

fn thread_self(_: &()) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    let task = current();
    put!(text, "{}/task/{}", task.process.pid.0, task.tid().0);
    text.finish()
}

fn command_line(_: &()) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    text.bytes(crate::boot::parameters::text());
    text.bytes(b"\n");
    text.finish()
}

fn version(_: &()) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    put!(text, "Linux version {RELEASE} (monoguest) {VERSION}\n");
    text.finish()
}

fn filesystems(_: &()) -> KResult<Vec<u8>> {
    Ok(b"nodev\ttmpfs\nnodev\tramfs\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\tproc\n".to_vec())
}

fn device_drivers(_: &()) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    text.bytes(
        b"Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n",
    );
    if devices::AVAILABLE {
        text.bytes(b"229 hvc\n\nBlock devices:\n254 virtblk\n");
    } else {
        text.bytes(b"\nBlock devices:\n");
    }
    text.finish()
}

fn partitions(_: &()) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    text.bytes(b"major minor  #blocks  name\n\n");
    for (number, sectors, name) in block::partitions() {
        put!(text, "{:>4}  {:>7} {:>10} {}\n", number.major, number.minor, sectors / 2, name.escape_ascii());
    }
    text.finish()
}

fn swaps(_: &()) -> KResult<Vec<u8>> {
    Ok(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec())
}

fn interrupts(_: &()) -> KResult<Vec<u8>> {
    use core::sync::atomic::Ordering;
    let mut text = Text::new();
    let counts: Vec<u64> = crate::percpu::online()
        .iter()
        .filter_map(crate::percpu::of)
        .map(|cpu| cpu.interrupts.load(Ordering::Relaxed))
        .collect();
    text.bytes(b"     ");
    for index in 0..counts.len() {
        put!(text, "       CPU{index:<2}");
    }
    text.bytes(b"\nALL: ");
    for count in counts {
        put!(text, "{count:>12}");
    }
    text.bytes(b"   All interrupts\n");
    text.finish()
}

fn uptime(_: &()) -> KResult<Vec<u8>> {
    let now = time::now();
    let idle: u64 = load::idle_times().map(|(_, idle)| idle.0).sum();
    let mut text = Text::new();
    let hundredths = |nanoseconds: u64| (nanoseconds / 1_000_000_000, nanoseconds / TICK % 100);
    let ((up, up_rest), (idle, idle_rest)) = (hundredths(now.0), hundredths(idle));
    put!(text, "{up}.{up_rest:02} {idle}.{idle_rest:02}\n");
    text.finish()
}

fn load_average(_: &()) -> KResult<Vec<u8>> {
    let (ready, all) = load::tasks();
    let mut text = Text::new();
    for load in load::averages() {
        put!(text, "{}.{:02} ", load / 100, load % 100);
    }
    put!(text, "{ready}/{all} {}\n", ids::last().0);
    text.finish()
}

fn memory(_: &()) -> KResult<Vec<u8>> {
    // What is kept for speed alone is as good as free.
    shortage::reclaim();
    let (total, free) = frames::totals();
    let heap = HEAP.statistics().pages;
    let (shared, in_files) = mounts::pages_in_files();
    let mut text = Text::new();
    let mut line = |name: &str, pages: u64| put!(text, "{name:<15} {:>8} kB\n", pages * 4);
    line("MemTotal:", total);
    line("MemFree:", free);
    line("MemAvailable:", free);
    line("Buffers:", 0);
    line("Cached:", in_files);
    line("SwapCached:", 0);
    line("SwapTotal:", 0);
    line("SwapFree:", 0);
    line("Shmem:", shared);
    line("Slab:", heap);
    line("SReclaimable:", 0);
    line("SUnreclaim:", heap);
    line("CommitLimit:", total);
    text.finish()
}

/// The kernel heap by object size, as Linux lays it out.
fn slabs(_: &()) -> KResult<Vec<u8>> {
    let heap = HEAP.statistics();
    let mut text = Text::new();
    put!(text, "slabinfo - version: 2.1\n");
    put!(text, "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>");
    put!(text, " : tunables <limit> <batchcount> <sharedfactor>");
    put!(text, " : slabdata <active_slabs> <num_slabs> <sharedavail>\n");
    for class in &heap.classes {
        let name = class.object_bytes;
        let in_slab = class.capacity.checked_div(class.slabs).unwrap_or(0);
        let pages = (in_slab * class.object_bytes).div_ceil(platform::PAGE_SIZE).next_power_of_two();
        put!(
            text,
            "kmalloc-{name:<9} {:>6} {:>6} {name:>6} {in_slab:>4} {pages:>4}",
            class.used,
            class.capacity
        );
        put!(text, " : tunables    0    0    0 : slabdata {:>6} {:>6}      0\n", class.slabs, class.slabs);
    }
    put!(text, "# {} large objects, {} pages in all\n", heap.large, heap.pages);
    text.finish()
}

fn virtual_memory(_: &()) -> KResult<Vec<u8>> {
    let (_, free) = frames::totals();
    let (shared, in_files) = mounts::pages_in_files();
    let mut text = Text::new();
    put!(text, "nr_free_pages {free}\nnr_file_pages {in_files}\nnr_shmem {shared}\n");
    text.finish()
}

/// User and kernel time of `busy`, split as the samples of all living processes are.
fn split(busy: u64) -> (u64, u64) {
    use core::sync::atomic::Ordering;
    let (user, system) = tree::processes().fold((0u64, 0u64), |(user, system), process| {
        (
            user + process.user_samples.load(Ordering::Relaxed),
            system + process.system_samples.load(Ordering::Relaxed),
        )
    });
    if user + system == 0 {
        return (busy, 0);
    }
    let in_user = (u128::from(busy) * u128::from(user) / u128::from(user + system)) as u64;
    (in_user, busy - in_user)
}

fn statistics(_: &()) -> KResult<Vec<u8>> {
    let now = time::now().0;
    let mut text = Text::new();
    let cpus: Vec<(u32, u64)> = load::idle_times().map(|(cpu, idle)| (cpu.0, idle.0.min(now))).collect();
    let stolen = load::stolen_times();
    let mut line = |name: core::fmt::Arguments<'_>, span: u64, idle: u64, stolen: u64| {
        let (user, system) = split(span.saturating_sub(idle).saturating_sub(stolen));
        let [user, system, idle, stolen] = [user, system, idle, stolen].map(|time| time / TICK);
        put!(text, "{name} {user} 0 {system} {idle} 0 0 0 {stolen} 0 0\n");
    };
    let all_idle = cpus.iter().map(|(_, idle)| idle).sum();
    let all_stolen = cpus.iter().map(|(cpu, _)| stolen[*cpu as usize].0).sum();
    line(format_args!("cpu "), now * cpus.len() as u64, all_idle, all_stolen);
    for (cpu, idle) in cpus {
        line(format_args!("cpu{cpu}"), now, idle, stolen[cpu as usize].0);
    }
    let (interrupts, switches) = load::events();
    let (ready, _) = load::tasks();
    put!(text, "intr {interrupts}\nctxt {switches}\n");
    put!(text, "btime {}\n", time::realtime().saturating_sub(time::now()).seconds());
    put!(text, "processes {}\nprocs_running {ready}\nprocs_blocked 0\n", ids::made());
    text.finish()
}

fn cpu_info(_: &()) -> KResult<Vec<u8>> {
    super::cpu_info::describe()
}
