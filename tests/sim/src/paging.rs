//! Address spaces: the hooks, with the checks of the contract.

use core::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;

use platform::{
    CacheMode, CpuSet, ForkMode, FrameBatch, Kernel, Mapping, OutOfFrames, PAGE_SIZE, PageRange, Paging,
    PhysFrame, Protection, Root, VirtAddr,
};

use crate::memory::{USER_TOP, memory};
use crate::pending::deliver;
use crate::space::{Space, Stale, Translations, translations};
use crate::state::{CPUS, Status, facts, here, here_disabled, violation, world};

/// A model for user pages; real mappings for kernel pages.
///
/// Like a four-level format it takes a frame for each table, from the kernel. Tables are freed with their space, the kernel's when
/// they are empty and flushed.
#[derive(Debug)]
pub struct SimPaging<K>(PhantomData<fn() -> K>);

/// Runs `body` on the translations and ends the run with its message if it fails.
fn checked<T>(body: impl FnOnce(&mut Translations) -> Result<T, String>) -> T {
    let result = body(&mut translations());
    result.unwrap_or_else(|message| violation(message))
}

/// Ends the run unless `pages` are user pages.
fn check_user(hook: &str, pages: PageRange) {
    if pages.end.0 > USER_TOP {
        violation(format!("{hook}: {pages:?} is not below the top of the user half"));
    }
}

fn check_frames(hook: &str, frames: &[PhysFrame]) {
    if frames.len() > 64 {
        violation(format!("{hook}: {} frames are more than 64", frames.len()));
    }
    let translations = translations();
    let wrong =
        frames.iter().find(|frame| !memory().is_ram(**frame) || translations.table_frames.contains(frame));
    let message = wrong.map(|frame| {
        let why = if memory().is_ram(*frame) { "is a translation table" } else { "is no RAM" };
        format!("{hook}: {frame:?} {why}")
    });
    drop(translations);
    if let Some(message) = message {
        violation(message);
    }
}

/// A frame for a table, from the kernel; checks that the kernel may give it away.
fn table_frame(hook: &str) -> Option<PhysFrame> {
    let frame = (facts().entries.allocate_table_frame)()?;
    if !memory().is_ram(frame) {
        violation(format!("{hook}: the kernel gave {frame:?} for a table, which is no RAM"));
    }
    checked(|translations| {
        if let Some(stale) = translations.stale().find(|stale| stale.was.frame == frame) {
            return Err(format!(
                "{hook}: the kernel gave {frame:?} for a table, but it may still be reached: {stale:?}"
            ));
        }
        if !translations.table_frames.insert(frame) {
            return Err(format!("{hook}: the kernel gave {frame:?} for a table, but it is one already"));
        }
        Ok(Some(frame))
    })
}

/// Makes sure that there are tables for `page`.
fn grow(
    hook: &str,
    page: VirtAddr,
    space: impl Fn(&mut Translations) -> Result<&mut Space, String>,
) -> Result<(), OutOfFrames> {
    while let Some(key) = checked(|translations| Ok(space(translations)?.missing_table(page))) {
        let frame = table_frame(hook).ok_or(OutOfFrames)?;
        checked(|translations| {
            space(translations)?.add_table(key, frame);
            Ok(())
        });
    }
    Ok(())
}

/// The rights of a user page as kept: user mode may always use it within the others.
fn user_rights(protection: Protection) -> Protection {
    if protection.is_empty() { protection } else { protection | Protection::USER }
}

/// Waits until all of `cpus` could have taken an interrupt that makes them flush.
fn reach(hook: &str, cpus: CpuSet) {
    let caller = here(hook);
    let others = cpus.without(caller.id);
    if others.is_empty() {
        return;
    }
    if !caller.irq_enabled.load(SeqCst) {
        violation(format!("{hook} of other CPUs ({others:?}) was called with interrupts disabled"));
    }
    for other in others.iter() {
        loop {
            let status = world().status[other.index()];
            if matches!(status, Status::Off | Status::Halted) {
                violation(format!("{hook} waits for CPU {}, which is {status:?}", other.0));
            }
            if CPUS[other.index()].irq_enabled.load(SeqCst) {
                break;
            }
            deliver(hook);
            std::thread::yield_now();
        }
    }
}

#[platform::backend]
impl<K: Kernel> Paging for SimPaging<K> {
    fn new_root() -> Result<Root, OutOfFrames> {
        here("Paging::new_root");
        let top = table_frame("Paging::new_root").ok_or(OutOfFrames)?;
        let mut translations = translations();
        translations.last_root += 1;
        let root = translations.last_root;
        translations.spaces.insert(root, Space::new(top));
        Ok(Root(root))
    }

