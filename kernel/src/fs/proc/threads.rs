//! `/proc/PID/task`

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::parse_number;
use super::subject::{Subject, decimal, thread_base};
use crate::errno::KResult;
use crate::fs::dynamic::{DynamicDirectory, Listed};
use crate::fs::inode::{Inode, mode};
use crate::process::Pid;

/// The directory of a process's threads.
pub fn directory(subject: &Subject) -> Box<dyn DynamicDirectory> {
    Box::new(Threads(subject.clone()))
}

struct Threads(Subject);

impl DynamicDirectory for Threads {
    fn lookup(&self, name: &[u8]) -> KResult<Option<Arc<Inode>>> {
        let Some(tid) = parse_number(name) else { return Ok(None) };
        let process = self.0.process()?;
        let found = process.threads.lock().iter().find(|task| task.tid() == tid).cloned();
        Ok(found.map(|task| Subject::of_task(&task).directory()))
    }

    fn list(&self, from: u64, emit: &mut dyn FnMut(&Listed<'_>) -> bool) -> KResult<()> {
        let mut tids: Vec<Pid> = Vec::new();
        for task in self.0.process()?.threads.lock().iter() {
            // Nearly always the last.
            let place = tids.partition_point(|tid| *tid < task.tid());
            tids.insert(place, task.tid());
        }
        for tid in tids.into_iter().filter(|tid| tid.0 as u64 + 2 >= from) {
            let name = decimal(tid.0);
            let next = tid.0 as u64 + 3;
            if !emit(&Listed { name: &name, inode: thread_base(tid), mode: mode::DIRECTORY | 0o555, next }) {
                break;
            }
        }
        Ok(())
    }
}
