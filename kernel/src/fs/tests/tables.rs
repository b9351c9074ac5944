use super::*;
use crate::fs::file::{FileKind, OpenFile, Place};
use crate::fs::table::{Fd, FileTable, OnExec};

fn file() -> Arc<OpenFile> {
    let tree = Tree::new();
    OpenFile::new(Place::Named(tree.walk("/").unwrap()), FileKind::Directory, 0)
}

#[test]
fn the_lowest_free_number_is_given() {
    let table = FileTable::empty();
    let file = file();
    for expected in 0..200 {
        assert_eq!(table.add(file.clone(), OnExec::Keep, 0, 1024), Ok(Fd(expected)));
    }
    for gone in [150, 3, 70] {
        table.remove(Fd(gone)).unwrap();
    }
    assert_eq!(table.remove(Fd(3)).err(), Some(Errno::EBADF));
    assert_eq!(table.add(file.clone(), OnExec::Keep, 10, 1024), Ok(Fd(70)));
    assert_eq!(table.add(file.clone(), OnExec::Keep, 0, 1024), Ok(Fd(3)));
    assert_eq!(table.add(file.clone(), OnExec::Keep, 0, 1024), Ok(Fd(150)));
    assert_eq!(table.add(file.clone(), OnExec::Keep, 0, 200), Err(Errno::EMFILE));
    assert_eq!(table.add(file.clone(), OnExec::Keep, 500, 1024), Ok(Fd(500)));
    assert_eq!(table.add(file.clone(), OnExec::Keep, 0, 1024), Ok(Fd(200)));
    assert_eq!(table.replace(Fd(1024), file.clone(), OnExec::Keep, 1024).err(), Some(Errno::EBADF));
    assert_eq!(table.replace(Fd(-1), file.clone(), OnExec::Keep, 1024).err(), Some(Errno::EBADF));
    for bad in [-1, 499, i32::MAX, i32::MIN] {
        assert_eq!(table.get(Fd(bad)).err(), Some(Errno::EBADF));
    }
}

#[test]
fn copies_go_their_own_way_and_nothing_is_kept() {
    let table = FileTable::empty();
    let file = file();
    for number in 0..100 {
        table.add(file.clone(), OnExec::close_if(number % 3 == 0), 0, 1024).unwrap();
    }
    let copy = table.fork().unwrap();
    assert_eq!(Arc::strong_count(&file), 201);
    copy.close_on_exec();
    assert_eq!(Arc::strong_count(&file), 201 - 34);
    assert_eq!(copy.get(Fd(3)).err(), Some(Errno::EBADF));
    assert!(table.get(Fd(3)).is_ok());
    assert_eq!(copy.on_exec(Fd(4)), Ok(OnExec::Keep));
    assert_eq!(table.on_exec(Fd(3)), Ok(OnExec::Close));
    assert_eq!(copy.add(file.clone(), OnExec::Keep, 0, 1024), Ok(Fd(0)));
    assert_eq!(copy.on_exec(Fd(0)), Ok(OnExec::Keep));
    copy.close_range(10, usize::MAX);
    assert_eq!(copy.list(8), [Fd(8)]);
    drop(copy);
    assert_eq!(Arc::strong_count(&file), 101);
    drop(table);
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn a_reserved_descriptor_is_nobody_elses() {
    let table = FileTable::empty();
    let file = file();
    let add = |table: &FileTable, limit| table.add(file.clone(), OnExec::Keep, 0, limit);
    assert_eq!(add(&table, 8), Ok(Fd(0)));
    let reserved = table.reserve(2).unwrap();
    assert_eq!(table.reserve(2).err(), Some(Errno::EMFILE));
    assert_eq!(add(&table, 2), Err(Errno::EMFILE));
    assert_eq!(add(&table, 8), Ok(Fd(2)));
    assert_eq!(table.get(Fd(1)).err(), Some(Errno::EBADF));
    assert_eq!(table.remove(Fd(1)).err(), Some(Errno::EBADF));
    assert_eq!(table.replace(Fd(1), file.clone(), OnExec::Keep, 8).err(), Some(Errno::EBUSY));
    // A copy has no thread that would fill it.
    let copy = table.fork().unwrap();
    assert_eq!(add(&copy, 8), Ok(Fd(1)));
    // Given up, also with others that are not.
    let (next, last) = (table.reserve(8).unwrap(), table.reserve(8).unwrap());
    assert_eq!(add(&table, 8), Ok(Fd(5)));
    drop(next);
    drop(reserved);
    assert_eq!(add(&table, 8), Ok(Fd(1)));
    assert_eq!(add(&table, 8), Ok(Fd(3)));
    assert_eq!(add(&table, 8), Ok(Fd(6)));
    assert_eq!(last.fill(file.clone(), OnExec::Close), Fd(4));
    assert_eq!(table.on_exec(Fd(4)), Ok(OnExec::Close));
    assert!(table.get(Fd(4)).is_ok());
    assert_eq!(add(&table, 8), Ok(Fd(7)));
    table.remove(Fd(4)).unwrap();
    assert_eq!(add(&table, 8), Ok(Fd(4)));
}

#[test]
fn closing_a_descriptor_gives_up_its_process_locks() {
    use crate::fs::locks::{Lock, LockMode, LockOwner, LockSort};
    use crate::process::Pid;
    let table = FileTable::empty();
    let file = file();
    let fd = table.add(file.clone(), OnExec::Close, 0, 16).unwrap();
    let lock = |owner| Lock {
        sort: LockSort::Record,
        mode: LockMode::Exclusive,
        owner,
        pid: Pid(1),
        start: 0,
        last: 9,
    };
    let other = lock(LockOwner::Table(1));
    file.inode().locks.take(&lock(table.lock_owner()), false).unwrap();
    assert_eq!(file.inode().locks.take(&other, false), Err(Errno::EAGAIN));
    table.close_on_exec();
    assert_eq!(table.get(fd).err(), Some(Errno::EBADF));
    file.inode().locks.take(&other, false).unwrap();
}
