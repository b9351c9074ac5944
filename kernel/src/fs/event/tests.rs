//! Files that tell of events, on the simulated machine.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use platform::Nanoseconds;
use sim::Machine;

use super::epoll::{EDGE, Epoll, Event, ONE_SHOT, Timeout};
use super::epoll_nesting;
use super::eventfd::new_counter;
use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::flags::O_RDWR;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::fs::table::Fd;
use crate::mm::UserAddr;
use crate::sync::SpinLock;
use crate::{testing, time};

const IN: u32 = PollEvents::IN.bits();
const OUT: u32 = PollEvents::OUT.bits();
const HUP: u32 = PollEvents::HUP.bits();

fn event(events: u32, data: u64) -> Event {
    Event { events, data }
}

/// What is ready, as (data, events).
fn ready(set: &Epoll) -> Vec<(u64, u32)> {
    let mut found = Vec::new();
    let count = set.collect(8, |_, event| {
        found.push((event.data, event.events));
        Ok(())
    });
    assert_eq!(count, Ok(found.len()));
    found
}

fn counter() -> Arc<OpenFile> {
    OpenFile::device("counter", new_counter(0), O_RDWR)
}

fn add(counter: &OpenFile, value: u64) {
    assert_eq!(counter.write(&mut IoSrc::kernel(&value.to_ne_bytes())), Ok(8));
}

fn take(counter: &OpenFile) -> KResult<u64> {
    let mut bytes = [0; 8];
    counter.read(&mut IoDst::kernel(&mut bytes))?;
    Ok(u64::from_ne_bytes(bytes))
}

fn set_file() -> Arc<OpenFile> {
    OpenFile::device("set", Arc::new(Epoll::new()), O_RDWR)
}

fn set_of(file: &Arc<OpenFile>) -> &Epoll {
    file.ops_as().unwrap()
}

#[test]
fn levels_edges_and_single_shots() {
    testing::run("fs::event::tests::levels_edges_and_single_shots", Machine::new, || {
        let set = Epoll::new();
        let (level, edge, once) = (counter(), counter(), counter());
        set.add(&level, Fd(3), event(IN, 1)).unwrap();
        set.add(&edge, Fd(4), event(IN | EDGE, 2)).unwrap();
        set.add(&once, Fd(5), event(IN | ONE_SHOT, 3)).unwrap();
        assert_eq!(set.add(&level, Fd(3), event(IN, 1)), Err(Errno::EEXIST));
        assert_eq!(
            set.add(&level, Fd(7), event(OUT, 9)),
            Ok(()),
            "by another descriptor it is another member"
        );
        assert_eq!(ready(&set), [(9, OUT)]);
        assert_eq!(set.remove(&level, Fd(7)), Ok(()));
        assert_eq!(set.remove(&level, Fd(7)), Err(Errno::ENOENT));
        assert_eq!(ready(&set), []);
        for file in [&level, &edge, &once] {
            add(file, 1);
        }
        assert_eq!(ready(&set), [(1, IN), (2, IN), (3, IN)]);
        assert_eq!(ready(&set), [(1, IN)]);
        for file in [&level, &edge, &once] {
            add(file, 1);
        }
        assert_eq!(ready(&set), [(1, IN), (2, IN)]);
        assert_eq!(set.modify(&once, Fd(5), event(IN | ONE_SHOT, 4)), Ok(()));
        assert_eq!(ready(&set), [(1, IN), (4, IN)]);
        assert_eq!(take(&level), Ok(2));
        assert_eq!(ready(&set), []);
        assert_eq!(set.modify(&level, Fd(3), event(IN | OUT, 5)), Ok(()));
        assert_eq!(ready(&set), [(5, OUT)]);
        assert_eq!(set.modify(&level, Fd(6), event(IN, 5)), Err(Errno::ENOENT));
    });
}

#[test]
fn a_read_is_no_edge_for_those_who_wait_to_read() {
    let name = "fs::event::tests::a_read_is_no_edge_for_those_who_wait_to_read";
    testing::run(name, Machine::new, || {
        let set = Epoll::new();
        let [near, far] = crate::net::test_pair();
        set.add(&near, Fd(3), event(IN | EDGE, 1)).unwrap();
        far.write(&mut IoSrc::kernel(b"ab")).unwrap();
        assert_eq!(ready(&set), [(1, IN)]);
        near.write(&mut IoSrc::kernel(b"x")).unwrap();
        let mut byte = [0];
        assert_eq!(far.read(&mut IoDst::kernel(&mut byte)), Ok(1));
        assert_eq!(near.read(&mut IoDst::kernel(&mut byte)), Ok(1));
        assert_eq!(ready(&set), []);
        drop(far);
        assert_eq!(ready(&set).first().map(|&(_, events)| events & (IN | HUP)), Some(IN | HUP));
    });
}

#[test]
fn closed_files_leave_the_set() {
    testing::run("fs::event::tests::closed_files_leave_the_set", Machine::new, || {
        let set = Epoll::new();
        let first = counter();
        set.add(&first, Fd(3), event(IN, 1)).unwrap();
        add(&first, 1);
        let duplicate = first.clone();
        drop(first);
        assert_eq!(ready(&set), [(1, IN)], "another descriptor keeps it");
        drop(duplicate);
        assert_eq!(ready(&set), []);
        for round in 0..200 {
            let file = counter();
            set.add(&file, Fd(3), event(IN, round)).unwrap();
            add(&file, 1);
            assert_eq!(ready(&set), [(round, IN)]);
        }
    });
}

