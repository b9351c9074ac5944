//! Accesses through the model of translations.

use std::sync::atomic::Ordering::SeqCst;

use platform::{Access, CpuId, Exception, Mapping, PhysFrame, Protection, VirtAddr};

use crate::memory::{USER_TOP, memory};
use crate::pending::{from_kernel, kernel_frame};
use crate::space::{Stale, Translations, translations};
use crate::state::{facts, here, violation};

/// Why an access does not get where the translations say.
#[derive(Clone, Debug)]
pub enum AccessError {
    /// It faults, with this error code.
    Fault(Access),
    /// The CPU uses a translation that is no longer there or had more rights than there are now: real hardware would
    /// let the access through, to this address.
    Stale {
        /// The translation it uses, and who forgot, or has yet, to flush it.
        stale: Stale,
        /// Where the access goes.
        reaches: VirtAddr,
    },
}

/// Makes CPU `cpu` access `address` through its own translation buffer, as `access` says (`PRESENT` aside). Returns
/// where the byte is on the build machine.
pub fn access(cpu: CpuId, address: VirtAddr, access: Access) -> Result<VirtAddr, AccessError> {
    let access = access - Access::PRESENT;
    if address.0 < USER_TOP { user_half(cpu, address, access) } else { kernel_half(address, access) }
}

/// A translation that some CPU may still use to reach `frame` although it was taken away: none if the frame may be
/// reused. For the kernel's tests to check what they free.
pub fn may_still_reach(frame: PhysFrame) -> Option<Stale> {
    translations().stale().find(|stale| stale.was.frame == frame).cloned()
}

/// Whether a translation with these rights lets the access through.
fn allows(protection: Protection, access: Access) -> bool {
    let wanted = [
        (Access::WRITE, Protection::WRITE),
        (Access::EXECUTE, Protection::EXECUTE),
        (Access::USER, Protection::USER),
    ];
    protection.intersects(Protection::READ | Protection::WRITE | Protection::EXECUTE)
        && wanted.iter().all(|(of, right)| !access.contains(*of) || protection.contains(*right))
}

fn reached(mapping: Mapping, address: VirtAddr) -> VirtAddr {
    memory().host(mapping.frame.start()) + (address - address.page())
}

fn user_half(cpu: CpuId, address: VirtAddr, access: Access) -> Result<VirtAddr, AccessError> {
    let mut guard = translations();
    let Translations { spaces, active, buffers, .. } = &mut *guard;
    let page = address.page();
    let root = active[cpu.index()];
    let now = root.and_then(|root| spaces.get(&root.0)?.pages.get(&page)).copied();
    if let Some(&kept) = buffers[cpu.index()].get(&page) {
        if allows(kept.protection, access) {
            let still = now.is_some_and(|now| now.frame == kept.frame && allows(now.protection, access));
            if still {
                return Ok(reached(kept, address));
            }
            if let Some(stale) = guard.stale_on(cpu, root, page) {
                return Err(AccessError::Stale { stale: stale.clone(), reaches: reached(kept, address) });
            }
            violation(format!("the simulator lost track of {page:?} on CPU {}: {kept:?}", cpu.0));
        }
        // A fault makes the CPU forget, even one over rights that have been added since.
        buffers[cpu.index()].remove(&page);
        return Err(AccessError::Fault(access | Access::PRESENT));
    }
    match now {
        None => Err(AccessError::Fault(access)),
        Some(now) if !allows(now.protection, access) => Err(AccessError::Fault(access | Access::PRESENT)),
        Some(now) => {
            buffers[cpu.index()].insert(page, now);
            Ok(reached(now, address))
        }
    }
}

fn kernel_half(address: VirtAddr, access: Access) -> Result<VirtAddr, AccessError> {
    let protection = if memory().in_window(address) {
        translations().kernel.pages.get(&address.page()).map(|mapping| mapping.protection)
    } else if memory().in_direct_map(address) {
        Some(Protection::READ | Protection::WRITE)
    } else {
        None
    };
    match protection {
        None => Err(AccessError::Fault(access)),
        Some(rights) if allows(rights, access) => Ok(address),
        Some(_) => Err(AccessError::Fault(access | Access::PRESENT)),
    }
}

/// Goes through a stale translation as hardware would, unless this CPU itself made the change and never flushed: then
/// the kernel has left for good without [`platform::Paging::flush`].
pub fn through_stale(cpu: CpuId, stale: &Stale, reaches: VirtAddr) -> VirtAddr {
    if stale.by == cpu {
        violation(format!(
            "CPU {} changed a translation, did not flush it and now uses it: {stale:?}",
            cpu.0
        ));
    }
    reaches
}

/// What the kernel's own access to user memory is on this platform, where user pages are not mapped at their addresses:
/// translates `address` on this CPU for a read or write, between [`platform::Cpu::user_access_begin`] and `end`. A page
/// fault goes to the kernel like any other and the access is tried again; if the handler moved the frame's `rip`, as it
/// does to reach a fix-up, the access has failed and the result is none.
///
/// The address returned is good up to the end of its page.
pub fn kernel_access(address: VirtAddr, write: bool) -> Option<VirtAddr> {
    const HOOK: &str = "sim::kernel_access";
    let wanted = if write { Access::WRITE } else { Access::empty() };
    loop {
        let cpu = here(HOOK);
        if !cpu.user_access.load(SeqCst) {
            violation(format!("{HOOK} of {address:?} without Cpu::user_access_begin"));
        }
        let fault = match access(cpu.id, address, wanted) {
            Ok(reached) => return Some(reached),
            Err(AccessError::Stale { stale, reaches }) => {
                return Some(through_stale(cpu.id, &stale, reaches));
            }
            Err(AccessError::Fault(fault)) => fault,
        };
        let enabled = cpu.irq_enabled.swap(false, SeqCst);
        let mut frame = kernel_frame(enabled);
        let rip = frame.rip;
        let exception = Exception::PageFault { address, access: fault };
        from_kernel(&mut frame, HOOK, |frame| (facts().entries.exception)(exception, frame));
        if frame.rip != rip {
            return None;
        }
    }
}
