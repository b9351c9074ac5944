//! Futexes (`futex(2)`), without priority inheritance.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use platform::{Access, Nanoseconds, PAGE_SIZE, VirtAddr};

use super::{Task, current};
use crate::errno::{Errno, KResult};
use crate::mm::vma::VmaFlags;
use crate::mm::{AddressSpace, UserAddr};
use crate::sched::{self, BlockedState};
use crate::signal;
use crate::sync::{IrqGuard, IrqLock};
use crate::syscall::{Call, SysResult};
use crate::time;

/// What tells one futex from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    /// A word of one address space: the space's address, and the word's in it.
    Private(usize, u64),
    /// A word of shared memory, by its physical address.
    Shared(u64),
}

struct Waiter {
    task: Arc<Task>,
    bits: AtomicU32,
    woken: AtomicBool,
    /// Changed by a requeue, under the locks of both buckets.
    key: IrqLock<Key>,
}

type Bucket = IrqLock<VecDeque<Arc<Waiter>>>;

const BUCKETS: usize = 256;
static TABLE: [Bucket; BUCKETS] = [const { IrqLock::new(VecDeque::new()) }; BUCKETS];

/// Gives back the memory of queues in which nobody waits.
pub fn shrink() {
    for bucket in &TABLE {
        let mut queue = bucket.lock();
        if queue.is_empty() {
            *queue = VecDeque::new();
        }
    }
}

/// All bits: a plain wait or wake.
const ANY: u32 = u32::MAX;

fn bucket_index(key: Key) -> usize {
    let mixed = match key {
        Key::Private(space, word) => (space as u64 >> 6).wrapping_mul(31).wrapping_add(word >> 2),
        Key::Shared(word) => word >> 2,
    };
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % BUCKETS
}

fn bucket(key: Key) -> &'static Bucket {
    &TABLE[bucket_index(key)]
}

/// The futex at a user address. One that may be shared between processes is looked for by what is mapped there.
fn key_of(word: UserAddr, private: bool, access: Access) -> KResult<Key> {
    if !word.0.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    word.check(4)?;
    let task = current();
    let space = task.space().ok_or(Errno::EFAULT)?;
    let own = Key::Private(Arc::as_ptr(space) as usize, word.0);
    if private || !is_shared(space, VirtAddr(word.0))? {
        return Ok(own);
    }
    loop {
        if let Some(frame) = space.frame_at(VirtAddr(word.0)) {
            return Ok(Key::Shared(frame.start().0 + word.0 % PAGE_SIZE));
        }
        space.fault(VirtAddr(word.0), access | Access::USER).map_err(|_| Errno::EFAULT)?;
    }
}

fn is_shared(space: &AddressSpace, at: VirtAddr) -> KResult<bool> {
    let layout = space.layout();
    let vma = layout.find(at).ok_or(Errno::EFAULT)?;
    Ok(vma.flags.contains(VmaFlags::SHARED))
}

/// Waits until woken, if the word is `expected`. A deadline that passes is ETIMEDOUT.
fn wait(
    word: UserAddr,
    private: bool,
    expected: u32,
    bits: u32,
    deadline: Option<Nanoseconds>,
) -> KResult<()> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = key_of(word, private, Access::empty())?;
    let task = current().shared();
    let waiter = Arc::new(Waiter {
        task: task.clone(),
        bits: AtomicU32::new(bits),
        woken: AtomicBool::new(false),
        key: IrqLock::new(key),
    });
    loop {
        let mut queue = bucket(key).lock();
        // With the bucket locked nobody wakes between the comparison and the queueing. A fault is not resolved here,
        // because interrupts are disabled: it is then brought in outside and all is done again.
        match word.load_u32() {
            Ok(found) if found == expected => {
                queue.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                queue.push_back(waiter.clone());
                break;
            }
            Ok(_) => return Err(Errno::EAGAIN),
            Err(_) => {
                drop(queue);
                word.load_u32()?;
            }
        }
    }
    let timeout = deadline.map(|at| time::wake_at(&task, at));
    let result = loop {
        task.prepare_to_block(BlockedState::Interruptible);
        if waiter.woken.load(Ordering::Acquire) {
            break Ok(());
        }
        if deadline.is_some_and(|at| time::now() >= at) {
            break Err(Errno::ETIMEDOUT);
        }
        if task.has_signal_work() {
            break Err(Errno::ERESTARTSYS);
        }
        sched::block();
    };
    task.cancel_block();
    drop(timeout);
    if result.is_err() && !unqueue(&waiter) {
        // It was woken meanwhile; the wake-up must not be lost.
        return Ok(());
    }
    result
}

/// Takes a waiter out of its queue; false if it is in none.
fn unqueue(waiter: &Arc<Waiter>) -> bool {
    loop {
        let key = *waiter.key.lock();
        let mut queue = bucket(key).lock();
        if *waiter.key.lock() != key {
            continue;
        }
        return match queue.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            Some(index) => queue.remove(index).is_some(),
            None => false,
        };
    }
}