#[test]
fn a_set_that_is_closed_leaves_its_files() {
    testing::run("fs::event::tests::a_set_that_is_closed_leaves_its_files", Machine::new, || {
        let file = counter();
        let set = Epoll::new();
        let shared = Arc::downgrade(&set.set);
        set.add(&file, Fd(3), event(IN | OUT, 1)).unwrap();
        add(&file, 1);
        drop(set);
        assert_eq!(shared.strong_count(), 0, "nothing in the file's queues keeps the set");
        add(&file, 1);
        assert_eq!(take(&file), Ok(2));
    });
}

#[test]
fn sets_in_sets_tell_on() {
    testing::run("fs::event::tests::sets_in_sets_tell_on", Machine::new, || {
        let (inner, outer) = (set_file(), Epoll::new());
        let file = counter();
        set_of(&inner).add(&file, Fd(3), event(IN, 1)).unwrap();
        outer.add(&inner, Fd(4), event(IN | EDGE, 2)).unwrap();
        assert_eq!(ready(&outer), []);
        add(&file, 1);
        assert_eq!(ready(&outer), [(2, IN)]);
        assert_eq!(ready(&outer), [], "nothing new has come");
        assert_eq!(ready(set_of(&inner)), [(1, IN)]);
        assert_eq!(ready(&outer), [], "to look into a set is no event in it");
        add(&file, 1);
        assert_eq!(ready(&outer), [(2, IN)]);
        assert_eq!(take(&file), Ok(2));
        assert!(!set_of(&inner).poll().intersects(PollEvents::IN));
    });
}

#[test]
fn nests_are_neither_circles_nor_deep() {
    testing::run("fs::event::tests::nests_are_neither_circles_nor_deep", Machine::new, || {
        let chain: Vec<_> = (0..5).map(|_| set_file()).collect();
        let link = |outer: &Arc<OpenFile>, inner: &Arc<OpenFile>| -> KResult<()> {
            let _nesting = epoll_nesting::check(set_of(outer), set_of(inner))?;
            set_of(outer).add(inner, Fd(9), event(IN, 0))
        };
        // From both ends towards the middle.
        for (outer, inner) in [(0, 1), (3, 4), (1, 2), (2, 3)] {
            assert_eq!(link(&chain[outer], &chain[inner]), Ok(()));
        }
        for (outer, inner) in [(4, 0), (3, 1), (2, 2)] {
            assert_eq!(link(&chain[outer], &chain[inner]), Err(Errno::ELOOP));
        }
        let more = set_file();
        assert_eq!(link(&more, &chain[0]), Err(Errno::ELOOP));
        assert_eq!(link(&chain[4], &more), Err(Errno::ELOOP));
        assert_eq!(link(&chain[3], &more), Ok(()));
        assert_eq!(set_of(&chain[0]).remove(&chain[1], Fd(9)), Ok(()));
        assert_eq!(link(&chain[4], &chain[1]), Err(Errno::ELOOP));
        assert_eq!(link(&chain[4], &chain[0]), Ok(()), "the chain was cut");
    });
}

static SET: SpinLock<Option<Arc<OpenFile>>> = SpinLock::new(None);
static FILE: SpinLock<Option<Arc<OpenFile>>> = SpinLock::new(None);
static WOKEN: AtomicUsize = AtomicUsize::new(0);

fn waiter() {
    let set = SET.lock().clone().unwrap();
    // No user memory is there to write to: that it was tried shows that there was an event.
    assert_eq!(set_of(&set).wait(UserAddr(u64::MAX), 1, Timeout::Never), Err(Errno::EFAULT));
    WOKEN.fetch_add(1, Ordering::Release);
}

fn pause() {
    time::sleep_until(time::now() + Nanoseconds::from_millis(5)).unwrap();
}

#[test]
fn waits_end_with_an_event_or_in_time() {
    testing::run(
        "fs::event::tests::waits_end_with_an_event_or_in_time",
        || Machine::new().cpus(2),
        || {
            let (set, file) = (set_file(), counter());
            set_of(&set).add(&file, Fd(3), event(IN, 1)).unwrap();
            let deadline = time::now() + Nanoseconds::from_millis(20);
            assert_eq!(set_of(&set).wait(UserAddr(u64::MAX), 1, Timeout::At(deadline)), Ok(0));
            assert!(time::now() >= deadline);
            assert_eq!(set_of(&set).wait(UserAddr(u64::MAX), 1, Timeout::AtOnce), Ok(0));
            *SET.lock() = Some(set.clone());
            testing::spawn(waiter);
            testing::spawn(waiter);
            pause();
            assert_eq!(WOKEN.load(Ordering::Acquire), 0);
            add(&file, 1);
            pause();
            // What stays ready is handed from one to the next.
            assert_eq!(WOKEN.load(Ordering::Acquire), 2);
            SET.lock().take();
        },
    );
}

#[test]
fn a_counter_wakes_those_who_wait_for_it() {
    testing::run(
        "fs::event::tests::a_counter_wakes_those_who_wait_for_it",
        || Machine::new().cpus(2),
        || {
            let file = counter();
            *FILE.lock() = Some(file.clone());
            testing::spawn(|| {
                let file = FILE.lock().take().unwrap();
                assert_eq!(take(&file), Ok(41));
                WOKEN.store(1, Ordering::Release);
                assert_eq!(take(&file), Ok(u64::MAX - 1));
                WOKEN.store(2, Ordering::Release);
            });
            pause();
            add(&file, 41);
            pause();
            assert_eq!(WOKEN.load(Ordering::Acquire), 1);
            add(&file, u64::MAX - 1);
            // Waits until the count is low enough.
            add(&file, 5);
            assert_eq!(WOKEN.load(Ordering::Acquire), 2);
            assert_eq!(take(&file), Ok(5));
        },
    );
}
