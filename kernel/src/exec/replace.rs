//! Leaving one program for another.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use platform::TrapFrame;

use super::load::{self, Identity, Loaded};
use super::program::{Program, Start};
use crate::errno::KResult;
use crate::fs::{FileTable, SetId};
use crate::process::{Credentials, Process, Resource, Task, TaskName, current, exit};
use crate::{sched, signal};

/// The signal a program's parent gets at its end, whatever was agreed before.
const SIGCHLD: u32 = 17;

/// Makes the running task's process run `program`; returns the registers it starts with. Context: a user task, interrupts
/// enabled, no lock held; the address space it was in is gone afterwards.
///
/// # Errors
/// Then the old program goes on as if nothing had been asked for, but that its other threads may be gone.
pub fn execute(program: &Program, start: &Start) -> KResult<TrapFrame> {
    let task = current();
    let process = &task.process;
    let old = process.credentials();
    let changed = credentials_for(&old, program.file.owner_bits());
    let credentials = changed.as_ref().unwrap_or(&old);
    let secure = credentials.uid != credentials.euid || credentials.gid != credentials.egid;
    let dumpable = !secure && program.file.is_readable();
    let stack_limit = process.limits.lock().get(Resource::Stack).soft;
    let identity = Identity { credentials, secure };
    let loaded = load::load(&program.plan, program.file.mapping(), start, &identity, stack_limit)?;
    let own_files = own_files(process)?;
    exit::end_other_threads()?;

    // From here on nothing fails.
    exit::leave_memory(&task);
    if let Some(changed) = changed {
        let before = core::mem::replace(&mut *process.credentials.lock(), Arc::new(changed));
        drop(before);
    }
    if secure {
        process.parent_death_signal.store(0, Ordering::Relaxed);
    }
    process.dumpable.store(dumpable, Ordering::Relaxed);
    process.exit_signal.store(SIGCHLD, Ordering::Relaxed);
    process.has_executed.store(true, Ordering::Relaxed);
    signal::reset_for_exec(process);
    process.timers.on_exec(process);
    process.attributes.on_exec();
    task.set_name(TaskName::new(last_part(&start.file_name)));
    if let Some(own) = own_files {
        let shared = core::mem::replace(&mut *process.files.lock(), own);
        drop(shared);
    }
    process.files().close_on_exec();
    Ok(enter(&task, loaded))
}

/// Exchanges the address spaces.
fn enter(task: &Task, loaded: Loaded) -> TrapFrame {
    let published = task.process.space.lock().replace(loaded.space.clone());
    drop(published);
    let old = sched::start_program(loaded.space);
    if let Some(gate) = task.vfork.lock().take() {
        gate.release();
    }
    if let Some(old) = old {
        old.remove_user();
    }
    TrapFrame::user(loaded.entry, loaded.stack_pointer)
}

/// A table of open files of the process's own, if it shares one with another process.
fn own_files(process: &Process) -> KResult<Option<Arc<FileTable>>> {
    let files = {
        let files = process.files.lock();
        if Arc::strong_count(&files) == 1 {
            return Ok(None);
        }
        files.clone()
    };
    files.fork().map(Some)
}

/// Who a program runs as whose file has `bits`; none if that changes nothing.
fn credentials_for(old: &Credentials, bits: SetId) -> Option<Credentials> {
    let euid = bits.user.unwrap_or(old.euid);
    let egid = bits.group.unwrap_or(old.egid);
    let same = [old.euid, old.suid, old.fsuid] == [euid; 3] && [old.egid, old.sgid, old.fsgid] == [egid; 3];
    (!same).then(|| Credentials {
        euid,
        suid: euid,
        fsuid: euid,
        egid,
        sgid: egid,
        fsgid: egid,
        ..old.clone()
    })
}

/// What comes after the last slash of a path.
fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::credentials::{Gid, Uid};

    fn user() -> Credentials {
        let (uid, gid) = (Uid(1000), Gid(100));
        Credentials {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: vec![Gid(4)],
        }
    }

    #[test]
    fn plain_files_change_nothing() {
        assert!(credentials_for(&user(), SetId { user: None, group: None }).is_none());
        assert!(credentials_for(&user(), SetId { user: Some(Uid(1000)), group: Some(Gid(100)) }).is_none());
    }

    #[test]
    fn owner_bits_change_all_but_the_real_numbers() {
        let root = credentials_for(&user(), SetId { user: Some(Uid(0)), group: None }).unwrap();
        assert_eq!((root.uid, root.euid, root.suid, root.fsuid), (Uid(1000), Uid(0), Uid(0), Uid(0)));
        assert_eq!((root.gid, root.egid), (Gid(100), Gid(100)));
        assert_eq!(root.groups, [Gid(4)]);
        let mail = credentials_for(&user(), SetId { user: None, group: Some(Gid(8)) }).unwrap();
        assert_eq!((mail.gid, mail.egid, mail.sgid, mail.fsgid), (Gid(100), Gid(8), Gid(8), Gid(8)));
    }

    #[test]
    fn saved_numbers_follow_the_effective_ones() {
        let dropped = Credentials { euid: Uid(1000), suid: Uid(0), ..user() };
        let after = credentials_for(&dropped, SetId { user: None, group: None }).unwrap();
        assert_eq!(after.suid, Uid(1000));
    }

    #[test]
    fn names_come_from_paths() {
        assert_eq!(last_part(b"/bin/busybox"), b"busybox");
        assert_eq!(last_part(b"sh"), b"sh");
        assert_eq!(last_part(b"/dev/fd/3"), b"3");
        assert_eq!(last_part(b"dir/"), b"");
    }
}
