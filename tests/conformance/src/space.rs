//! User address spaces with a program in them.

use alloc::vec::Vec;

use platform::{
    FrameBatch, OutOfFrames, PAGE_SIZE, PageRange, PhysFrame, Protection, Root, TrapFrame, VirtAddr,
};

use crate::hook::{cpu, paging};
use crate::{cpus, memory};

/// Where a program's code is.
pub const CODE: VirtAddr = VirtAddr(0x40_0000);
/// Top of its stack.
pub const STACK_TOP: VirtAddr = VirtAddr(0x7000_0000);
/// Where cases map what they need.
pub const DATA: VirtAddr = VirtAddr(0x5000_0000);

/// What programs may do with their data.
pub const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
const READ_EXECUTE: Protection = Protection::READ.union(Protection::EXECUTE);

/// An address space. It is given back as a whole when it is dropped; no CPU uses it then.
pub struct Space {
    pub root: Root,
    frames: Vec<PhysFrame>,
}

impl Space {
    /// An empty space.
    pub fn empty() -> Self {
        match Self::try_empty() {
            Ok(space) => space,
            Err(OutOfFrames) => panic!("memory has run out"),
        }
    }

    /// An empty space, if there is memory for one.
    pub fn try_empty() -> Result<Self, OutOfFrames> {
        Ok(Self { root: paging::new_root()?, frames: Vec::new() })
    }

    /// A space with `code` at [`CODE`] and a stack below [`STACK_TOP`].
    pub fn with_program(code: &[u8]) -> Self {
        let mut space = Self::empty();
        let page = space.map(CODE, READ_EXECUTE);
        memory::fill(page, code);
        space.map(STACK_TOP - PAGE_SIZE, READ_WRITE);
        space
    }

    /// Maps a new frame of zeros.
    pub fn map(&mut self, page: VirtAddr, protection: Protection) -> PhysFrame {
        let frame = self.frame();
        assert_eq!(paging::map(self.root, page, &[frame], protection), Ok(1), "{page:?}");
        frame
    }

    /// A frame that is given back with the space.
    pub fn frame(&mut self) -> PhysFrame {
        let frame = memory::frame();
        self.frames.push(frame);
        frame
    }

    /// Makes it this CPU's.
    pub fn activate(&self) {
        let state = cpu::irq_save();
        paging::activate(self.root);
        cpu::irq_restore(state);
    }

    /// Registers with which its program starts.
    pub fn start(&self) -> TrapFrame {
        TrapFrame::user(CODE.0, STACK_TOP.0)
    }

    /// Unmaps everything and waits until no CPU knows of it.
    fn clear(&self) {
        let all = PageRange::new(VirtAddr(PAGE_SIZE), memory::user_top());
        let mut at = all.start;
        while at < all.end {
            let mut taken = FrameBatch::new();
            at = paging::unmap(self.root, PageRange::new(at, all.end), &mut taken);
        }
        paging::flush(self.root, all, cpus::online());
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.clear();
        leave();
        // SAFETY: the cases leave a space on every CPU before they drop it; the token goes with `self`.
        unsafe { paging::drop_root(self.root) };
        self.frames.drain(..).for_each(memory::put);
    }
}

/// Makes the kernel's own space this CPU's.
pub fn leave() {
    let state = cpu::irq_save();
    paging::activate_kernel();
    cpu::irq_restore(state);
}
