//! A system call's arguments.

use platform::TrapFrame;

use crate::mm::UserAddr;
use crate::process::Pid;

/// A system call: the registers it came with. Arguments are counted from 0.
pub struct Call<'a> {
    /// All user registers; what is written here is what user mode continues with. The result goes to RAX afterwards.
    pub frame: &'a mut TrapFrame,
}

impl Call<'_> {
    /// Its number: the lower half of RAX, as on Linux.
    #[inline]
    pub fn number(&self) -> usize {
        self.frame.orig_rax as u32 as usize
    }

    /// An argument as it is.
    #[inline]
    pub fn raw(&self, index: usize) -> u64 {
        match index {
            0 => self.frame.rdi,
            1 => self.frame.rsi,
            2 => self.frame.rdx,
            3 => self.frame.r10,
            4 => self.frame.r8,
            _ => self.frame.r9,
        }
    }

    /// An argument of C type `int`.
    #[inline]
    pub fn int(&self, index: usize) -> i32 {
        self.raw(index) as i32
    }

    /// An argument of C type `unsigned int`.
    #[inline]
    pub fn uint(&self, index: usize) -> u32 {
        self.raw(index) as u32
    }

    /// An argument of C type `long` or `off_t`.
    #[inline]
    pub fn long(&self, index: usize) -> i64 {
        self.raw(index) as i64
    }

    /// An argument of C type `size_t`.
    #[inline]
    pub fn size(&self, index: usize) -> usize {
        self.raw(index) as usize
    }

    /// A pointer.
    #[inline]
    pub fn user(&self, index: usize) -> UserAddr {
        UserAddr(self.raw(index))
    }

    /// A process or thread number.
    #[inline]
    pub fn pid(&self, index: usize) -> Pid {
        Pid(self.int(index))
    }
}
