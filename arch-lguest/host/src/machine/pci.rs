//! PCI: configuration space by its two ports (PCI Local Bus Specification 3.0, 3.2.2.3.2), and MSI-X (6.8.2).

use platform::{PhysAddr, Unusable};
use virtio_drivers::transport::pci::bus::{BarInfo, ConfigurationAccess, DeviceFunction, PciRoot};
use x86_64::instructions::port::Port;

use super::paging::{direct, registers};

/// Where the ports select a word.
const ADDRESS: u16 = 0xcf8;
/// The word selected.
const DATA: u16 = 0xcfc;

/// The bus that the ports reach. On a machine without them nothing answers, which is a bus without devices.
#[derive(Debug)]
pub struct Ports;

impl Ports {
    fn select(function: DeviceFunction, register: u8) {
        let device = u32::from(function.device) << 11 | u32::from(function.function) << 8;
        let address = 1 << 31 | u32::from(function.bus) << 16 | device | u32::from(register & !3);
        // SAFETY: names the word that the next access to the other port is about.
        unsafe { Port::new(ADDRESS).write(address) };
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        Self::select(function, register);
        // SAFETY: reading configuration space changes nothing.
        unsafe { Port::new(DATA).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, data: u32) {
        Self::select(function, register);
        // SAFETY: this is the only user of configuration space; nothing of a device's lies in memory that is used.
        unsafe { Port::new(DATA).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// The bus.
pub type Bus = PciRoot<Ports>;

/// Where a function's base address register `bar` leads, if that is a part of memory that is mapped as registers.
pub fn region(bus: &mut Bus, function: DeviceFunction, bar: u8) -> Option<PhysAddr> {
    match bus.bar_info(function, bar) {
        Ok(Some(BarInfo::Memory { address, size, .. })) => registers(PhysAddr(address), size),
        _ => None,
    }
}

/// The identity of MSI-X among the capabilities.
const MSI_X: u8 = 0x11;
/// In the capability's first word: messages are sent, and no vector is masked by this bit.
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;
/// Where messages go to become interrupts of the processor whose APIC's identity is in bits 12 to 19 (Intel SDM vol. 3A, 11.11).
const MESSAGES: u32 = 0xfee0_0000;

/// Makes the first entry of a function's MSI-X table interrupt this processor with `vector`, and the function use MSI-X.
pub fn enable_message(
    bus: &mut Bus,
    function: DeviceFunction,
    apic_id: u8,
    vector: u8,
) -> Result<(), Unusable> {
    let capability = bus.capabilities(function).find(|capability| capability.id == MSI_X);
    let at = capability.ok_or(Unusable("a virtio device on PCI has no MSI-X"))?.offset;
    let table = Ports.read_word(function, at + 4);
    let base = region(bus, function, table as u8 & 7).ok_or(Unusable("an MSI-X table is out of reach"))?;
    let entry = direct(base + u64::from(table & !7)).as_mut_ptr::<u32>();
    let message = [MESSAGES | u32::from(apic_id) << 12, 0, u32::from(vector), 0];
    for (at, word) in message.into_iter().enumerate() {
        // SAFETY: the table is in the function's own registers, and nobody else uses it.
        unsafe { entry.add(at).write_volatile(word) };
    }
    let control = Ports.read_word(function, at);
    Ports.write_word(function, at, (control | ENABLE) & !MASK_ALL);
    Ok(())
}
