use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fs::namespace::rename_flags::{EXCHANGE, NO_REPLACE};

#[test]
fn links_are_counted() {
    let tree = Tree::new();
    tree.mkdir("/d").unwrap();
    assert_eq!(tree.inode("/").unwrap().links(), 3);
    tree.touch("/f").unwrap();
    tree.link("/f", "/d/g").unwrap();
    let file = tree.inode("/f").unwrap();
    assert_eq!(file.links(), 2);
    assert_eq!(tree.link("/d", "/e"), Err(Errno::EPERM));
    assert_eq!(tree.link("/f", "/d/g"), Err(Errno::EEXIST));
    assert_eq!(file.links(), 2);
    tree.unlink("/f").unwrap();
    tree.unlink("/d/g").unwrap();
    assert_eq!(file.links(), 0);
    tree.rmdir("/d").unwrap();
    assert_eq!(tree.inode("/").unwrap().links(), 2);
    assert_eq!(file.superblock.inode_usage().0, 2);
    drop(file);
    assert_eq!(tree.inode("/").unwrap().superblock.inode_usage().0, 1);
}

#[test]
fn removal_says_what_is_wrong() {
    let tree = Tree::new();
    tree.mkdir("/d").unwrap();
    tree.touch("/d/f").unwrap();
    assert_eq!(tree.unlink("/d"), Err(Errno::EISDIR));
    assert_eq!(tree.unlink("/d/f/"), Err(Errno::ENOTDIR));
    assert_eq!(tree.unlink("/d/none"), Err(Errno::ENOENT));
    assert_eq!(tree.rmdir("/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(tree.rmdir("/d/f"), Err(Errno::ENOTDIR));
    let gone = tree.walk("/d").unwrap();
    tree.unlink("/d/f").unwrap();
    tree.rmdir("/d").unwrap();
    tree.context.set_cwd(gone);
    assert_eq!(tree.touch("x"), Err(Errno::ENOENT));
    assert_eq!(tree.walk("x").err(), Some(Errno::ENOENT));
    assert!(tree.walk("..").is_ok());
}

#[test]
fn sticky_directories_protect_their_owners() {
    let tree = Tree::new();
    tree.mkdir("/tmp").unwrap();
    tree.inode("/tmp").unwrap().set_permissions(0o1777);
    let (one, two) = (tree.as_user(1), tree.as_user(2));
    one.touch("/tmp/f").unwrap();
    assert_eq!(two.unlink("/tmp/f"), Err(Errno::EPERM));
    assert_eq!(two.rename("/tmp/f", "/tmp/g", 0), Err(Errno::EPERM));
    one.rename("/tmp/f", "/tmp/g", 0).unwrap();
    tree.unlink("/tmp/g").unwrap();
}

#[test]
fn renames_keep_links_and_open_files() {
    let tree = Tree::new();
    for path in ["/a", "/b", "/a/d"] {
        tree.mkdir(path).unwrap();
    }
    tree.touch("/a/d/f").unwrap();
    let open = tree.walk("/a/d/f").unwrap();
    tree.rename("/a/d", "/b/e", 0).unwrap();
    assert_eq!((tree.inode("/a").unwrap().links(), tree.inode("/b").unwrap().links()), (2, 3));
    assert_eq!(open.spell(&tree.context.root()).unwrap().bytes, b"/b/e/f");
    tree.touch("/b/over").unwrap();
    assert_eq!(tree.rename("/b/over", "/b/e", 0), Err(Errno::EISDIR));
    assert_eq!(tree.rename("/b/e", "/b/over", 0), Err(Errno::ENOTDIR));
    assert_eq!(tree.rename("/b", "/b/e/x", 0), Err(Errno::EINVAL));
    assert_eq!(tree.rename("/b/e/f", "/b", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(tree.rename("/b/over", "/new/", 0), Err(Errno::ENOTDIR));
    assert_eq!(tree.rename("/b/over", "/b/e/f", NO_REPLACE), Err(Errno::EEXIST));
    tree.rename("/b/over", "/b/e/f", 0).unwrap();
    assert!(open.dentry.is_removed());
    assert_eq!(open.inode().links(), 0);
    tree.rename("/b/e/f", "/a", EXCHANGE).unwrap();
    assert!(tree.inode("/b/e/f").unwrap().is_directory());
    assert!(!tree.inode("/a").unwrap().is_directory());
    tree.link("/a", "/a2").unwrap();
    tree.rename("/a", "/a2", 0).unwrap();
    assert!(tree.walk("/a").is_ok());
}

#[test]
fn a_deep_chain_of_removed_directories_goes_quietly() {
    let tree = Tree::new();
    for _ in 0..20_000 {
        tree.mkdir("d").unwrap();
        tree.context.set_cwd(tree.walk("d").unwrap());
    }
    for _ in 0..20_000 {
        tree.rmdir("../d").unwrap();
        let parent = tree.walk("..").unwrap();
        let held = tree.context.cwd();
        tree.context.set_cwd(parent);
        drop(held);
    }
    assert!(tree.inode("/").unwrap().size() == 40);
}

/// What a path stands for, in the simplest way to say it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Node {
    File(u32),
    Directory(BTreeMap<String, Node>),
}

#[derive(Clone, Debug)]
enum Step {
    Mkdir(String),
    Touch(String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-c]", 1..4).prop_map(|parts| "/".to_string() + &parts.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => path().prop_map(Step::Mkdir),
        2 => path().prop_map(Step::Touch),
        1 => path().prop_map(Step::Unlink),
        1 => path().prop_map(Step::Rmdir),
        4 => (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
    ]
}

fn parent_of<'m>(top: &'m mut Node, path: &str) -> Result<(&'m mut BTreeMap<String, Node>, String), Errno> {
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    let last = parts.pop().unwrap().to_string();
    let mut at = top;
    for part in parts {
        let Node::Directory(entries) = at else { return Err(Errno::ENOTDIR) };
        at = entries.get_mut(part).ok_or(Errno::ENOENT)?;
    }
    match at {
        Node::Directory(entries) => Ok((entries, last)),
        Node::File(_) => Err(Errno::ENOTDIR),
    }
}

fn apply(top: &mut Node, step: &Step, number: u32) -> Result<(), Errno> {
    match step {
        Step::Mkdir(path) | Step::Touch(path) => {
            let (entries, name) = parent_of(top, path)?;
            let node = match step {
                Step::Mkdir(_) => Node::Directory(BTreeMap::new()),
                _ => Node::File(number),
            };
            if entries.contains_key(&name) {
                return Err(Errno::EEXIST);
            }
            entries.insert(name, node);
        }
        Step::Unlink(path) => {
            let (entries, name) = parent_of(top, path)?;
            match entries.get(&name).ok_or(Errno::ENOENT)? {
                Node::Directory(_) => return Err(Errno::EISDIR),
                Node::File(_) => drop(entries.remove(&name)),
            }
        }
        Step::Rmdir(path) => {
            let (entries, name) = parent_of(top, path)?;
            match entries.get(&name).ok_or(Errno::ENOENT)? {
                Node::File(_) => return Err(Errno::ENOTDIR),
                Node::Directory(inner) if !inner.is_empty() => return Err(Errno::ENOTEMPTY),
                Node::Directory(_) => drop(entries.remove(&name)),
            }
        }
        Step::Rename(old, new) => {
            parent_of(top, old)?;
            parent_of(top, new)?;
            let (entries, name) = parent_of(top, old)?;
            let source = entries.get(&name).ok_or(Errno::ENOENT)?.clone();
            if new.starts_with(&(old.clone() + "/")) {
                return Err(Errno::EINVAL);
            }
            if old.starts_with(&(new.clone() + "/")) {
                return Err(Errno::ENOTEMPTY);
            }
            if old == new {
                return Ok(());
            }
            let (entries, target) = parent_of(top, new)?;
            match (&source, entries.get(&target)) {
                (Node::Directory(_), Some(Node::File(_))) => return Err(Errno::ENOTDIR),
                (Node::File(_), Some(Node::Directory(_))) => return Err(Errno::EISDIR),
                (_, Some(Node::Directory(inner))) if !inner.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
            entries.insert(target, source);
            let (entries, name) = parent_of(top, old)?;
            entries.remove(&name);
        }
    }
    Ok(())
}

/// The tree as it is, files told apart by the step that made them.
fn shown(dentry: &Arc<Dentry>, made: &BTreeMap<u64, u32>, links: &mut u32) -> Node {
    let InodeKind::Directory(directory) = &dentry.inode.kind else {
        return Node::File(made[&dentry.inode.number]);
    };
    let children: Vec<(String, Arc<Dentry>)> = directory
        .lock()
        .names
        .iter_from(0)
        .map(|(_, name, child)| (String::from_utf8(name.as_bytes().to_vec()).unwrap(), child.clone()))
        .collect();
    let mut below = 2;
    let entries = children.iter().map(|(name, child)| {
        assert_eq!(child.name().as_bytes(), name.as_bytes());
        assert!(Arc::ptr_eq(&child.parent().unwrap(), dentry));
        let mut inner = 0;
        let node = shown(child, made, &mut inner);
        below += u32::from(child.inode.is_directory());
        (name.clone(), node)
    });
    let entries = entries.collect();
    assert_eq!(dentry.inode.links(), below);
    *links = below;
    Node::Directory(entries)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_a_tree_of_maps(steps in proptest::collection::vec(step(), 1..60)) {
        let tree = Tree::new();
        let mut model = Node::Directory(BTreeMap::new());
        let mut made = BTreeMap::new();
        for (number, step) in (0u32..).zip(&steps) {
            let expected = apply(&mut model, step, number);
            let got = match step {
                Step::Mkdir(path) => tree.mkdir(path),
                Step::Touch(path) => tree.touch(path),
                Step::Unlink(path) => tree.unlink(path),
                Step::Rmdir(path) => tree.rmdir(path),
                Step::Rename(old, new) => tree.rename(old, new, 0),
            };
            prop_assert_eq!(got, expected, "{:?}", step);
            if let (Step::Touch(path), Ok(())) = (step, got) {
                made.insert(tree.inode(path).unwrap().number, number);
            }
        }
        prop_assert_eq!(shown(&tree.context.root().dentry, &made, &mut 0), model);
    }
}
