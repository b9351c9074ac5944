//! CPUID as a guest sees it.

/// The hypervisor's leaf: its last one, and its name.
const HYPERVISOR: u32 = 0x4000_0000;

/// The machine's own `answer` without what a guest at CPL 3 cannot have; the hypervisor's leaves are the host's.
pub fn filtered(leaf: u32, subleaf: u32, answer: [u32; 4]) -> [u32; 4] {
    if leaf == HYPERVISOR {
        let name = |at: usize| u32::from_le_bytes(*b"lguestlguest"[at..].first_chunk().unwrap_or(&[0; 4]));
        return [HYPERVISOR + 1, name(0), name(4), name(8)];
    }
    if leaf == HYPERVISOR + 1 {
        return [lguest_abi::ABI_VERSION, 0, 0, 0];
    }
    let [eax, mut ebx, mut ecx, mut edx] = answer;
    match leaf {
        1 => {
            // MONITOR, VMX, SMX, PDCM, PCID, x2APIC, deadline timer; and there is a hypervisor.
            ecx &= !(1 << 3 | 1 << 5 | 1 << 6 | 1 << 15 | 1 << 17 | 1 << 21 | 1 << 24);
            ecx |= 1 << 31;
            // Large pages, model-specific registers, machine checks, APIC, SYSENTER, MTRR, PGE, MCA, PAT, PSE-36.
            edx &= !(1 << 3
                | 1 << 5
                | 1 << 7
                | 1 << 9
                | 1 << 11
                | 1 << 12
                | 1 << 13
                | 1 << 14
                | 1 << 16
                | 1 << 17);
        }
        7 if subleaf == 0 => {
            // SMEP, INVPCID, SMAP.
            ebx &= !(1 << 7 | 1 << 10 | 1 << 20);
            // UMIP, PKU, OSPKE, shadow stacks, LA57, PKS.
            ecx &= !(1 << 2 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 16 | 1 << 31);
            // Indirect branch tracking.
            edx &= !(1 << 20);
        }
        0x8000_0001 => {
            // SVM.
            ecx &= !(1 << 2);
            // Pages of 1 GiB.
            edx &= !(1 << 26);
        }
        _ => {}
    }
    [eax, ebx, ecx, edx]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [u32; 4] = [u32::MAX; 4];

    /// What is taken away of a leaf whose every bit is set: EBX, ECX, EDX.
    fn hidden(leaf: u32, subleaf: u32) -> [Vec<u32>; 3] {
        let [eax, rest @ ..] = filtered(leaf, subleaf, ALL);
        assert_eq!(eax, u32::MAX);
        rest.map(|word| (0..32).filter(|bit| word & 1 << bit == 0).collect())
    }

    #[test]
    fn what_needs_ring_0_is_hidden() {
        // The numbers are the SDM's, vol. 2A, CPUID, and APM's vol. 3, appendix E.
        let basic = [vec![], vec![3, 5, 6, 15, 17, 21, 24], vec![3, 5, 7, 9, 11, 12, 13, 14, 16, 17]];
        assert_eq!(hidden(1, 0), basic);
        assert_eq!(hidden(7, 0), [vec![7, 10, 20], vec![2, 3, 4, 7, 16, 31], vec![20]]);
        assert_eq!(hidden(0x8000_0001, 0), [vec![], vec![2], vec![26]]);
        for leaf in [0, 2, 4, 0xd, 0x15, 0x8000_0000, 0x8000_0002, 0x8000_0008] {
            assert_eq!(filtered(leaf, 0, ALL), ALL, "{leaf:#x}");
        }
        assert_eq!(filtered(7, 1, ALL), ALL);
    }

    #[test]
    fn nothing_is_added_but_the_hypervisor() {
        assert_eq!(filtered(1, 0, [0; 4]), [0, 0, 1 << 31, 0]);
        for leaf in [0, 7, 0xd, 0x8000_0001] {
            assert_eq!(filtered(leaf, 0, [0; 4]), [0; 4], "{leaf:#x}");
        }
        let [last, name @ ..] = filtered(0x4000_0000, 0, ALL);
        assert_eq!((last, name.map(u32::to_le_bytes).as_flattened()), (0x4000_0001, &b"lguestlguest"[..]));
        assert_eq!(filtered(0x4000_0001, 0, ALL), [lguest_abi::ABI_VERSION, 0, 0, 0]);
    }
}
