//! The tasks that wait in a queue: a list through their own stacks, so that waiting needs no memory.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::process::Task;

/// One task's place in a list. It lies on the stack of the task's wait.
pub(super) struct Place {
    task: Arc<Task>,
    /// It is in the list. Changed under the list's lock; cleared as the last thing done to a place by whoever takes it
    /// out, so that its task may leave when it finds it cleared.
    listed: AtomicBool,
    neighbours: UnsafeCell<Neighbours>,
}

#[derive(Clone, Copy)]
struct Neighbours {
    previous: *const Place,
    next: *const Place,
}

impl Place {
    /// A place in no list.
    pub fn new(task: Arc<Task>) -> Self {
        let none = Neighbours { previous: ptr::null(), next: ptr::null() };
        Self { task, listed: AtomicBool::new(false), neighbours: UnsafeCell::new(none) }
    }

    /// Who waits.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Whether it is in the list. Without the list's lock, "no" is certain.
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }
}

/// Places in the order in which they came.
pub(super) struct WaitList {
    first: *const Place,
    last: *const Place,
}

// SAFETY: the places it points to are reached by whoever holds the list alone, and their tasks are counted references.
unsafe impl Send for WaitList {}

impl WaitList {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self { first: ptr::null(), last: ptr::null() }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Puts `place` at the end, unless it is in the list.
    ///
    /// # Safety
    /// It is in no other list, and stays where it is until it is in none.
    pub unsafe fn push(&mut self, place: &Place) {
        if place.is_listed() {
            return;
        }
        // SAFETY: the neighbours of a place are touched by the list's holder only, and the last is in the list.
        unsafe {
            *place.neighbours.get() = Neighbours { previous: self.last, next: ptr::null() };
            match self.last.as_ref() {
                Some(last) => (*last.neighbours.get()).next = place,
                None => self.first = place,
            }
        }
        self.last = place;
        place.listed.store(true, Ordering::Relaxed);
    }

    /// Takes `place` out; false if it is in the list no more.
    ///
    /// # Safety
    /// It is in no other list.
    pub unsafe fn remove(&mut self, place: &Place) -> bool {
        if !place.is_listed() {
            return false;
        }
        // SAFETY: as above, and the place is in the list with its neighbours.
        unsafe { self.unlink(place) };
        place.listed.store(false, Ordering::Relaxed);
        true
    }

    /// Takes the first place out and has `wake` called for its task; false if there is none.
    pub fn wake_first(&mut self, wake: impl FnOnce(&Arc<Task>)) -> bool {
        // SAFETY: a place in the list is where it was put, until it is taken out.
        let Some(place) = (unsafe { self.first.as_ref() }) else { return false };
        // SAFETY: it is in the list.
        unsafe { self.unlink(place) };
        wake(&place.task);
        // From here on the place may be gone.
        place.listed.store(false, Ordering::Release);
        true
    }

    /// # Safety
    /// The place is in the list.
    unsafe fn unlink(&mut self, place: &Place) {
        // SAFETY: the neighbours of a place are touched by the list's holder only, and are in the list too.
        unsafe {
            let Neighbours { previous, next } = *place.neighbours.get();
            match previous.as_ref() {
                Some(previous) => (*previous.neighbours.get()).next = next,
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => (*next.neighbours.get()).previous = previous,
                None => self.last = previous,
            }
        }
    }
}
