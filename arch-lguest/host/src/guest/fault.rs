//! Exceptions of a guest.

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::Event;
use platform::VirtAddr;

use super::{Guest, Host};
use crate::context::{Context, Mode};
use crate::rule::Broken;
use crate::tables::shadow::{Access, Fill};

const PAGE_FAULT: u32 = 14;
/// Bits of a page fault's error code (Intel SDM vol. 3A, 4.7).
const PRESENT: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;
const USER: u32 = 1 << 2;
const FETCH: u32 = 1 << 4;

impl Guest {
    /// A page fault at `address`: fills the shadow, or passes it on.
    pub fn page_fault(
        &mut self,
        context: &mut Context,
        address: VirtAddr,
        error_code: u32,
        host: &mut impl Host,
    ) -> Result<(), Broken> {
        if let Some(data) = self.vcpu.data {
            self.run_ring(data, host)?;
        }
        let user = context.mode == Mode::User;
        let access = Access { write: error_code & WRITE != 0, execute: error_code & FETCH != 0, user };
        let memory = self.memory;
        let fill = if self.shadow().host().covers(address) {
            Fill::Denied { present: false }
        } else {
            self.shadow().fill(&memory, address, access)?
        };
        let Fill::Denied { present } = fill else {
            self.counters.shadow_fills += 1;
            return Ok(());
        };
        if let Some(data) = self.vcpu.data {
            data.cr2.store(address.0, Relaxed);
        }
        self.vcpu.fault = user.then_some(address);
        let present = if present { PRESENT } else { 0 };
        let error_code = error_code & (WRITE | FETCH) | present | if user { USER } else { 0 };
        self.deliver(context, Event { vector: PAGE_FAULT, error_code })
    }

    /// Any other exception.
    pub fn exception(
        &mut self,
        context: &mut Context,
        vector: u32,
        error_code: u32,
        host: &mut impl Host,
    ) -> Result<(), Broken> {
        if let Some(data) = self.vcpu.data {
            self.run_ring(data, host)?;
        }
        self.deliver(context, Event { vector, error_code })
    }
}