/// Wakes up to `count` waiters of `key` that wait for any of `bits`.
fn wake(key: Key, count: u32, bits: u32) -> u32 {
    let mut queue = bucket(key).lock();
    wake_in(&mut queue, key, count, bits)
}

fn wake_in(queue: &mut VecDeque<Arc<Waiter>>, key: Key, count: u32, bits: u32) -> u32 {
    let mut woken = 0;
    let mut index = 0;
    while index < queue.len() && woken < count {
        let waiter = &queue[index];
        if *waiter.key.lock() == key && waiter.bits.load(Ordering::Relaxed) & bits != 0 {
            if let Some(waiter) = queue.remove(index) {
                waiter.woken.store(true, Ordering::Release);
                sched::wake(&waiter.task);
                woken += 1;
            }
        } else {
            index += 1;
        }
    }
    woken
}

/// Wakes up to `count` waiters at a word, whether they wait for it as private or as shared. Errors are nobody's
/// business: the word belongs to a thread that ends.
pub fn wake_all_at(word: UserAddr, count: u32) {
    for private in [true, false] {
        if let Ok(key) = key_of(word, private, Access::empty()) {
            wake(key, count, ANY);
        }
    }
}

/// The queues of two keys, locked in one order by all, once if they are the same.
fn with_two<R>(
    first: Key,
    second: Key,
    work: impl FnOnce(&mut VecDeque<Arc<Waiter>>, Option<&mut VecDeque<Arc<Waiter>>>) -> R,
) -> R {
    let (a, b) = (bucket_index(first), bucket_index(second));
    if a == b {
        return work(&mut TABLE[a].lock(), None);
    }
    let lock = |index: usize| -> IrqGuard<'static, VecDeque<Arc<Waiter>>> { TABLE[index].lock() };
    if a < b {
        let mut one = lock(a);
        let mut two = lock(b);
        work(&mut one, Some(&mut two))
    } else {
        let mut two = lock(b);
        let mut one = lock(a);
        work(&mut one, Some(&mut two))
    }
}

fn requeue(
    from: (UserAddr, UserAddr),
    private: bool,
    wake_count: u32,
    move_count: u32,
    expected: Option<u32>,
) -> KResult<u32> {
    let first = key_of(from.0, private, Access::empty())?;
    let second = key_of(from.1, private, Access::WRITE)?;
    loop {
        let done = with_two(first, second, |queue, other| {
            if let Some(expected) = expected {
                match from.0.load_u32() {
                    Ok(found) if found == expected => {}
                    Ok(_) => return Some(Err(Errno::EAGAIN)),
                    Err(_) => return None,
                }
            }
            let woken = wake_in(queue, first, wake_count, ANY);
            Some(move_waiters(queue, other, first, second, move_count).map(|moved| (woken, moved)))
        });
        match done {
            Some(Ok((woken, moved))) => return Ok(woken + moved),
            Some(Err(error)) => return Err(error),
            None => drop(from.0.load_u32()?),
        }
    }
}

fn move_waiters(
    queue: &mut VecDeque<Arc<Waiter>>,
    mut other: Option<&mut VecDeque<Arc<Waiter>>>,
    first: Key,
    second: Key,
    count: u32,
) -> KResult<u32> {
    let mut moved = 0;
    let mut index = 0;
    while index < queue.len() && moved < count && first != second {
        if *queue[index].key.lock() != first {
            index += 1;
            continue;
        }
        if let Some(other) = &mut other {
            // None of those moved before is lost: they wait at their new place.
            other.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        }
        *queue[index].key.lock() = second;
        moved += 1;
        match &mut other {
            Some(other) => other.extend(queue.remove(index)),
            None => index += 1,
        }
    }
    Ok(moved)
}

