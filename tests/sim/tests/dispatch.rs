//! The simulated platform can be reached in every mode of dispatch.

mod common;

use common::{SCRIPT, Script, Tiny, run, say};
use platform::{End, Nanoseconds};
use sim::{Machine, in_fresh_process};

mod through_trait {
    use super::Tiny;
    platform::hooks!(static sim::Sim<Tiny>);
}
mod without_trait {
    use super::Tiny;
    platform::hooks!(direct sim::Sim<Tiny>);
}
mod through_table {
    use super::Tiny;
    platform::hooks!(table sim::Sim<Tiny>);
}

mod through_objects {
    use super::Tiny;
    platform::hooks!(dyn sim::Sim<Tiny>);
}

macro_rules! wait_until {
    ($mode:ident, $time:expr) => {
        $mode::install();
        $mode::timer::arm(Nanoseconds($time));
        $mode::cpu::wait_for_interrupt();
        $mode::cpu::irq_disable();
        say($mode::clock::now().0);
    };
}

#[test]
fn every_mode_reaches_the_same_machine() {
    in_fresh_process("every_mode_reaches_the_same_machine", || {
        let script = Script {
            boot: || {
                wait_until!(through_trait, 1);
                wait_until!(without_trait, 2);
                wait_until!(through_table, 3);
                wait_until!(through_objects, 4);
            },
            ..SCRIPT
        };
        assert_eq!(run(Machine::new(), script).expect(End::PowerOff).reports, ["1", "2", "3", "4"]);
    });
}
