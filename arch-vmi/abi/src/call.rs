//! The calls, their numbers, and what a ROM may answer for each.

use crate::{Allowed, Convention};

macro_rules! calls {
    ($($number:literal $variant:ident $name:literal $convention:ident [$($allowed:ident)*] $doc:literal;)*) => {
        /// A call, by its number.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Call {
            $(#[doc = $doc] $variant = $number,)*
        }

        /// Every call, by ascending number. Numbers that are missing here are reserved.
        pub const CALLS: &[Call] = &[$(Call::$variant),*];

        impl Call {
            /// The call with this number, if there is one.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name, as ABI.md spells it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Its registers.
            pub const fn convention(self) -> Convention {
                match self {
                    $(Self::$variant => Convention::$convention,)*
                }
            }

            /// The types of relocation that a ROM may answer.
            pub const fn allowed(self) -> Allowed {
                match self {
                    $(Self::$variant => Allowed::empty()$(.union(Allowed::$allowed))*,)*
                }
            }
        }
    };
}

calls! {
    0 Cpuid "CPUID" NativeRegisters [CALL NONE] "`cpuid`, as the hypervisor wants it seen";
    1 Wrmsr "WRMSR" NativeRegisters [CALL NONE] "`wrmsr`";
    2 Rdmsr "RDMSR" NativeRegisters [CALL NONE] "`rdmsr`";
    3 SetGdt "SetGDT" SystemV [CALL NONE] "`lgdt [rdi]`";
    4 SetLdt "SetLDT" SystemV [CALL NONE] "`lldt di`";
    5 SetIdt "SetIDT" SystemV [CALL NONE] "`lidt [rdi]`";
    6 SetTr "SetTR" SystemV [CALL NONE] "`ltr di`";
    7 GetGdt "GetGDT" SystemV [CALL NONE] "`sgdt [rdi]`";
    8 GetLdt "GetLDT" SystemV [CALL NONE] "`sldt rax`";
    9 GetIdt "GetIDT" SystemV [CALL NONE] "`sidt [rdi]`";
    10 GetTr "GetTR" SystemV [CALL NONE] "`str rax`";
    11 WriteGdtEntry "WriteGDTEntry" SystemV [CALL NONE] "Writes a descriptor of a live table";
    12 WriteLdtEntry "WriteLDTEntry" SystemV [CALL NONE] "Writes a descriptor of a live table";
    13 WriteIdtEntry "WriteIDTEntry" SystemV [CALL NONE] "Writes a gate of a live table";
    14 UpdateKernelStack "UpdateKernelStack" SystemV [CALL NONE] "Writes RSP0 of the task state segment";
    15 SetCr0 "SetCR0" SystemV [CALL NONE] "`mov cr0, rdi`";
    16 SetCr2 "SetCR2" SystemV [CALL NONE] "`mov cr2, rdi`";
    17 SetCr3 "SetCR3" SystemV [CALL NONE] "`mov cr3, rdi`";
    18 SetCr4 "SetCR4" SystemV [CALL NONE] "`mov cr4, rdi`";
    19 GetCr0 "GetCR0" SystemV [CALL NONE] "`mov rax, cr0`";
    20 GetCr2 "GetCR2" SystemV [CALL NONE] "`mov rax, cr2`";
    21 GetCr3 "GetCR3" SystemV [CALL NONE] "`mov rax, cr3`";
    22 GetCr4 "GetCR4" SystemV [CALL NONE] "`mov rax, cr4`";
    23 Wbinvd "WBINVD" SystemV [CALL NONE NOP] "`wbinvd`";
    24 SetDr "SetDR" SystemV [CALL NONE] "`mov dr<rdi>, rsi`";
    25 GetDr "GetDR" SystemV [CALL NONE] "`mov rax, dr<rdi>`";
    26 Rdpmc "RDPMC" NativeRegisters [CALL NONE] "`rdpmc`";
    27 Rdtsc "RDTSC" NativeRegisters [CALL NONE] "`rdtsc`";
    28 Clts "CLTS" SystemV [CALL NONE] "`clts`";
    29 EnableInterrupts "EnableInterrupts" FlagsOnly [CALL NONE] "`sti`";
    30 DisableInterrupts "DisableInterrupts" FlagsOnly [CALL NONE] "`cli`";
    31 GetInterruptMask "GetInterruptMask" FlagsOnly [CALL NONE] "`pushfq; pop rax`";
    32 SetInterruptMask "SetInterruptMask" FlagsOnly [CALL NONE] "`sti` or `cli`";
    33 Iret "IRET" Jump [JUMP NONE] "`iretq`";
    35 Halt "Halt" SystemV [CALL NONE] "`sti; hlt`";
    36 Reboot "Reboot" SystemV [CALL NONE] "Restarts the machine";
    37 Shutdown "Shutdown" SystemV [CALL NONE] "Switches the machine off";
    39 SetPxELong "SetPxELong" PageTable [CALL NONE] "`mov [rsi], rdi`: writes a page-table entry";
    41 UpdatePxELong "UpdatePxELong" PageTable [CALL NOP] "The guest has written a page-table entry";
    42 MachineToPhysical "MachineToPhysical" SystemV [CALL NONE] "`mov rax, rdi`";
    43 PhysicalToMachine "PhysicalToMachine" SystemV [CALL NONE] "`mov rax, rdi`";
    44 AllocatePage "AllocatePage" SystemV [CALL NOP] "Announces a page table";
    45 ReleasePage "ReleasePage" SystemV [CALL NOP] "A page is no page table any more";
    46 InvalPage "InvalPage" PageTable [CALL NONE] "`invlpg [rdi]`";
    47 FlushTlb "FlushTLB" SystemV [CALL NONE] "Reloads CR3, or more";
    48 SetLinearMapping "SetLinearMapping" SystemV [CALL NOP] "Says that a range shows physical memory";
    49 Inl "INL" NativeRegisters [CALL NONE] "`in eax, dx`";
    50 Inb "INB" NativeRegisters [CALL NONE] "`in al, dx`";
    51 Inw "INW" NativeRegisters [CALL NONE] "`in ax, dx`";
    52 Insl "INSL" NativeRegisters [CALL NONE] "`rep insd`";
    53 Insb "INSB" NativeRegisters [CALL NONE] "`rep insb`";
    54 Insw "INSW" NativeRegisters [CALL NONE] "`rep insw`";
    55 Outl "OUTL" NativeRegisters [CALL NONE] "`out dx, eax`";
    56 Outb "OUTB" NativeRegisters [CALL NONE] "`out dx, al`";
    57 Outw "OUTW" NativeRegisters [CALL NONE] "`out dx, ax`";
    58 Outsl "OUTSL" NativeRegisters [CALL NONE] "`rep outsd`";
    59 Outsb "OUTSB" NativeRegisters [CALL NONE] "`rep outsb`";
    60 Outsw "OUTSW" NativeRegisters [CALL NONE] "`rep outsw`";
    62 SetInitialApState "SetInitialAPState" SystemV [CALL] "How a CPU is to start";
    63 ApicWrite "APICWrite" SystemV [CALL NONE] "`mov [rdi], esi`";
    64 ApicRead "APICRead" SystemV [CALL NONE] "`mov eax, [rdi]`";
    65 IoDelay "IODelay" SystemV [CALL NONE NOP] "`out 0x80, al`";
    66 GetCycleFrequency "GetCycleFrequency" SystemV [CALL] "Cycles a second";
    67 GetCycleCounter "GetCycleCounter" SystemV [CALL] "A counter of cycles";
    68 SetAlarm "SetAlarm" SystemV [CALL] "An interrupt when a counter reaches a value";
    69 CancelAlarm "CancelAlarm" SystemV [CALL] "Forgets an alarm";
    70 GetWallclockTime "GetWallclockTime" SystemV [CALL] "Nanoseconds since 1970";
    71 WallclockUpdated "WallclockUpdated" SystemV [CALL NONE] "Whether the time of day was set from outside";
    73 SetLazyMode "SetLazyMode" SystemV [CALL NOP] "Begins or ends a batch";
    74 Sysret "SYSRET" Jump [JUMP NONE] "`sysretq`";
    75 SwapGs "SWAPGS" FlagsOnly [CALL NONE] "`swapgs`, where there is a stack";
    76 SetSegmentBase "SetSegmentBase" SystemV [CALL NONE] "Writes FS, GS or the other GS base";
    77 GetSegmentBase "GetSegmentBase" SystemV [CALL NONE] "Reads FS, GS or the other GS base";
    78 LoadGsIndex "LoadGSIndex" SystemV [CALL NONE] "Loads user mode's GS selector";
    79 SetSyscallEntry "SetSyscallEntry" SystemV [CALL] "Where and how `syscall` enters";
    80 SetXcr0 "SetXCR0" SystemV [CALL NONE] "`xsetbv`";
    81 UserAccessBegin "UserAccessBegin" FlagsOnly [CALL NONE NOP] "`stac`";
    82 UserAccessEnd "UserAccessEnd" FlagsOnly [CALL NONE NOP] "`clac`";
    83 SyscallSwapGs "SyscallSwapGS" FlagsOnly [NONE NOP] "`swapgs`, where there is no stack";
    84 BindCpu "BindCPU" SystemV [CALL NOP] "Gives the hypervisor what it keeps for a CPU";
}