    unsafe fn drop_root(root: Root) {
        here("Paging::drop_root");
        let frames: Vec<_> = checked(|translations| {
            let users = translations.users_of(root);
            let space = translations.space("Paging::drop_root", root)?;
            if let Some((page, mapping)) = space.pages.first_key_value() {
                return Err(format!("Paging::drop_root: {root:?} still maps {page:?} to {mapping:?}"));
            }
            if !users.is_empty() {
                return Err(format!("Paging::drop_root: {root:?} is active on {users:?}"));
            }
            let space = translations.spaces.remove(&root.0).expect("just found");
            let frames: Vec<_> = space.into_table_frames().collect();
            for frame in &frames {
                translations.table_frames.remove(frame);
            }
            Ok(frames)
        });
        for frame in frames {
            (facts().entries.free_table_frame)(frame);
        }
    }

    fn activate(root: Root) {
        let cpu = here_disabled("Paging::activate");
        checked(|translations| {
            translations.space("Paging::activate", root)?;
            translations.activate(cpu.id, Some(root));
            Ok(())
        });
    }

    fn activate_kernel() {
        let cpu = here_disabled("Paging::activate_kernel");
        translations().activate(cpu.id, None);
    }

    fn map(
        root: Root,
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
    ) -> Result<u64, OutOfFrames> {
        const HOOK: &str = "Paging::map";
        here(HOOK);
        let end = page + frames.len() as u64 * PAGE_SIZE;
        check_user(HOOK, PageRange::new(page, end));
        check_frames(HOOK, frames);
        let mut mapped = 0;
        for (index, frame) in frames.iter().enumerate() {
            let page = page + index as u64 * PAGE_SIZE;
            grow(HOOK, page, |translations| translations.space(HOOK, root))?;
            checked(|translations| {
                let pages = &mut translations.space(HOOK, root)?.pages;
                pages.entry(page).or_insert_with(|| {
                    mapped |= 1 << index;
                    Mapping { frame: *frame, protection: user_rights(protection) }
                });
                Ok(())
            });
        }
        Ok(mapped)
    }

    fn replace(root: Root, page: VirtAddr, frame: PhysFrame, protection: Protection) -> bool {
        const HOOK: &str = "Paging::replace";
        let by = here(HOOK).id;
        check_user(HOOK, PageRange::new(page, page + PAGE_SIZE));
        check_frames(HOOK, &[frame]);
        checked(|translations| {
            let cpus = translations.users_of(root);
            let new = Mapping { frame, protection: user_rights(protection) };
            let Some(slot) = translations.space(HOOK, root)?.pages.get_mut(&page) else { return Ok(false) };
            let was = std::mem::replace(slot, new);
            if was.frame != frame || !protection.contains(was.protection - Protection::USER) {
                translations.add_stale(Stale { root: Some(root), page, was, cpus, by });
            }
            Ok(true)
        })
    }

    fn protect(root: Root, pages: PageRange, protection: Protection) {
        const HOOK: &str = "Paging::protect";
        let by = here(HOOK).id;
        check_user(HOOK, pages);
        checked(|translations| {
            let cpus = translations.users_of(root);
            let mut changed = Vec::new();
            let space = translations.space(HOOK, root)?;
            for (page, slot) in space.pages.range_mut(pages.start..pages.end) {
                let was = *slot;
                slot.protection =
                    user_rights(protection - (Protection::WRITE - (was.protection & Protection::WRITE)));
                if !slot.protection.contains(was.protection) {
                    changed.push(Stale { root: Some(root), page: *page, was, cpus, by });
                }
            }
            changed.into_iter().for_each(|stale| translations.add_stale(stale));
            Ok(())
        });
    }

    fn unmap(root: Root, pages: PageRange, taken: &mut FrameBatch) -> VirtAddr {
        const HOOK: &str = "Paging::unmap";
        let by = here(HOOK).id;
        check_user(HOOK, pages);
        checked(|translations| {
            let cpus = translations.users_of(root);
            translations.space(HOOK, root)?;
            Ok(take_pages(translations, Some(root), pages, taken, |page, was| Stale {
                root: Some(root),
                page,
                was,
                cpus,
                by,
            }))
        })
    }

    fn query(root: Root, page: VirtAddr) -> Option<Mapping> {
        const HOOK: &str = "Paging::query";
        here(HOOK);
        checked(|translations| Ok(translations.space(HOOK, root)?.pages.get(&page.page()).copied()))
    }

