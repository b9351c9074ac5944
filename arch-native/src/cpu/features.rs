//! What the processor can do, found once at boot.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use platform::Unusable;
use raw_cpuid::{CpuId, CpuIdReader, CpuIdResult};

use crate::machine::Machine;

bitflags::bitflags! {
    /// Optional features this backend makes use of.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// Translations of the kernel may outlive a change of address space.
        const GLOBAL_PAGES = 1 << 0;
        /// Pages of 1 GiB.
        const GIBIBYTE_PAGES = 1 << 1;
        /// The kernel cannot execute user pages.
        const SMEP = 1 << 2;
        /// The kernel cannot touch user pages by accident.
        const SMAP = 1 << 3;
        /// User mode cannot read descriptor table registers.
        const UMIP = 1 << 4;
        /// Segment bases have instructions of their own.
        const FSGSBASE = 1 << 5;
        /// Translations carry an address-space number.
        const PCID = 1 << 6;
        /// XSAVE.
        const XSAVE = 1 << 7;
        /// XSAVEOPT.
        const XSAVEOPT = 1 << 8;
        /// x2APIC mode of the local APIC.
        const X2APIC = 1 << 9;
        /// The APIC timer takes deadlines of the time stamp counter.
        const TSC_DEADLINE = 1 << 10;
        /// A hypervisor says that it is there.
        const HYPERVISOR = 1 << 11;
    }
}

static FEATURES: AtomicU32 = AtomicU32::new(0);

/// The CPUID of this CPU.
pub fn cpuid<M: Machine>() -> CpuId<impl CpuIdReader> {
    CpuId::with_cpuid_reader(|leaf, subleaf| {
        let result = M::cpuid(leaf, subleaf);
        CpuIdResult { eax: result.eax, ebx: result.ebx, ecx: result.ecx, edx: result.edx }
    })
}

/// Whether the CPU has `feature`.
#[inline(always)]
pub fn has(feature: Features) -> bool {
    FEATURES.load(Relaxed) & feature.bits() != 0
}

/// Finds the features; fails if the CPU lacks something this backend cannot do without.
pub fn detect<M: Machine>() -> Result<(), Unusable> {
    let id = cpuid::<M>();
    FEATURES.store((features(&id) - M::UNUSED).bits(), Relaxed);
    let basic = id.get_feature_info().ok_or(Unusable("the CPU does not say what it can do"))?;
    let extended = id
        .get_extended_processor_and_feature_identifiers()
        .ok_or(Unusable("the CPU does not say what it can do"))?;

    for (present, what) in [
        (extended.has_execute_disable(), "the CPU cannot forbid execution (NX)"),
        (extended.has_syscall_sysret(), "the CPU has no syscall instruction"),
        (basic.has_apic(), "the CPU has no local APIC"),
        (basic.has_tsc(), "the CPU has no time stamp counter"),
        (basic.has_msr(), "the CPU has no model-specific registers"),
        (basic.has_fxsave_fxstor() && basic.has_sse2(), "the CPU has no SSE2"),
    ] {
        if !present {
            return Err(Unusable(what));
        }
    }
    Ok(())
}

/// What CPUID says.
fn features(id: &CpuId<impl CpuIdReader>) -> Features {
    let mut features = Features::empty();
    if let Some(basic) = id.get_feature_info() {
        features.set(Features::GLOBAL_PAGES, basic.has_pge());
        features.set(Features::PCID, basic.has_pcid() && basic.has_pge());
        features.set(Features::XSAVE, basic.has_xsave());
        features.set(Features::X2APIC, basic.has_x2apic());
        features.set(Features::TSC_DEADLINE, basic.has_tsc_deadline());
        features.set(Features::HYPERVISOR, basic.has_hypervisor());
    }
    if let Some(extended) = id.get_extended_processor_and_feature_identifiers() {
        features.set(Features::GIBIBYTE_PAGES, extended.has_1gib_pages());
    }
    if let Some(structured) = id.get_extended_feature_info() {
        features.set(Features::SMEP, structured.has_smep());
        features.set(Features::SMAP, structured.has_smap());
        features.set(Features::UMIP, structured.has_umip());
        features.set(Features::FSGSBASE, structured.has_fsgsbase());
    }
    if let Some(state) = id.get_extended_state_info() {
        features.set(Features::XSAVEOPT, features.contains(Features::XSAVE) && state.has_xsaveopt());
    }
    features
}
