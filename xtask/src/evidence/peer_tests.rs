//! Our reading of an image against binutils'.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use iced_x86::FlowControl;

use crate::audit::image as gates;
use crate::audit::sensitive;
use crate::evidence::code::instructions;
use crate::evidence::image::{Image, Use};
use crate::evidence::record;
use crate::images;
use crate::installer::Tool;
use crate::variant::{Backend, Dispatch, Profile, Variant};
use crate::workspace::Workspace;

const OBJDUMP: Tool = Tool::in_path("binutils", &["objdump"]);
const SIZE: Tool = Tool::in_path("binutils", &["size"]);

fn sample() -> PathBuf {
    let variant = Variant { backend: Backend::Native, dispatch: Dispatch::Static, profile: Profile::Release };
    images::image(&Workspace::find().unwrap(), variant).unwrap()
}

fn output(tool: Tool, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(tool.require().unwrap()).args(arguments).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_disassembly_agrees_with_objdump() {
    let path = sample();
    let image = Image::read(&path).unwrap();
    let text = image.sections.iter().find(|section| section.name == ".text").unwrap();
    let mut ours: BTreeMap<&str, u64> = BTreeMap::new();
    for function in image.functions.iter().filter(|f| text.range.contains(&f.range.start)) {
        assert_eq!(function.purpose, Use::Code);
        for instruction in instructions(&image, function) {
            let kind = match instruction.flow_control() {
                FlowControl::Call => "call",
                FlowControl::IndirectCall => "call *",
                FlowControl::UnconditionalBranch => "jmp",
                FlowControl::IndirectBranch => "jmp *",
                FlowControl::ConditionalBranch => "jcc",
                FlowControl::Return if instruction.mnemonic() == iced_x86::Mnemonic::Ret => "ret",
                _ => continue,
            };
            *ours.entry(kind).or_default() += 1;
        }
    }
    let listing = output(OBJDUMP, &["--disassemble", "--no-show-raw-insn", "--section=.text"], &path);
    let mut theirs: BTreeMap<&str, u64> = BTreeMap::new();
    for line in listing.lines() {
        let Some(instruction) = line.split('\t').nth(1) else { continue };
        let (mnemonic, operand) = instruction.split_once(' ').unwrap_or((instruction, ""));
        let indirect = operand.trim_start().starts_with('*');
        let kind = match (mnemonic, indirect) {
            ("call", false) => "call",
            ("call", true) => "call *",
            ("jmp", false) => "jmp",
            ("jmp" | "notrack", true) => "jmp *",
            ("ret", _) => "ret",
            (other, _) if other.starts_with('j') || other.starts_with("loop") => "jcc",
            _ => continue,
        };
        *theirs.entry(kind).or_default() += 1;
    }
    assert_eq!(ours, theirs);
    assert!(ours["call"] > 1000, "{ours:?}");
}

#[test]
fn the_sizes_agree_with_size() {
    let path = sample();
    let size = Image::read(&path).unwrap().size();
    let table = output(SIZE, &[], &path);
    let figures: Vec<u64> =
        table.lines().nth(1).unwrap().split_whitespace().take(3).map(|n| n.parse().unwrap()).collect();
    assert_eq!([size.text, size.data, size.bss], figures[..]);
}

#[test]
fn an_image_with_a_table_does_not_pass_for_static() {
    let variant = Variant { backend: Backend::Native, dispatch: Dispatch::Table, profile: Profile::Release };
    let path = images::image(&Workspace::find().unwrap(), variant).unwrap();
    let found = gates::indirect_hooks(&Image::read(&path).unwrap()).unwrap();
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(texts.len() > 100, "{}", texts.len());
    // The function, the hook and the source line.
    let idle = texts.iter().find(|text| text.contains("indirect call of cpu::irq_restore")).unwrap();
    assert!(idle.starts_with("kernel::") && idle.contains(".rs:"), "{idle}");
    assert!(texts.contains(&"kernel::hook::cpu::TABLE: a table of hooks".to_owned()));
}

#[test]
fn a_site_that_is_missing_in_the_record_is_found() {
    let variant =
        Variant { backend: Backend::Native, dispatch: Dispatch::Patched, profile: Profile::Release };
    let mut image = Image::read(&images::image(&Workspace::find().unwrap(), variant).unwrap()).unwrap();
    assert_eq!(gates::unrecorded_hooks(&image).unwrap(), []);
    let sites = record::recorded(&image).unwrap();
    assert!(sites.calls > 100 && sites.instructions > 20, "{sites:?}");

    let section = image.sections.iter_mut().find(|section| section.name == platform::patch::SECTION).unwrap();
    section.bytes[..4].fill(0);
    let found = gates::unrecorded_hooks(&image).unwrap();
    assert_eq!(found.len(), 1);
    let text = found[0].to_string();
    assert!(text.contains("is not recorded") && text.contains(".rs:"), "{text}");

    image.sections.retain(|section| section.name != platform::patch::SECTION);
    let found = gates::unrecorded_hooks(&image).unwrap();
    assert_eq!(found[0].to_string(), "section .hook_sites: no call site is recorded");
}

#[test]
fn an_image_for_a_bare_machine_does_not_pass_for_one_at_cpl_3() {
    let mut image = Image::read(&sample()).unwrap();
    assert_eq!(gates::indirect_hooks(&image).unwrap(), []);
    assert_eq!(gates::writable_code(&image), []);
    assert_eq!(gates::relocations(&image), []);
    image.platform = "lguest".into();
    let found = sensitive::instructions_of(&image, sensitive::ALLOWED);
    for instruction in ["`cli`", "`sti`", "`hlt`", "`wrmsr`", "`iretq`", "`swapgs`", "`pushfq`", "`mov cr3,"]
    {
        assert!(found.iter().any(|violation| violation.what.contains(instruction)), "{instruction}");
    }
}