    fn fork(
        parent: Root,
        child: Root,
        pages: PageRange,
        mode: ForkMode,
        shared: &mut FrameBatch,
    ) -> Result<VirtAddr, OutOfFrames> {
        const HOOK: &str = "Paging::fork";
        let by = here(HOOK).id;
        check_user(HOOK, pages);
        let mut next = pages.start;
        while !shared.is_full() {
            let rest = PageRange::new(next, pages.end);
            let found = checked(|translations| Ok(translations.space(HOOK, parent)?.mapped(rest).next()));
            let Some((page, was)) = found else { return Ok(pages.end) };
            grow(HOOK, page, |translations| translations.space(HOOK, child))?;
            checked(|translations| {
                let cpus = translations.users_of(parent);
                let mut new = was;
                if mode == ForkMode::CopyOnWrite {
                    new.protection -= Protection::WRITE;
                }
                if let Some(there) = translations.space(HOOK, child)?.pages.insert(page, new) {
                    return Err(format!("{HOOK}: the child maps {page:?} already, to {there:?}"));
                }
                translations.space(HOOK, parent)?.pages.insert(page, new);
                if new != was {
                    translations.add_stale(Stale { root: Some(parent), page, was, cpus, by });
                }
                Ok(())
            });
            shared.push(was.frame);
            next = page + PAGE_SIZE;
        }
        Ok(next)
    }

    fn flush(root: Root, pages: PageRange, cpus: CpuSet) {
        const HOOK: &str = "Paging::flush";
        reach(HOOK, cpus);
        check_user(HOOK, pages);
        checked(|translations| {
            translations.space(HOOK, root)?;
            translations.flush(Some(root), pages, cpus);
            Ok(())
        });
    }

    fn map_kernel(
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
        _cache: CacheMode,
    ) -> Result<(), OutOfFrames> {
        const HOOK: &str = "Paging::map_kernel";
        here(HOOK);
        if protection.contains(Protection::USER) {
            violation(format!("{HOOK}: kernel pages are not for user mode"));
        }
        check_frames(HOOK, frames);
        for (index, frame) in frames.iter().enumerate() {
            let page = page + index as u64 * PAGE_SIZE;
            if !memory().in_window(page) || !page.is_page_aligned() {
                violation(format!("{HOOK}: {page:?} is no page of the kernel window"));
            }
            grow(HOOK, page, |translations| Ok(&mut translations.kernel))?;
            checked(|translations| {
                if let Some(stale) = translations.stale().find(|s| s.root.is_none() && s.page == page) {
                    return Err(format!(
                        "{HOOK}: {page:?} is mapped again but was not flushed everywhere: {stale:?}"
                    ));
                }
                let mapping = Mapping { frame: *frame, protection };
                match translations.kernel.pages.insert(page, mapping) {
                    Some(there) => Err(format!("{HOOK}: {page:?} is mapped already, to {there:?}")),
                    None => Ok(()),
                }
            });
            memory().map_window(page, *frame, protection);
        }
        Ok(())
    }

    fn unmap_kernel(pages: PageRange, taken: &mut FrameBatch) -> VirtAddr {
        const HOOK: &str = "Paging::unmap_kernel";
        let by = here(HOOK).id;
        if !memory().in_window(pages.start) || pages.end.0 > memory().window_end() {
            violation(format!("{HOOK}: {pages:?} is not in the kernel window"));
        }
        let cpus = world().started;
        let mut gone = Vec::new();
        let end = take_pages(&mut translations(), None, pages, taken, |page, was| {
            gone.push(page);
            Stale { root: None, page, was, cpus, by }
        });
        // At once for all CPUs: stricter than hardware, so that a late access shows.
        gone.into_iter().for_each(|page| memory().unmap_window(page));
        end
    }

    fn flush_kernel(pages: PageRange, cpus: CpuSet) {
        const HOOK: &str = "Paging::flush_kernel";
        reach(HOOK, cpus);
        let started = world().started;
        let tables = checked(|translations| {
            translations.flush(None, pages, cpus);
            let tables = translations.kernel.take_empty_tables();
            if !tables.is_empty() && started.bits() & !cpus.bits() != 0 {
                return Err(format!("{HOOK} was asked to reach {cpus:?} only, but tables are to be freed"));
            }
            tables.iter().for_each(|frame| _ = translations.table_frames.remove(frame));
            Ok(tables)
        });
        tables.into_iter().for_each(|frame| (facts().entries.free_table_frame)(frame));
    }
}

/// Unmaps upward until the end or until `taken` is full; says where it stopped.
fn take_pages(
    translations: &mut Translations,
    root: Option<Root>,
    pages: PageRange,
    taken: &mut FrameBatch,
    mut stale: impl FnMut(VirtAddr, Mapping) -> Stale,
) -> VirtAddr {
    let mut next = pages.start;
    while !taken.is_full() {
        let rest = PageRange::new(next, pages.end);
        let space = match root {
            Some(root) => translations.spaces.get_mut(&root.0).expect("checked by the caller"),
            None => &mut translations.kernel,
        };
        let Some((page, was)) = space.mapped(rest).next() else { return pages.end };
        space.pages.remove(&page);
        taken.push(was.frame);
        translations.add_stale(stale(page, was));
        next = page + PAGE_SIZE;
    }
    next
}
