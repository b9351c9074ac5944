//! Whether two images have the same code, wherever the linker put it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use iced_x86::{Instruction, OpKind};

use crate::evidence::code::instructions;
use crate::evidence::image::{Image, Symbol};
use crate::evidence::names::Name;

/// A function as it is compared: its name, bytes, and a hash of its code that does not depend on where things are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Code {
    /// Its name
    pub name: Name,
    /// Its length in bytes
    pub bytes: u64,
    /// Its code, with names in the place of addresses
    pub hash: u64,
}

/// FNV-1a with 64 bits: the same in every run and on every machine, for reports are kept.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A number that stands for a text, the same on every machine.
pub fn hash_of(text: &str) -> u64 {
    let mut hasher = Fnv::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// All functions of an image, by name.
pub fn functions(image: &Image) -> Vec<Code> {
    let types = type_identities(image);
    let mut all: Vec<_> = image.functions.iter().map(|function| code(image, function, &types)).collect();
    all.sort();
    all
}

/// The numbers by which `core::any::TypeId` tells types apart. They depend on how cargo was called, and on nothing in
/// the source.
fn type_identities(image: &Image) -> BTreeSet<u64> {
    let functions = image.functions.iter().filter(|function| function.name.as_str().ends_with("::type_id"));
    let code = functions.flat_map(|function| instructions(image, function));
    code.filter_map(|instruction| wide_immediate(&instruction)).map(|(_, value)| value).collect()
}

fn wide_immediate(instruction: &Instruction) -> Option<(u32, u64)> {
    let operand = (0..instruction.op_count()).find(|&n| instruction.op_kind(n) == OpKind::Immediate64)?;
    Some((operand, instruction.immediate(operand)))
}

fn code(image: &Image, function: &Symbol, types: &BTreeSet<u64>) -> Code {
    let mut hasher = Fnv::default();
    for mut instruction in instructions(image, function) {
        if let Some((operand, value)) = wide_immediate(&instruction)
            && types.contains(&value)
        {
            instruction.set_immediate_u64(operand, 0);
        }
        hash_instruction(image, function, &instruction, &mut hasher);
    }
    let bytes = function.range.end - function.range.start;
    Code { name: function.name.clone(), bytes, hash: hasher.finish() }
}

/// Hashes what an instruction does; addresses in the image count as the name, the offset, or what is there.
fn hash_instruction(image: &Image, function: &Symbol, instruction: &Instruction, hasher: &mut Fnv) {
    let mut plain = *instruction;
    let mut hash = |address: u64| hash_address(image, function, address, hasher);
    if instruction.is_ip_rel_memory_operand() {
        hash(instruction.ip_rel_memory_address());
        plain.set_memory_displacement64(0);
    } else if image.section_at(instruction.memory_displacement64()).is_some() {
        hash(instruction.memory_displacement64());
        plain.set_memory_displacement64(0);
    }
    for operand in 0..instruction.op_count() {
        match instruction.op_kind(operand) {
            OpKind::NearBranch64 => {
                hash(instruction.near_branch64());
                plain.set_near_branch64(0);
            }
            OpKind::Immediate32to64 | OpKind::Immediate64 => {
                let value = instruction.immediate(operand);
                if image.section_at(value).is_some() {
                    hash(value);
                    plain.set_immediate_u64(operand, 0);
                }
            }
            _ => {}
        }
    }
    // Equality, and so the hash, leaves out where the instruction is.
    plain.hash(hasher);
    instruction.len().hash(hasher);
}

fn hash_address(image: &Image, function: &Symbol, address: u64, hasher: &mut Fnv) {
    if function.range.contains(&address) {
        return (address - function.range.start).hash(hasher);
    }
    if let Some(symbol) = image.function_at(address).or_else(|| image.object_at(address)) {
        symbol.name.hash(hasher);
        return (address - symbol.range.start).hash(hasher);
    }
    let Some(section) = image.section_at(address) else { return address.hash(hasher) };
    match section.name.as_str() {
        ".got" => {
            if let Some(word) = image.word(address) {
                hash_address(image, function, word, hasher);
            }
        }
        // Data without a name: its place is the linker's choice, and what it holds may be addresses.
        name => name.hash(hasher),
    }
}

/// What two images' code differs in: functions with what each has of them.
pub type Differences = BTreeMap<Name, (Vec<u64>, Vec<u64>)>;

/// Compares two lists of [`functions`]: the functions that only one has or that are not the same, with their bytes in
/// each.
pub fn differences(one: &[Code], other: &[Code]) -> Differences {
    let by_name = |functions: &[Code]| {
        let mut map: BTreeMap<Name, Vec<(u64, u64)>> = BTreeMap::new();
        for function in functions {
            map.entry(function.name.clone()).or_default().push((function.bytes, function.hash));
        }
        map.values_mut().for_each(|list| list.sort_unstable());
        map
    };
    let (one, other) = (by_name(one), by_name(other));
    let mut found = Differences::new();
    for name in one.keys().chain(other.keys()) {
        let (here, there) = (one.get(name), other.get(name));
        if here != there {
            let bytes = |list: Option<&Vec<(u64, u64)>>| {
                list.map(|list| list.iter().map(|(bytes, _)| *bytes).collect()).unwrap_or_default()
            };
            found.insert(name.clone(), (bytes(here), bytes(there)));
        }
    }
    found
}
