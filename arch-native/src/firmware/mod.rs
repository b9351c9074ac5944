//! What firmware tells by ACPI, read with the `acpi` crate. A machine without tables gets the PC's conventions.

pub(crate) mod power;
mod register;
mod s5;

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, HpetInfo, PhysicalMapping};
use platform::{CacheMode, Kernel, MAX_CPUS, PhysAddr};

use crate::interrupts::lines::Signal;
use crate::interrupts::local_apic::NmiLines;
use crate::machine::Machine;
use crate::paging::window::PhysicalWindow;
use register::Register;

/// Where the loader says ACPI's root pointer is; zero if it does not.
static ROOT_POINTER: AtomicU64 = AtomicU64::new(0);

/// Remembers what the loader said.
pub fn set_root_pointer(address: Option<PhysAddr>) {
    ROOT_POINTER.store(address.map_or(0, |address| address.0), Relaxed);
}

/// Maps tables for the `acpi` crate; mappings stay.
struct Mapper<K, M>(PhantomData<(K, M)>);

impl<K, M> Clone for Mapper<K, M> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<K: Kernel, M: Machine> AcpiHandler for Mapper<K, M> {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let mapped = PhysicalWindow::<K, M>::map(PhysAddr(address as u64), size as u64, CacheMode::WriteBack)
            .ok()
            .and_then(|address| NonNull::new(address.as_mut_ptr()))
            .expect("too little memory to read the firmware's tables");
        // SAFETY: mapped for ever, and the lengths are those of the mapping.
        unsafe { PhysicalMapping::new(address, mapped, size, size, self.clone()) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// An I/O APIC as firmware describes it.
#[derive(Clone, Copy, Debug)]
pub struct IoApicAt {
    pub address: PhysAddr,
    pub first: u32,
}

/// Where an ISA interrupt goes, other than to the line of its own number.
#[derive(Clone, Copy, Debug)]
pub struct Override {
    pub irq: u8,
    pub line: u32,
    pub signal: Signal,
}

const MOST_IO_APICS: usize = 8;

/// The machine by its tables.
#[derive(Debug)]
pub struct Description {
    /// Where the local APICs are, if said.
    pub local_apic: Option<PhysAddr>,
    /// Identities of the usable CPUs' APICs.
    pub apic_ids: [u32; MAX_CPUS],
    /// How many of them there are.
    pub cpus: usize,
    /// I/O APICs.
    pub io_apics: [Option<IoApicAt>; MOST_IO_APICS],
    /// ISA interrupts.
    pub overrides: [Option<Override>; 16],
    /// Local lines that carry NMI; the same on every CPU, as on every machine seen.
    pub nmi: NmiLines,
    /// Whether there are 8259s to silence.
    pub has_pic: bool,
    /// The high precision event timer's registers.
    pub hpet: Option<PhysAddr>,
    /// The power management timer, and whether it counts 32 bits, not 24.
    pub pm_timer: Option<(u16, bool)>,
}

impl Description {
    /// A PC that says nothing of itself.
    const fn conventional() -> Self {
        Self {
            local_apic: None,
            apic_ids: [0; MAX_CPUS],
            cpus: 0,
            io_apics: [None; MOST_IO_APICS],
            overrides: [None; 16],
            nmi: NmiLines { line0: false, line1: true },
            has_pic: true,
            hpet: None,
            pm_timer: None,
        }
    }

    fn add_cpu(&mut self, id: u32) {
        if self.cpus < MAX_CPUS && !self.apic_ids[..self.cpus].contains(&id) {
            self.apic_ids[self.cpus] = id;
            self.cpus += 1;
        }
    }
}

/// Reads the tables.
pub fn describe<K: Kernel, M: Machine>() -> Description {
    let mut description = Description::conventional();
    let mapper = Mapper::<K, M>(PhantomData);
    // SAFETY: the loader gave the address, or the BIOS area is searched, which every PC has.
    let tables = unsafe {
        match ROOT_POINTER.load(Relaxed) {
            0 => AcpiTables::search_for_rsdp_bios(mapper),
            address => AcpiTables::from_rsdp(mapper, address as usize),
        }
    };
    let Ok(tables) = tables else {
        description.io_apics[0] = Some(IoApicAt { address: PhysAddr(0xfec0_0000), first: 0 });
        // Where the timer's line 0 is taken by the 8259s, the timer comes on line 2.
        description.overrides[0] =
            Some(Override { irq: 0, line: 2, signal: Signal { level: false, active_low: false } });
        return description;
    };
    if let Ok(madt) = tables.find_table::<Madt>() {
        read_madt(&mut description, &madt);
    }
    if let Ok(fadt) = tables.find_table::<Fadt>() {
        if let Ok(Some(timer)) = fadt.pm_timer_block()
            && timer.address_space == acpi::address::AddressSpace::SystemIo
            && let Ok(port @ 1..) = u16::try_from(timer.address)
        {
            description.pm_timer = Some((port, { fadt.flags }.pm_timer_is_32_bit()));
        }
        power::remember::<K, M>(&tables, &fadt);
    }
    if let Ok(hpet) = HpetInfo::new(&tables) {
        description.hpet = Some(PhysAddr(hpet.base_address as u64));
    }
    description
}

fn read_madt<K: Kernel, M: Machine>(
    description: &mut Description,
    madt: &PhysicalMapping<Mapper<K, M>, Madt>,
) {
    const ENABLED: u32 = 1;
    let madt = madt.get();
    description.local_apic = Some(PhysAddr(u64::from(madt.local_apic_address)));
    description.has_pic = madt.flags & 1 != 0;
    description.nmi = NmiLines::default();
    let mut overrides = 0;
    let mut io_apics = 0;
    let nmi = |line: u8, lines: &mut NmiLines| match line {
        0 => lines.line0 = true,
        _ => lines.line1 = true,
    };
    for entry in madt.entries() {
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & ENABLED != 0 => {
                description.add_cpu(u32::from(cpu.apic_id));
            }
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & ENABLED != 0 => {
                description.add_cpu(cpu.x2apic_id);
            }
            MadtEntry::IoApic(io_apic) if io_apics < MOST_IO_APICS => {
                description.io_apics[io_apics] = Some(IoApicAt {
                    address: PhysAddr(u64::from(io_apic.io_apic_address)),
                    first: io_apic.global_system_interrupt_base,
                });
                io_apics += 1;
            }
            MadtEntry::InterruptSourceOverride(isa) if overrides < description.overrides.len() => {
                // Multiprocessor specification 1.4, table 4-10: two bits of polarity, two of trigger mode; "conforms"
                // means ISA's own, active high and edge.
                let signal =
                    Signal { active_low: isa.flags & 0b11 == 0b11, level: isa.flags >> 2 & 0b11 == 0b11 };
                description.overrides[overrides] =
                    Some(Override { irq: isa.irq, line: isa.global_system_interrupt, signal });
                overrides += 1;
            }
            MadtEntry::LocalApicNmi(at) => nmi(at.nmi_line, &mut description.nmi),
            MadtEntry::X2ApicNmi(at) => nmi(at.nmi_line, &mut description.nmi),
            MadtEntry::LocalApicAddressOverride(at) => {
                description.local_apic = Some(PhysAddr(at.local_apic_address));
            }
            _ => {}
        }
    }
}
