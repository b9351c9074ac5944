//! The gate of images that run at CPL 3: no instruction that faults there, or that shows or silently keeps what the
//! hypervisor has.
//!
//! The privileged instructions are those of the Intel SDM, volume 3A, section 5.9 ("Privileged Instructions"), with
//! those that the instruction reference (volume 2) lets raise #GP or #UD by CPL or IOPL; the sensitive ones that do not
//! fault are the seventeen of Robin and Irvine (USENIX Security 2000) as far as 64-bit mode has them. Not among them:
//! `rdtsc`, `rdtscp` and `cpuid`, which the interfaces at CPL 3 allow (CR4.TSD is clear, and what `cpuid` shows of the
//! processor is true); `xgetbv`, `rdpkru` and `wrpkru`, which are made for user mode.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::audit::Violation;
use crate::evidence::code::instructions;
use crate::evidence::image::Image;

/// Where a backend may have such an instruction all the same.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The backend
    pub backend: &'static str,
    /// How the function's name starts
    pub function: &'static str,
    /// Which instructions
    pub what: What,
    /// Why that is right
    pub why: &'static str,
}

/// Instructions that a place may have.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// All of them
    All,
    /// These
    These(&'static [Mnemonic]),
    /// Loads and stores of segment registers, and the far return that loads CS
    Selectors,
}

impl What {
    fn has(self, instruction: &Instruction) -> bool {
        match self {
            Self::All => true,
            Self::These(mnemonics) => mnemonics.contains(&instruction.mnemonic()),
            Self::Selectors => {
                instruction.mnemonic() == Mnemonic::Retf
                    || touches(instruction, |register| register.is_segment_register())
            }
        }
    }
}

/// The list.
pub const ALLOWED: &[Allowed] = &[
    Allowed {
        backend: "lguest",
        function: "",
        what: What::These(&[Mnemonic::Syscall]),
        why: "`syscall` is how a hypercall is made",
    },
    Allowed {
        backend: "lguest",
        function: "",
        what: What::These(&[Mnemonic::Rdfsbase, Mnemonic::Rdgsbase, Mnemonic::Wrfsbase, Mnemonic::Wrgsbase]),
        why: "the host sets CR4.FSGSBASE",
    },
    Allowed {
        backend: "lguest",
        function: "lguest_noirq_",
        what: What::These(&[Mnemonic::Iretq]),
        why: "the return stays at CPL 3, and these instructions the host knows as a place where it delivers no interrupt",
    },
    Allowed {
        backend: "vmi",
        function: "pvh_start",
        what: What::All,
        why: "the machine is bare until VMI_Init",
    },
    Allowed { backend: "vmi", function: "boot_", what: What::All, why: "the machine is bare until VMI_Init" },
    Allowed {
        backend: "vmi",
        function: "arch_vmi::refuse::",
        what: What::All,
        why: "there is no usable ROM, so the machine is bare",
    },
    Allowed {
        backend: "vmi",
        function: "",
        what: What::These(&[Mnemonic::Rdfsbase, Mnemonic::Rdgsbase, Mnemonic::Wrfsbase, Mnemonic::Wrgsbase]),
        why: "used if the ROM lets the kernel set CR4.FSGSBASE",
    },
    Allowed {
        backend: "vmi",
        function: "arch_native::",
        what: What::Selectors,
        why: "selectors are the kernel's own, with the privilege level the ROM gave them",
    },
    Allowed {
        backend: "vmi",
        function: "x86_64::instructions::segmentation::",
        what: What::Selectors,
        why: "selectors are the kernel's own, with the privilege level the ROM gave them",
    },
];

/// Backends whose kernel runs at CPL 3, or may.
pub const RUNS_AT_CPL_3: [&str; 2] = ["lguest", "vmi"];

