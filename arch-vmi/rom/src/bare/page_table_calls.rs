//! Page tables: the guest's are the processor's, so an update is a write, now or from the queue.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use vmi_abi::{FlushTlb, LazyMode, PteUpdate};

use super::control::{get_cr3, get_cr4, load_cr3, set_cr4};
use super::machine::{MAPPINGS, PerCpu, with_cpu};
use crate::update_queue::Update;

const PAGE_GLOBAL: u64 = 1 << 7;

fn apply(update: Update) {
    #[cfg(feature = "strict")]
    super::rules::update(update);
    // SAFETY: an entry of the guest's; a bad pointer faults.
    unsafe { (update.entry as *mut u64).write_volatile(update.value) };
}

fn flush(cpu: &mut PerCpu) {
    cpu.queue.drain(apply);
}

/// Makes this CPU's queued updates.
pub fn flush_queue() {
    with_cpu(flush);
}

pub extern "C" fn set_pxe_long(value: u64, entry: u64, flags: u64, address: u64) {
    let update = Update { entry, value, flags };
    #[cfg(feature = "strict")]
    super::rules::check_flags(entry, flags, address);
    let _ = address;
    let done = with_cpu(|cpu| {
        let may_wait = flags & PteUpdate::DEFER.bits() != 0 || cpu.lazy == LazyMode::Mmu as u64;
        if !may_wait {
            flush(cpu);
            apply(update);
            return;
        }
        if let Err(update) = cpu.queue.push(update) {
            flush(cpu);
            // An empty queue has room.
            let _ = cpu.queue.push(update);
        }
    });
    if done.is_none() {
        apply(update);
    }
}

pub extern "C" fn update_pxe_long(entry: u64, flags: u64, address: u64) {
    let _ = (entry, flags, address);
    #[cfg(feature = "strict")]
    {
        super::rules::check_flags(entry, flags, address);
        // The write is made; what is known of the table must not be older.
        flush_queue();
        super::rules::written(entry, flags);
    }
}

/// MachineToPhysical and PhysicalToMachine: there is one kind of frame numbers.
pub extern "C" fn same_frame(frame: u64) -> u64 {
    frame
}

pub extern "C" fn allocate_page(frame: u64, flags: u64, cloned: u64, first: u64, count: u64) {
    flush_queue();
    let _ = (frame, flags, cloned, first, count);
    #[cfg(feature = "strict")]
    super::rules::allocate(frame, flags, cloned, first, count);
}

pub extern "C" fn release_page(frame: u64, level: u64) {
    flush_queue();
    let _ = (frame, level);
    #[cfg(feature = "strict")]
    super::rules::release(frame, level);
}

pub extern "C" fn inval_page(address: u64) {
    flush_queue();
    // SAFETY: dropping a translation is always allowed.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) };
}

pub extern "C" fn flush_tlb(flags: u64) {
    flush_queue();
    let cr4 = get_cr4();
    if flags & FlushTlb::GLOBAL.bits() != 0 && cr4 & PAGE_GLOBAL != 0 {
        // Changing the flag drops all translations (Intel SDM vol. 3A, 4.10.4.1).
        set_cr4(cr4 & !PAGE_GLOBAL);
        set_cr4(cr4);
    } else if flags & (FlushTlb::TLB | FlushTlb::GLOBAL).bits() != 0 {
        load_cr3(get_cr3());
    }
}

pub extern "C" fn set_linear_mapping(slot: u64, address: u64, pages: u64, frame: u64) {
    if let Some([to_address, to_pages, to_frame]) = MAPPINGS.get(slot as usize) {
        to_pages.store(0, Relaxed);
        to_address.store(address, Relaxed);
        to_frame.store(frame, Relaxed);
        to_pages.store(pages, Relaxed);
    }
}
