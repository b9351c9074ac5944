//! Inlined calls, as the compiler recorded them (DWARF's `DW_TAG_inlined_subroutine`).

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context, Result};
use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Unit,
    UnitRef,
};

use crate::evidence::image::Image;
use crate::evidence::names::Name;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// A line of the source.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Place {
    /// The file, from the repository's top level where it is in it
    pub file: String,
    /// Its line; 0 where the compiler does not know
    pub line: u64,
    /// The column
    pub column: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.file.is_empty() {
            return f.write_str("unknown source line");
        }
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A function's body in the place of a call to it.
#[derive(Clone, Debug)]
pub struct Inlined {
    /// The function
    pub name: Name,
    /// Where its instructions are
    pub ranges: Vec<Range<u64>>,
    /// Where the call is in the source
    pub place: Place,
    /// How many inlined calls it is inside of
    pub depth: usize,
}

impl Inlined {
    /// Whether the instruction at `address` is part of it.
    pub fn contains(&self, address: u64) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

/// The inlined calls to functions whose name is `wanted`, those around others first.
pub fn calls(image: &Image, wanted: impl Fn(&Name) -> bool) -> Result<Vec<Inlined>> {
    let section = |id: gimli::SectionId| -> Result<Reader<'_>, gimli::Error> {
        let bytes = image.debug.get(id.name()).map_or(&[][..], Vec::as_slice);
        Ok(EndianSlice::new(bytes, LittleEndian))
    };
    let dwarf = Dwarf::load(section).context("cannot read the debug information")?;
    let mut units = Vec::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next().context("cannot read the debug information's units")? {
        units.push(dwarf.unit(header).context("cannot read a unit of the debug information")?);
    }
    let mut walk = Walk { dwarf: &dwarf, units: &units, names: HashMap::new(), wanted: &wanted };
    let mut found = Vec::new();
    for unit in &units {
        walk.collect(unit.unit_ref(&dwarf), &mut found).context("the debug information is damaged")?;
    }
    Ok(found)
}

struct Walk<'a, 'd, F> {
    dwarf: &'a Dwarf<Reader<'d>>,
    units: &'a [Unit<Reader<'d>>],
    /// Names of functions that were inlined, by where they are described; none if not wanted
    names: HashMap<DebugInfoOffset, Option<Name>>,
    wanted: &'a F,
}

impl<'d, F: Fn(&Name) -> bool> Walk<'_, 'd, F> {
    fn collect(&mut self, unit: UnitRef<'_, Reader<'d>>, found: &mut Vec<Inlined>) -> Result<()> {
        let mut entries = unit.entries();
        // Depths, in the tree, of the inlined calls around the current entry.
        let mut around: Vec<isize> = Vec::new();
        while let Some(entry) = entries.next_dfs()? {
            let level = entry.depth();
            while around.last().is_some_and(|&outer| outer >= level) {
                around.pop();
            }
            if entry.tag() != gimli::DW_TAG_inlined_subroutine {
                continue;
            }
            let depth = around.len();
            around.push(level);
            let origin = match entry.attr_value(gimli::DW_AT_abstract_origin) {
                Some(AttributeValue::UnitRef(offset)) => offset.to_debug_info_offset(&unit.header),
                Some(AttributeValue::DebugInfoRef(offset)) => Some(offset),
                _ => None,
            };
            let Some(origin) = origin else { continue };
            let Some(name) = self.name(origin)? else { continue };
            let mut ranges = Vec::new();
            let mut of_entry = unit.die_ranges(entry)?;
            while let Some(range) = of_entry.next()? {
                if range.begin < range.end {
                    ranges.push(range.begin..range.end);
                }
            }
            if !ranges.is_empty() {
                found.push(Inlined { name, ranges, place: place(unit, entry)?, depth });
            }
        }
        Ok(())
    }

    /// The name of the function described at `offset`, if it is wanted.
    fn name(&mut self, offset: DebugInfoOffset) -> Result<Option<Name>> {
        if let Some(known) = self.names.get(&offset) {
            return Ok(known.clone());
        }
        let after = self
            .units
            .partition_point(|unit| unit.header.debug_info_offset().is_some_and(|start| start.0 <= offset.0));
        let unit = self.units[..after].last().context("a reference leads out of the debug information")?;
        let inside = offset.to_unit_offset(&unit.header).context("a reference leads to no unit")?;
        let entry = unit.entry(inside)?;
        let name = match entry.attr_value(gimli::DW_AT_linkage_name) {
            Some(value) => Some(Name::new(&unit.unit_ref(self.dwarf).attr_string(value)?.to_string_lossy())),
            None => None,
        };
        let name = name.filter(self.wanted);
        self.names.insert(offset, name.clone());
        Ok(name)
    }
}

/// Where the call of an inlined function is in the source.
fn place<'d>(unit: UnitRef<'_, Reader<'d>>, entry: &DebuggingInformationEntry<Reader<'d>>) -> Result<Place> {
    let number = |name| entry.attr(name).and_then(|attribute| attribute.udata_value()).unwrap_or_default();
    let mut place = Place {
        file: String::new(),
        line: number(gimli::DW_AT_call_line),
        column: number(gimli::DW_AT_call_column),
    };
    let index = match entry.attr_value(gimli::DW_AT_call_file) {
        Some(AttributeValue::FileIndex(index)) => index,
        _ => return Ok(place),
    };
    let Some(program) = &unit.line_program else { return Ok(place) };
    let header = program.header();
    let Some(file) = header.file(index) else { return Ok(place) };
    let mut path = String::new();
    if let Some(directory) = file.directory(header) {
        path = unit.attr_string(directory)?.to_string_lossy().into_owned();
    }
    let name = unit.attr_string(file.path_name())?;
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(&name.to_string_lossy());
    // Without the directory that the compiler ran in.
    let directory = unit.comp_dir.map(|name| name.to_string_lossy().into_owned());
    let shorter =
        directory.and_then(|directory| path.strip_prefix(&directory)?.strip_prefix('/').map(str::to_owned));
    place.file = shorter.unwrap_or(path);
    Ok(place)
}
