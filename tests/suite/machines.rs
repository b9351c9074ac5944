//! The machines: models, CPU counts, memory sizes, CPU models, missing devices. Pairings, not the full product.

use super::script;
use crate::testing::case::{Case, case};
use crate::variant::Dispatch::{Direct, Dyn, Static, Table};
use crate::variant::Profile;

/// Checks what the guest sees of its machine, and uses all CPUs and a good part of the memory.
fn look_around(case: Case) -> Case {
    let cpus = case.hardware.smp;
    let memory = u64::from(case.hardware.memory) * 1024;
    // Some is the kernel's and the firmware's; never is there more than the machine has.
    let least = memory * 3 / 4 - 4096;
    let megabytes = (memory / 1024 / 8).min(64);
    let body = format!(
        "\
test $(grep -c ^processor /proc/cpuinfo) -eq {cpus}
test $(nproc) -eq {cpus}
total=$(awk '/^MemTotal:/ {{ print $2 }}' /proc/meminfo)
echo total $total KiB
test $total -ge {least}
test $total -le {memory}
i=0
while [ $i -lt $(({cpus} * 2)) ]; do
  (seq 1 2000 | awk '{{ s += $1 }} END {{ exit s != 2001000 }}' || echo BAD SUM) &
  i=$((i + 1))
done
wait
dd if=/dev/zero of=/tmp/file bs=1M count={megabytes} 2>/dev/null
test $(wc -c < /tmp/file) -eq $(({megabytes} * 1048576))
rm /tmp/file
start=$(cut -d. -f1 /proc/uptime)
sleep 1
test $(cut -d. -f1 /proc/uptime) -gt $start
echo all is well"
    );
    case.sh(&script(&body)).prints("all is well\n").never_prints("BAD SUM").limit(90)
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (machine, cpus, mib, dispatch) in [
        ("pc", 1, 32, Static),
        ("pc", 2, 128, Table),
        ("pc", 4, 1024, Static),
        ("pc", 1, 4096, Table),
        // 3.5 GiB below the 32-bit hole, the rest above it.
        ("pc", 4, 5120, Static),
        ("pc", 2, 64, Direct),
        ("q35", 1, 32, Table),
        ("q35", 2, 512, Static),
        ("q35", 4, 128, Table),
        ("q35", 4, 4096, Static),
        ("q35", 1, 3072, Static),
        ("microvm", 1, 32, Static),
        ("microvm", 2, 128, Table),
        ("pc", 2, 128, Dyn),
        ("microvm", 4, 256, Static),
        ("microvm", 2, 4096, Static),
    ] {
        let dispatch_name = format!("{dispatch:?}").to_lowercase();
        let name = format!("machine/{machine}-{cpus}cpu-{mib}M-{dispatch_name}");
        cases.push(look_around(case(name).machine(machine).cpus(cpus).memory(mib).dispatch(dispatch)));
    }

    // A clock and a timer must be found whatever is missing.
    for (name, machine) in [
        ("pc-without-hpet", "pc,hpet=off"),
        ("q35-without-hpet", "q35,hpet=off"),
        ("pc-without-acpi", "pc,acpi=off"),
        ("microvm-without-pit", "microvm,pit=off"),
        ("microvm-without-pic", "microvm,pic=off"),
        ("microvm-without-rtc", "microvm,rtc=off"),
        ("microvm-without-acpi", "microvm,acpi=off"),
        ("microvm-with-nothing", "microvm,pit=off,pic=off,rtc=off,acpi=off"),
    ] {
        cases.push(look_around(case(format!("machine/{name}")).machine(machine)));
    }
    cases.push(look_around(
        case("machine/microvm-without-pit-pic-rtc-2cpu").machine("microvm,pit=off,pic=off,rtc=off").cpus(2),
    ));

    for (name, model) in [
        ("qemu64", "qemu64"),
        ("nehalem", "Nehalem"),
        ("epyc", "EPYC"),
        ("without-xsave", "max,-xsave"),
        ("without-smap-smep", "max,-smap,-smep"),
        ("without-x2apic", "max,-x2apic"),
        ("without-tsc-deadline", "max,-tsc-deadline"),
        ("without-pcid-fsgsbase", "max,-pcid,-fsgsbase"),
        ("without-rdrand", "max,-rdrand,-rdseed"),
        ("without-five-level-paging", "max,-la57"),
    ] {
        cases.push(look_around(case(format!("machine/cpu-{name}")).cpu(model).cpus(2)));
    }
    cases.push(look_around(case("machine/debug-assertions").profile(Profile::Dev).cpus(2).limit(180)));
    cases.push(counting_instructions());

    // A shell in 16 MiB, as promised.
    cases.push(
        case("machine/pc-16M").memory(16).sh("ls -l /bin | wc -l; echo small | tr a-z A-Z").prints("SMALL\n"),
    );
    cases.push(
        case("machine/microvm-16M")
            .machine("microvm")
            .memory(16)
            .sh("echo small | tr a-z A-Z")
            .prints("SMALL\n"),
    );
    cases
}

/// The clock is the count of instructions.
fn counting_instructions() -> Case {
    let mut case = look_around(case("machine/icount").limit(180));
    case.hardware.icount = true;
    case
}