/// `FUTEX_WAKE_OP`: changes the second word, wakes waiters of the first, and of the second if what it was satisfies a
/// comparison.
fn wake_op(words: (UserAddr, UserAddr), private: bool, counts: (u32, u32), operation: u32) -> KResult<u32> {
    let first = key_of(words.0, private, Access::empty())?;
    let second = key_of(words.1, private, Access::WRITE)?;
    let sign_extend = |value: u32| ((value << 20) as i32 >> 20) as u32;
    let mut argument = sign_extend(operation >> 12 & 0xfff);
    let comparand = sign_extend(operation & 0xfff) as i32;
    if operation >> 28 & 8 != 0 {
        argument = 1u32.checked_shl(argument).ok_or(Errno::EINVAL)?;
    }
    let changed = |old: u32| {
        Ok(match operation >> 28 & 7 {
            0 => argument,
            1 => old.wrapping_add(argument),
            2 => old | argument,
            3 => old & !argument,
            4 => old ^ argument,
            _ => return Err(Errno::ENOSYS),
        })
    };
    let mut old = words.1.load_u32()?;
    loop {
        let found = words.1.compare_exchange_u32(old, changed(old)?)?;
        if found == old {
            break;
        }
        old = found;
    }
    let signed = old as i32;
    let satisfied = match operation >> 24 & 0xf {
        0 => signed == comparand,
        1 => signed != comparand,
        2 => signed < comparand,
        3 => signed <= comparand,
        4 => signed > comparand,
        5 => signed >= comparand,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = wake(first, counts.0, ANY);
    if satisfied {
        woken += wake(second, counts.1, ANY);
    }
    Ok(woken)
}

/// `futex(2)`
pub fn futex(call: &mut Call<'_>) -> SysResult {
    const WAIT: u32 = 0;
    const WAKE: u32 = 1;
    const REQUEUE: u32 = 3;
    const CMP_REQUEUE: u32 = 4;
    const WAKE_OP: u32 = 5;
    const WAIT_BITSET: u32 = 9;
    const WAKE_BITSET: u32 = 10;
    const PRIVATE: u32 = 128;
    const CLOCK_REALTIME: u32 = 256;
    let (word, operation, value) = (call.user(0), call.uint(1), call.uint(2));
    let (word2, value3) = (call.user(4), call.uint(5));
    let private = operation & PRIVATE != 0;
    let realtime = operation & CLOCK_REALTIME != 0;
    let command = operation & !(PRIVATE | CLOCK_REALTIME);
    if realtime && !matches!(command, WAIT | WAIT_BITSET) {
        return Err(Errno::ENOSYS);
    }
    // Counts are signed for Linux: a negative one still wakes or moves one.
    let count = |value: u32| if (value as i32) < 0 { u32::MAX } else { value };
    let woken = match command {
        WAIT => {
            let deadline = time::deadline_after(call.user(3))?;
            return wait_restartable(word, private, value, deadline);
        }
        WAIT_BITSET => {
            let deadline = time::deadline_at(call.user(3), realtime)?;
            wait(word, private, value, value3, deadline)?;
            0
        }
        WAKE => wake(key_of(word, private, Access::empty())?, count(value).max(1), ANY),
        WAKE_BITSET if value3 == 0 => return Err(Errno::EINVAL),
        WAKE_BITSET => wake(key_of(word, private, Access::empty())?, count(value).max(1), value3),
        REQUEUE | CMP_REQUEUE => {
            let move_count = call.uint(3);
            if (value as i32) < 0 || (move_count as i32) < 0 {
                return Err(Errno::EINVAL);
            }
            requeue((word, word2), private, value, move_count, (command == CMP_REQUEUE).then_some(value3))?
        }
        WAKE_OP => wake_op((word, word2), private, (count(value), count(call.uint(3))), value3)?,
        _ => return Err(Errno::ENOSYS),
    };
    Ok(u64::from(woken))
}

/// A relative timeout must not start anew when the call is restarted after a signal.
fn wait_restartable(
    word: UserAddr,
    private: bool,
    expected: u32,
    deadline: Option<Nanoseconds>,
) -> SysResult {
    match wait(word, private, expected, ANY, deadline) {
        Ok(()) => Ok(0),
        Err(Errno::ERESTARTSYS) if deadline.is_some() => {
            Err(signal::set_restart(Box::new(move || wait_restartable(word, private, expected, deadline))))
        }
        Err(error) => Err(error),
    }
}

const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Marks the robust futexes that the thread holds as those of a dead owner (`set_robust_list(2)`). Whatever is wrong
/// with the list ends the walk.
pub fn release_robust_list(task: &Task) {
    let head = UserAddr(task.robust_list.swap(0, Ordering::Relaxed));
    if !head.is_null() {
        let _walked = walk_robust_list(task, head);
    }
}

fn walk_robust_list(task: &Task, head: UserAddr) -> KResult<()> {
    const LIMIT: usize = 2048;
    const LIST_MASK: u64 = !1;
    let offset: u64 = head.offset(8).read()?;
    let pending: u64 = head.offset(16).read::<u64>()? & LIST_MASK;
    let mut entry: u64 = head.read::<u64>()? & LIST_MASK;
    for _ in 0..LIMIT {
        if entry == head.0 {
            break;
        }
        let next: u64 = UserAddr(entry).read::<u64>()? & LIST_MASK;
        if entry != pending {
            mark_dead(task, UserAddr(entry).offset(offset))?;
        }
        entry = next;
    }
    if pending != 0 {
        mark_dead(task, UserAddr(pending).offset(offset))?;
    }
    Ok(())
}

fn mark_dead(task: &Task, word: UserAddr) -> KResult<()> {
    let mut value = word.load_u32()?;
    while value & FUTEX_TID_MASK == task.tid().0 as u32 {
        let found = word.compare_exchange_u32(value, value & FUTEX_WAITERS | FUTEX_OWNER_DIED)?;
        if found == value {
            if value & FUTEX_WAITERS != 0 {
                wake_all_at(word, 1);
            }
            break;
        }
        value = found;
    }
    Ok(())
}
