//! Sets of files within sets of files: never in a circle, and not too deep.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::epoll::{Epoll, Item, Set};
use crate::errno::{Errno, KResult};
use crate::sync::{Mutex, MutexGuard};
use litemap::LiteMap;

/// Most sets in a chain, each a member of the one before.
const MAX_DEPTH: usize = 5;

/// Held while a set is made a member of another.
static NESTING: Mutex<()> = Mutex::new(());

fn key(set: &Set) -> usize {
    core::ptr::from_ref(set).addr()
}

/// Says whether `inner` may become a member of `outer`. It stays so as long as what is returned is kept.
///
/// # Errors
/// ELOOP.
pub fn check(outer: &Epoll, inner: &Epoll) -> KResult<MutexGuard<'static, ()>> {
    let guard = NESTING.lock();
    let below = depth_below(inner, &outer.set, MAX_DEPTH, &mut LiteMap::new())?;
    let above = depth_above(&outer.set, MAX_DEPTH, &mut LiteMap::new())?;
    if below + above > MAX_DEPTH { Err(Errno::ELOOP) } else { Ok(guard) }
}

/// Length of the longest chain from `set` down, itself included, none of whose sets is `forbidden`.
fn depth_below(
    set: &Epoll,
    forbidden: &Set,
    limit: usize,
    known: &mut LiteMap<usize, usize>,
) -> KResult<usize> {
    if core::ptr::eq(&raw const *set.set, forbidden) || limit == 0 {
        return Err(Errno::ELOOP);
    }
    if let Some(&depth) = known.get(&key(&set.set)) {
        return Ok(depth);
    }
    let mut deepest = 0;
    for file in set.set.inner_sets() {
        if let Some(inner) = file.ops_as::<Epoll>() {
            deepest = deepest.max(depth_below(inner, forbidden, limit - 1, known)?);
        }
    }
    known.insert(key(&set.set), deepest + 1);
    Ok(deepest + 1)
}

/// Length of the longest chain from `set` up, itself included.
fn depth_above(set: &Set, limit: usize, known: &mut LiteMap<usize, usize>) -> KResult<usize> {
    if limit == 0 {
        return Err(Errno::ELOOP);
    }
    if let Some(&depth) = known.get(&key(set)) {
        return Ok(depth);
    }
    let parents: Vec<Arc<Item>> = set.parents.lock().iter().filter_map(Weak::upgrade).collect();
    let mut highest = 0;
    for parent in parents {
        highest = highest.max(depth_above(&parent.set, limit - 1, known)?);
    }
    known.insert(key(set), highest + 1);
    Ok(highest + 1)
}
