//! Roots: which are kept, and which one is loaded.

use core::sync::atomic::Ordering::Relaxed;

use platform::PAGE_SIZE;

use super::{PoolEmpty, Root, Shadow, USER_ENTRIES};
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::{Broken, Rule};
use crate::tables::entry::{ENTRIES, PRESENT};
use crate::tables::guest::GuestRoot;

impl Shadow {
    pub(super) fn new_root(&mut self, guest: GuestRoot) -> Result<Root, PoolEmpty> {
        let kernel = self.pool.allocate().ok_or(PoolEmpty)?;
        let Some(user) = self.pool.allocate() else {
            self.pool.free(kernel);
            return Err(PoolEmpty);
        };
        let from = self.pool.table(self.kernel_half);
        let to = self.pool.table(kernel);
        for at in USER_ENTRIES..ENTRIES {
            to[at].store(from[at].load(Relaxed), Relaxed);
        }
        self.pool.table(user)[self.host.index].store(self.host.value, Relaxed);
        Ok(Root { guest, kernel, user, last_used: self.uses })
    }

    /// NEW_PGTABLE: loads the root at `at`, making its shadow if there is none.
    pub fn load(&mut self, memory: &GuestMemory, at: GuestPhys) -> Result<(), Broken> {
        if !at.0.is_multiple_of(PAGE_SIZE) || at.0 == 0 {
            return Err(Rule::UnalignedAddress.broken_by(at.0));
        }
        memory.check(at, PAGE_SIZE)?;
        let entry = memory.read(GuestPhys(at.0 + self.host.index as u64 * 8))?;
        if entry & PRESENT != 0 {
            return Err(Rule::HostRange.broken_by(entry));
        }
        self.uses += 1;
        let wanted = GuestRoot::Table(at);
        if let Some(known) = self.find(wanted) {
            self.current = known;
        } else {
            let root = loop {
                match self.new_root(wanted) {
                    Ok(root) => break root,
                    Err(PoolEmpty) => self.make_room(),
                }
            };
            let place = self.roots.iter().position(Option::is_none).unwrap_or_else(|| {
                let oldest = self.oldest().expect("every place is taken");
                self.drop_root(oldest);
                oldest
            });
            self.roots[place] = Some(root);
            // The boot map is over.
            let boot = self.find(GuestRoot::BootMap);
            self.current = place;
            if let Some(boot) = boot {
                self.drop_root(boot);
                self.forget_kernel_half();
            }
        }
        let now = self.uses;
        if let Some(root) = &mut self.roots[self.current] {
            root.last_used = now;
        }
        Ok(())
    }

    pub(super) fn find(&self, guest: GuestRoot) -> Option<usize> {
        self.roots.iter().position(|root| root.is_some_and(|root| root.guest == guest))
    }

    /// The root, not the loaded one, that was loaded least recently.
    pub(super) fn oldest(&self) -> Option<usize> {
        let others = self.roots.iter().enumerate().filter(|(at, _)| *at != self.current);
        others
            .filter_map(|(at, root)| Some((at, root.as_ref()?.last_used)))
            .min_by_key(|found| found.1)
            .map(|found| found.0)
    }

    /// RELEASE_PGD.
    pub fn release(&mut self, at: GuestPhys) -> Result<(), Broken> {
        let guest = GuestRoot::Table(at);
        if self.guest_root() == guest {
            return Err(Rule::ReleasedRoot.broken_by(at.0));
        }
        if let Some(known) = self.find(guest) {
            self.drop_root(known);
        }
        Ok(())
    }

    pub(super) fn drop_root(&mut self, at: usize) {
        let Some(root) = self.roots[at].take() else { return };
        self.forget_user_half_of(&root, 0..USER_ENTRIES);
        let tables = [root.kernel, root.user];
        if self.given == Some(tables) {
            self.left = Some(tables);
        } else {
            tables.into_iter().for_each(|table| self.pool.free(table));
        }
    }
}