impl Call {
    /// One more than the highest number: `jump_slots` of a ROM of this version.
    pub const COUNT: u8 = 85;

    /// Its number.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_lead_back() {
        assert!(CALLS.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(CALLS.last().map(|call| call.number() + 1), Some(u32::from(Call::COUNT)));
        for &call in CALLS {
            assert_eq!(Call::from_number(call.number()), Some(call));
        }
    }

    #[test]
    fn numbers_of_version_3_are_kept() {
        for (call, number) in [
            (Call::Cpuid, 0),
            (Call::WriteGdtEntry, 11),
            (Call::UpdateKernelStack, 14),
            (Call::SetCr3, 17),
            (Call::EnableInterrupts, 29),
            (Call::SetInterruptMask, 32),
            (Call::Iret, 33),
            (Call::Halt, 35),
            (Call::SetPxELong, 39),
            (Call::AllocatePage, 44),
            (Call::SetLinearMapping, 48),
            (Call::Inl, 49),
            (Call::Outsw, 60),
            (Call::SetInitialApState, 62),
            (Call::ApicRead, 64),
            (Call::GetCycleCounter, 67),
            (Call::SetAlarm, 68),
            (Call::SetLazyMode, 73),
        ] {
            assert_eq!(call.number(), number);
        }
    }

    #[test]
    fn what_version_3_has_for_32_bits_only_is_reserved() {
        for number in [34, 38, 40, 61, 72, 85, 1000, u32::MAX] {
            assert_eq!(Call::from_number(number), None);
        }
    }

    #[test]
    fn jumps_and_calls_do_not_mix() {
        for &call in CALLS {
            let jump = call.convention() == Convention::Jump;
            assert_eq!(call.allowed().contains(Allowed::JUMP), jump, "{}", call.name());
            assert!(!(jump && call.allowed().contains(Allowed::CALL)), "{}", call.name());
            assert!(!call.allowed().is_empty());
        }
    }
}
