use super::*;
use crate::fs::mount::{Detach, attach, attach_root, detach};

fn sample() -> Tree {
    let tree = Tree::new();
    tree.mkdir("/a").unwrap();
    tree.mkdir("/a/b").unwrap();
    tree.touch("/a/b/file").unwrap();
    tree.symlink("b/file", "/a/relative").unwrap();
    tree.symlink("/a/b", "/absolute").unwrap();
    tree
}

fn same(tree: &Tree, a: &str, b: &str) -> bool {
    Arc::ptr_eq(tree.walk(a).unwrap().inode(), tree.walk(b).unwrap().inode())
}

#[test]
fn dots_slashes_and_links_lead_where_they_should() {
    let tree = sample();
    for path in [
        "/a/b/file",
        "//a///b/./file",
        "/a/../a/b/file",
        "/../a/b/file",
        "a/b/file",
        "/a/relative",
        "/absolute/file",
    ] {
        assert!(same(&tree, "/a/b/file", path), "{path}");
    }
    assert!(same(&tree, "/", "/.."));
    assert!(same(&tree, "/a/b", "/absolute/"));
    assert!(same(&tree, "/a", "/absolute/.."));
    tree.context.set_cwd(tree.walk("/a/b").unwrap());
    assert!(same(&tree, "/a/b/file", "file"));
    assert!(same(&tree, "/a", ".."));
    assert_eq!(tree.spelled("."), "/a/b");
}

#[test]
fn what_is_wrong_is_said_as_on_linux() {
    let tree = sample();
    for (path, error) in [
        ("", Errno::ENOENT),
        ("/none", Errno::ENOENT),
        ("/none/x", Errno::ENOENT),
        ("/a/b/file/", Errno::ENOTDIR),
        ("/a/b/file/x", Errno::ENOTDIR),
        ("/a/b/file/..", Errno::ENOTDIR),
        ("/a/relative/", Errno::ENOTDIR),
    ] {
        assert_eq!(tree.walk(path).err(), Some(error), "{path}");
    }
    let long = "/".to_owned() + &"x".repeat(256);
    assert_eq!(tree.walk(&long).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(tree.walk(&long[..256]).err(), Some(Errno::ENOENT));
}

#[test]
fn loops_of_links_end() {
    let tree = sample();
    tree.symlink("/loop", "/loop").unwrap();
    assert_eq!(tree.walk("/loop").err(), Some(Errno::ELOOP));
    assert!(tree.inode("/loop").unwrap().is_symlink());
    tree.symlink("a/b/file", "/l0").unwrap();
    for number in 1..41 {
        tree.symlink(&std::format!("l{}", number - 1), &std::format!("/l{number}")).unwrap();
    }
    assert!(tree.walk("/l39").is_ok());
    assert_eq!(tree.walk("/l40").err(), Some(Errno::ELOOP));
}

#[test]
fn directories_must_allow_searching() {
    let tree = sample();
    tree.inode("/a").unwrap().set_permissions(0o700);
    let other = tree.as_user(1000);
    assert_eq!(other.walk("/a/b").err(), Some(Errno::EACCES));
    assert!(other.walk("/a").is_ok());
    tree.inode("/a").unwrap().set_permissions(0o711);
    assert!(other.walk("/a/b/file").is_ok());
    assert_eq!(other.touch("/a/b/new").err(), Some(Errno::EACCES));
}

#[test]
fn mounts_are_crossed_both_ways() {
    let tree = sample();
    attach_root(&tree.context.root().mount);
    let first = new_mount();
    attach(&first, tree.walk("/a/b").unwrap()).unwrap();
    assert_eq!(tree.walk("/a/b/file").err(), Some(Errno::ENOENT));
    tree.mkdir("/a/b/inner").unwrap();
    assert!(same(&tree, "/a", "/a/b/.."));
    assert_eq!(tree.spelled("/a/b/inner"), "/a/b/inner");
    assert_eq!(tree.rename("/a/b/inner", "/a/inner", 0), Err(Errno::EXDEV));
    assert_eq!(tree.rmdir("/a/b"), Err(Errno::EBUSY));
    // A second one covers the first.
    let second = new_mount();
    attach(&second, tree.walk("/a/b").unwrap()).unwrap();
    assert_eq!(tree.walk("/a/b/inner").err(), Some(Errno::ENOENT));
    assert!(same(&tree, "/a", "/a/b/.."));
    drop(second);
    detach(tree.walk("/a/b").unwrap(), Detach::IfUnused).unwrap();
    assert!(tree.walk("/a/b/inner").is_ok());
    drop(first);
    tree.context.set_cwd(tree.walk("/a/b/inner").unwrap());
    assert_eq!(detach(tree.walk("/a/b").unwrap(), Detach::IfUnused), Err(Errno::EBUSY));
    tree.context.set_cwd(tree.walk("/").unwrap());
    detach(tree.walk("/a/b").unwrap(), Detach::IfUnused).unwrap();
    assert!(tree.walk("/a/b/file").is_ok());
    assert_eq!(detach(tree.walk("/a/b").unwrap(), Detach::IfUnused), Err(Errno::EINVAL));
}

#[test]
fn a_changed_root_is_not_left() {
    let tree = sample();
    tree.context.set_root(tree.walk("/a").unwrap());
    assert!(same(&tree, "/", "/.."));
    assert_eq!(tree.spelled("/b"), "/b");
    assert_eq!(tree.walk("/a").err(), Some(Errno::ENOENT));
}