/// Why an instruction must not be in such an image, if so.
pub fn reason(instruction: &Instruction) -> Option<&'static str> {
    const FAULTS: &str = "raises an exception at CPL 3";
    const FLAG: &str = "shows or silently keeps the processor's interrupt flag, not the virtual one";
    const TABLES: &str = "shows the hypervisor's tables or control registers";
    const LEVEL: &str = "depends on the privilege level";
    const MODE: &str = "changes the privilege level";
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Lgdt | M::Lidt | M::Lldt | M::Ltr | M::Lmsw | M::Clts | M::Hlt => Some(FAULTS),
        M::Invd | M::Wbinvd | M::Wbnoinvd | M::Invlpg | M::Invlpga | M::Invlpgb | M::Invpcid | M::Tlbsync => {
            Some(FAULTS)
        }
        M::Rdmsr | M::Wrmsr | M::Wrmsrns | M::Rdmsrlist | M::Wrmsrlist | M::Rdpmc | M::Xsetbv => Some(FAULTS),
        M::Xsaves | M::Xsaves64 | M::Xrstors | M::Xrstors64 => Some(FAULTS),
        M::Swapgs | M::Sysret | M::Sysretq | M::Sysexit | M::Sysexitq | M::Rsm => Some(FAULTS),
        M::Clac | M::Stac | M::Cli | M::Sti | M::In | M::Out => Some(FAULTS),
        M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd => Some(FAULTS),
        M::Monitor | M::Mwait | M::Encls | M::Setssbsy | M::Wrussd | M::Wrussq | M::Clrssbsy => Some(FAULTS),
        M::Invept | M::Invvpid | M::Vmxon | M::Vmxoff | M::Vmclear | M::Vmptrld | M::Vmptrst => Some(FAULTS),
        M::Vmread | M::Vmwrite | M::Vmlaunch | M::Vmresume | M::Vmcall | M::Vmmcall => Some(FAULTS),
        M::Vmrun | M::Vmload | M::Vmsave | M::Stgi | M::Clgi | M::Skinit => Some(FAULTS),
        M::Mov if touches(instruction, Register::is_cr) || touches(instruction, Register::is_dr) => {
            Some(FAULTS)
        }
        M::Mov | M::Push | M::Pop if touches(instruction, Register::is_segment_register) => Some(LEVEL),
        M::Pushf | M::Pushfd | M::Pushfq | M::Popf | M::Popfd | M::Popfq => Some(FLAG),
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => Some(TABLES),
        M::Lar | M::Lsl | M::Verr | M::Verw => Some(LEVEL),
        M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss => Some(LEVEL),
        M::Iret | M::Iretd | M::Iretq | M::Retf | M::Int | M::Int1 | M::Into => Some(MODE),
        M::Syscall | M::Sysenter | M::Uiret | M::Erets | M::Eretu => Some(MODE),
        M::Call | M::Jmp if is_far(instruction) => Some(MODE),
        M::Wrfsbase | M::Wrgsbase | M::Rdfsbase | M::Rdgsbase => Some("is there only if CR4.FSGSBASE is set"),
        _ => None,
    }
}

fn touches(instruction: &Instruction, kind: impl Fn(Register) -> bool) -> bool {
    (0..instruction.op_count())
        .any(|n| instruction.op_kind(n) == OpKind::Register && kind(instruction.op_register(n)))
}

fn is_far(instruction: &Instruction) -> bool {
    instruction.is_call_far()
        || instruction.is_call_far_indirect()
        || instruction.is_jmp_far()
        || instruction.is_jmp_far_indirect()
}

