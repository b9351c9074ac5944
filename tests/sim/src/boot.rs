//! Discovery.

use core::marker::PhantomData;

use platform::{Boot, CpuId, CpuSet, Kernel, Machine, Unusable};

use crate::state::{facts, here_disabled, violation, world};

/// Finds what [`crate::Machine`] was told.
#[derive(Debug)]
pub struct SimBoot<K>(PhantomData<fn() -> K>);

#[platform::backend]
impl<K: Kernel> Boot for SimBoot<K> {
    fn discover() -> Result<Machine, Unusable> {
        let cpu = here_disabled("Boot::discover");
        if cpu.id != CpuId(0) {
            violation(format!("Boot::discover was called on CPU {}", cpu.id.0));
        }
        let facts = facts();
        if let Some(reason) = facts.unusable {
            return Err(Unusable(reason));
        }
        let again = std::mem::replace(&mut world().discovered, true);
        if again {
            violation("Boot::discover was called twice".to_owned());
        }
        Ok(Machine { cpus: CpuSet::first(facts.cpus), description: facts.description })
    }
}
