//! The pages of a file, by index. Holes take no memory.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::errno::{Errno, KResult};

const FANOUT_BITS: u32 = 6;
const FANOUT: usize = 1 << FANOUT_BITS;

enum Node<P> {
    Empty,
    Leaf(P),
    Branch(Box<[Node<P>; FANOUT]>),
}

/// A tree of pages (`P`), as high as the highest index needs. A file of one page is that page alone.
pub struct PageTree<P> {
    root: Node<P>,
    /// Branches between the root and a page.
    height: u32,
    pages: u64,
}

/// What was cut off a [`PageTree`]: to be dropped where that may take its time.
#[expect(dead_code, reason = "held to be dropped")]
pub struct Cut<P>(Vec<Node<P>>);

fn empty_branch<P>() -> KResult<Box<[Node<P>; FANOUT]>> {
    let mut nodes = Vec::new();
    nodes.try_reserve_exact(FANOUT).map_err(|_| Errno::ENOMEM)?;
    nodes.resize_with(FANOUT, || Node::Empty);
    nodes.into_boxed_slice().try_into().map_err(|_| Errno::ENOMEM)
}

impl<P> PageTree<P> {
    /// No pages.
    pub const fn new() -> Self {
        Self { root: Node::Empty, height: 0, pages: 0 }
    }

    /// How many pages there are.
    pub fn len(&self) -> u64 {
        self.pages
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    fn covers(&self, index: u64) -> bool {
        let bits = FANOUT_BITS * self.height;
        bits >= u64::BITS || index >> bits == 0
    }

    /// The page at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&P> {
        if !self.covers(index) {
            return None;
        }
        let mut node = &self.root;
        let mut level = self.height;
        loop {
            match node {
                Node::Empty => return None,
                Node::Leaf(page) => return Some(page),
                Node::Branch(children) => {
                    level -= 1;
                    node = &children[slot(index, level)];
                }
            }
        }
    }

    /// Puts a page at `index`; what was there comes back.
    ///
    /// # Errors
    /// ENOMEM; then nothing has changed.
    pub fn insert(&mut self, index: u64, page: P) -> KResult<Option<P>> {
        while !self.covers(index) {
            if matches!(self.root, Node::Empty) {
                self.height += 1;
                continue;
            }
            let mut branch = empty_branch()?;
            branch[0] = core::mem::replace(&mut self.root, Node::Empty);
            self.root = Node::Branch(branch);
            self.height += 1;
        }
        let mut node = &mut self.root;
        for level in (0..self.height).rev() {
            if matches!(node, Node::Empty) {
                *node = Node::Branch(empty_branch()?);
            }
            let Node::Branch(children) = node else { unreachable!("a page above the lowest level") };
            node = &mut children[slot(index, level)];
        }
        match core::mem::replace(node, Node::Leaf(page)) {
            Node::Leaf(old) => Ok(Some(old)),
            _ => {
                self.pages += 1;
                Ok(None)
            }
        }
    }

    /// Removes the pages `from..end`. Returns how many there were, and them.
    pub fn remove(&mut self, from: u64, end: u64) -> (u64, Cut<P>) {
        let mut cut = Vec::new();
        let removed = Self::prune(&mut self.root, self.height, 0, from, end, &mut cut);
        self.pages -= removed;
        if self.pages == 0 {
            self.root = Node::Empty;
            self.height = 0;
        }
        (removed, Cut(cut))
    }

    /// Removes from the subtree `node`, whose lowest index is `base`.
    fn prune(node: &mut Node<P>, level: u32, base: u64, from: u64, end: u64, cut: &mut Vec<Node<P>>) -> u64 {
        let last = match 1u64.checked_shl(FANOUT_BITS * level) {
            Some(span) => base + (span - 1),
            None => u64::MAX,
        };
        if matches!(node, Node::Empty) || last < from || base >= end {
            return 0;
        }
        if from <= base && last < end {
            let count = Self::count(node);
            cut.push(core::mem::replace(node, Node::Empty));
            return count;
        }
        let Node::Branch(children) = node else { return 0 };
        let mut removed = 0;
        for (number, child) in children.iter_mut().enumerate() {
            let child_base = base + ((number as u64) << (FANOUT_BITS * (level - 1)));
            removed += Self::prune(child, level - 1, child_base, from, end, cut);
        }
        removed
    }

    fn count(node: &Node<P>) -> u64 {
        match node {
            Node::Empty => 0,
            Node::Leaf(_) => 1,
            Node::Branch(children) => children.iter().map(Self::count).sum(),
        }
    }

    /// The lowest index from `from` on that has a page.
    pub fn next_page(&self, from: u64) -> Option<u64> {
        Self::search(&self.root, self.height, 0, from, true)
    }

    /// The lowest index from `from` on that has none.
    pub fn next_hole(&self, from: u64) -> u64 {
        if !self.covers(from) {
            return from;
        }
        let beyond = || 1u64.checked_shl(FANOUT_BITS * self.height).unwrap_or(u64::MAX);
        Self::search(&self.root, self.height, 0, from, false).unwrap_or_else(beyond)
    }

    fn search(node: &Node<P>, level: u32, base: u64, from: u64, present: bool) -> Option<u64> {
        let span = 1u64.checked_shl(FANOUT_BITS * level);
        if span.is_some_and(|span| base + (span - 1) < from) {
            return None;
        }
        match node {
            Node::Empty => (!present).then_some(base.max(from)),
            Node::Leaf(_) => present.then_some(base),
            Node::Branch(children) => children.iter().enumerate().find_map(|(number, child)| {
                let child_base = base + ((number as u64) << (FANOUT_BITS * (level - 1)));
                Self::search(child, level - 1, child_base, from, present)
            }),
        }
    }
}

impl<P> Default for PageTree<P> {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn slot(index: u64, level: u32) -> usize {
    (index >> (FANOUT_BITS * level)) as usize & (FANOUT - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(u64, u64),
    }

    fn index() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..200, 4000u64..4200, 0u64..1 << 20, Just(1 << 51)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => index().prop_map(Step::Insert),
            1 => (index(), index()).prop_map(|(a, b)| Step::Remove(a.min(b), a.max(b))),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec(step(), 0..60), probes in proptest::collection::vec(index(), 20)) {
            let mut tree = PageTree::new();
            let mut model = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(at) => prop_assert_eq!(tree.insert(at, number).unwrap(), model.insert(at, number)),
                    Step::Remove(from, end) => {
                        let gone = model.range(from..end).count() as u64;
                        model.retain(|&at, _| at < from || at >= end);
                        prop_assert_eq!(tree.remove(from, end).0, gone);
                    }
                }
                prop_assert_eq!(tree.len(), model.len() as u64);
            }
            for at in probes {
                prop_assert_eq!(tree.get(at), model.get(&at));
                prop_assert_eq!(tree.next_page(at), model.range(at..).next().map(|(&at, _)| at));
                let hole = (at..).find(|at| !model.contains_key(at)).unwrap();
                prop_assert_eq!(tree.next_hole(at), hole);
            }
        }
    }
}