/// The sensitive instructions of an image that `allowed` does not list.
pub fn instructions_of(image: &Image, allowed: &[Allowed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for function in &image.functions {
        for instruction in instructions(image, function) {
            let Some(reason) = reason(&instruction) else { continue };
            let listed = allowed.iter().any(|entry| {
                entry.backend == image.platform
                    && function.name.as_str().trim_start_matches('<').starts_with(entry.function)
                    && entry.what.has(&instruction)
            });
            if !listed {
                let at = instruction.ip();
                let what = format!("`{}` at {at:#x} {reason}", text(&instruction));
                violations.push(Violation::new(function.name.to_string(), what));
            }
        }
    }
    violations
}

fn text(instruction: &Instruction) -> String {
    use iced_x86::Formatter;
    let mut text = String::new();
    iced_x86::IntelFormatter::new().format(instruction, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::image::{Section, Symbol, Use};
    use crate::evidence::names::Name;

    fn image(platform: &str, bytes: &[u8]) -> Image {
        let range = 0x1000..0x1000 + bytes.len() as u64;
        let section =
            Section { name: ".text".into(), range: range.clone(), purpose: Use::Code, bytes: bytes.to_vec() };
        Image {
            platform: platform.into(),
            sections: vec![section],
            functions: vec![Symbol { name: Name::new("arch_x::f"), range, purpose: Use::Code }],
            ..Image::default()
        }
    }

    #[test]
    fn each_planted_instruction_is_found() {
        let planted: &[(&str, &[u8])] = &[
            ("cli", &[0xfa]),
            ("sti", &[0xfb]),
            ("hlt", &[0xf4]),
            ("popfq", &[0x9d]),
            ("pushfq", &[0x9c]),
            ("iretq", &[0x48, 0xcf]),
            ("sysret", &[0x48, 0x0f, 0x07]),
            ("syscall", &[0x0f, 0x05]),
            ("swapgs", &[0x0f, 0x01, 0xf8]),
            ("stac", &[0x0f, 0x01, 0xcb]),
            ("clac", &[0x0f, 0x01, 0xca]),
            ("xsetbv", &[0x0f, 0x01, 0xd1]),
            ("rdmsr", &[0x0f, 0x32]),
            ("wrmsr", &[0x0f, 0x30]),
            ("rdpmc", &[0x0f, 0x33]),
            ("sgdt", &[0x0f, 0x01, 0x00]),
            ("sidt", &[0x0f, 0x01, 0x08]),
            ("lgdt", &[0x0f, 0x01, 0x10]),
            ("lidt", &[0x0f, 0x01, 0x18]),
            ("smsw", &[0x0f, 0x01, 0xe0]),
            ("lmsw", &[0x0f, 0x01, 0xf0]),
            ("invlpg", &[0x0f, 0x01, 0x38]),
            ("sldt", &[0x0f, 0x00, 0x00]),
            ("str", &[0x0f, 0x00, 0x08]),
            ("lldt", &[0x0f, 0x00, 0x10]),
            ("ltr", &[0x0f, 0x00, 0x18]),
            ("verr", &[0x0f, 0x00, 0x20]),
            ("verw", &[0x0f, 0x00, 0x28]),
            ("lar", &[0x0f, 0x02, 0xc0]),
            ("lsl", &[0x0f, 0x03, 0xc0]),
            ("clts", &[0x0f, 0x06]),
            ("invd", &[0x0f, 0x08]),
            ("wbinvd", &[0x0f, 0x09]),
            ("in", &[0xec]),
            ("out", &[0xe6, 0x80]),
            ("insb", &[0x6c]),
            ("outsd", &[0x6f]),
            ("mov", &[0x0f, 0x20, 0xd8]),
            ("mov", &[0x0f, 0x22, 0xd8]),
            ("mov", &[0x0f, 0x21, 0xc0]),
            ("mov", &[0x8c, 0xc8]),
            ("mov", &[0x8e, 0xd8]),
            ("push", &[0x0f, 0xa0]),
            ("int", &[0xcd, 0x80]),
            ("ret far", &[0x48, 0xcb]),
            ("call", &[0xff, 0x18]),
            ("jmp", &[0xff, 0x28]),
            ("monitor", &[0x0f, 0x01, 0xc8]),
            ("mwait", &[0x0f, 0x01, 0xc9]),
            ("vmcall", &[0x0f, 0x01, 0xc1]),
            ("wrgsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd8]),
            ("lfs", &[0x0f, 0xb4, 0x00]),
            ("xsaves", &[0x0f, 0xc7, 0x28]),
        ];
        for (name, bytes) in planted {
            let found = instructions_of(&image("vmi", bytes), &[]);
            assert_eq!(found.len(), 1, "{name}");
            let text = found[0].to_string();
            assert!(text.starts_with("arch_x::f: `") && text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn what_user_mode_may_do_is_no_violation() {
        // nop; ret; cpuid; rdtsc; xgetbv; mov rax, gs:[0]; mov eax, ecx; call +0; jmp rax
        let bytes = [
            0x90, 0xc3, 0x0f, 0xa2, 0x0f, 0x31, 0x0f, 0x01, 0xd0, 0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0,
            0x89, 0xc8, 0xe8, 0, 0, 0, 0, 0xff, 0xe0,
        ];
        assert_eq!(instructions_of(&image("vmi", &bytes), ALLOWED), []);
    }

    #[test]
    fn a_listed_place_is_allowed() {
        let listed = [Allowed {
            backend: "vmi",
            function: "arch_x::",
            what: What::These(&[Mnemonic::Cli]),
            why: "it is a test",
        }];
        assert_eq!(instructions_of(&image("vmi", &[0xfa]), &listed), []);
        assert_eq!(instructions_of(&image("lguest", &[0xfa]), &listed).len(), 1);
        assert_eq!(instructions_of(&image("vmi", &[0xfb]), &listed).len(), 1);
        assert_eq!(instructions_of(&image("lguest", &[0x0f, 0x05]), ALLOWED), []);
        // mov ds, eax is a selector's load; mov cr3, rax is not.
        let selectors = [Allowed { what: What::Selectors, ..listed[0] }];
        assert_eq!(instructions_of(&image("vmi", &[0x8e, 0xd8]), &selectors), []);
        assert_eq!(instructions_of(&image("vmi", &[0x0f, 0x22, 0xd8]), &selectors).len(), 1);
    }
}
