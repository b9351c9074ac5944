//! Directories: making, removing, listing, working and root directory.

use guest_programs::fs::{cstr, entries, names, put, scratch, stat};
use guest_programs::process::in_child;
use guest_programs::sys::open;
use guest_programs::{Case, call, cases, check, eq, err, mem, ok};

pub const CASES: &[Case] = cases![
    mkdir_and_rmdir,
    mkdir_errors,
    rmdir_errors,
    link_count_of_directories,
    listing_gives_all_with_types,
    listing_many_entries: 60,
    listing_small_buffers,
    listing_while_removing,
    listing_can_be_rewound,
    working_directory,
    working_directory_errors,
    removed_working_directory,
    root_directory,
    deep_paths,
];

fn mkdir_and_rmdir() {
    scratch();
    eq!(call!(SYS_mkdir, c"d", 0o777), Ok(0));
    eq!(ok!(stat(c"d")).st_mode, libc::S_IFDIR | 0o755);
    ok!(call!(SYS_mkdirat, libc::AT_FDCWD, c"d/e/", 0o700));
    eq!(ok!(stat(c"d/e")).st_mode & 0o7777, 0o700);
    eq!(call!(SYS_rmdir, c"d/e/"), Ok(0));
    eq!(call!(SYS_rmdir, c"d"), Ok(0));
    eq!(names(c"."), Vec::<String>::new());
    // The group bit is inherited.
    ok!(call!(SYS_mkdir, c"g", 0o755));
    ok!(call!(SYS_chown, c"g", 0, 77));
    ok!(call!(SYS_chmod, c"g", 0o2755));
    ok!(call!(SYS_mkdir, c"g/sub", 0o755));
    put(c"g/f", b"", 0o644);
    eq!((ok!(stat(c"g/sub")).st_gid, ok!(stat(c"g/sub")).st_mode & 0o2000), (77, 0o2000));
    eq!(ok!(stat(c"g/f")).st_gid, 77);
}

fn mkdir_errors() {
    scratch();
    put(c"f", b"", 0o644);
    err!(call!(SYS_mkdir, c"f", 0o755), EEXIST);
    err!(call!(SYS_mkdir, c".", 0o755), EEXIST);
    err!(call!(SYS_mkdir, c"..", 0o755), EEXIST);
    err!(call!(SYS_mkdir, c"/", 0o755), EEXIST);
    err!(call!(SYS_mkdir, c"a/b", 0o755), ENOENT);
    err!(call!(SYS_mkdir, c"f/b", 0o755), ENOTDIR);
    err!(call!(SYS_mkdir, c"", 0o755), ENOENT);
    ok!(call!(SYS_symlink, c"nowhere", c"s"));
    err!(call!(SYS_mkdir, c"s", 0o755), EEXIST);
}

fn rmdir_errors() {
    scratch();
    put(c"f", b"", 0o644);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    put(c"d/x", b"", 0o644);
    err!(call!(SYS_rmdir, c"f"), ENOTDIR);
    err!(call!(SYS_rmdir, c"d"), ENOTEMPTY);
    err!(call!(SYS_rmdir, c"missing"), ENOENT);
    err!(call!(SYS_rmdir, c"."), EINVAL);
    err!(call!(SYS_rmdir, c"d/."), EINVAL);
    err!(call!(SYS_rmdir, c"d/.."), ENOTEMPTY);
    err!(call!(SYS_rmdir, c""), ENOENT);
    err!(call!(SYS_rmdir, c"/"), EBUSY);
    ok!(call!(SYS_symlink, c"d", c"s"));
    err!(call!(SYS_rmdir, c"s"), ENOTDIR);
}

fn link_count_of_directories() {
    scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    eq!(ok!(stat(c"d")).st_nlink, 2);
    ok!(call!(SYS_mkdir, c"d/a", 0o755));
    ok!(call!(SYS_mkdir, c"d/b", 0o755));
    put(c"d/f", b"", 0o644);
    eq!(ok!(stat(c"d")).st_nlink, 4);
    ok!(call!(SYS_rmdir, c"d/a"));
    eq!(ok!(stat(c"d")).st_nlink, 3);
}

fn listing_gives_all_with_types() {
    scratch();
    put(c"file", b"", 0o644);
    ok!(call!(SYS_mkdir, c"dir", 0o755));
    ok!(call!(SYS_symlink, c"x", c"link"));
    ok!(call!(SYS_mknod, c"fifo", libc::S_IFIFO | 0o600, 0));
    let mut all = ok!(entries(c"."));
    all.sort();
    let kinds: Vec<(&str, u8)> = all.iter().map(|(name, _, kind)| (name.as_str(), *kind)).collect();
    let d = libc::DT_DIR;
    let expected = [
        (".", d),
        ("..", d),
        ("dir", d),
        ("fifo", libc::DT_FIFO),
        ("file", libc::DT_REG),
        ("link", libc::DT_LNK),
    ];
    eq!(kinds, expected);
    for (name, inode, _) in &all {
        eq!(*inode, ok!(guest_programs::fs::lstat(&cstr(name))).st_ino);
    }
    eq!(ok!(entries(c"dir")).len(), 2);
}

fn listing_many_entries() {
    scratch();
    for i in 0..1000 {
        put(&cstr(&format!("a-file-with-quite-some-name-{i}")), b"", 0o644);
    }
    let mut seen = names(c".");
    eq!(seen.len(), 1000);
    seen.dedup();
    eq!(seen.len(), 1000);
    for i in (0..1000).step_by(3) {
        ok!(call!(SYS_unlink, &*cstr(&format!("a-file-with-quite-some-name-{i}"))));
    }
    eq!(names(c".").len(), 666);
}

fn listing_small_buffers() {
    scratch();
    put(c"name", b"", 0o644);
    let fd = ok!(open(c".", libc::O_RDONLY, 0));
    let mut buf = [0u8; 64];
    err!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), 4), EINVAL);
    // One entry at a time.
    let mut count = 0;
    while ok!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), 32)) > 0 {
        count += 1;
        check!(buf[16] <= 32 && buf[16] >= 24);
    }
    eq!(count, 3);
    eq!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), 64), Ok(0));
    let file = ok!(open(c"name", libc::O_RDONLY, 0));
    err!(call!(SYS_getdents64, file, buf.as_mut_ptr(), 64), ENOTDIR);
    let fd = ok!(open(c".", libc::O_RDONLY, 0));
    err!(call!(SYS_getdents64, fd, mem::KERNEL, 64), EFAULT);
    err!(call!(SYS_getdents64, 999, buf.as_mut_ptr(), 64), EBADF);
}

fn listing_while_removing() {
    // What is neither added nor removed is given exactly once, also when entries go while listing (as rm -r does).
    scratch();
    for i in 0..300 {
        put(&cstr(&format!("f{i}")), b"", 0o644);
    }
    let fd = ok!(open(c".", libc::O_RDONLY, 0));
    let mut buf = [0u8; 512];
    let mut seen = 0;
    loop {
        let n = ok!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), buf.len()));
        if n == 0 {
            break;
        }
        let mut at = 0;
        while at < n {
            let length = usize::from(u16::from_le_bytes([buf[at + 16], buf[at + 17]]));
            let end = buf[at + 19..at + length].iter().position(|b| *b == 0).unwrap_or(0);
            let name = String::from_utf8_lossy(&buf[at + 19..at + 19 + end]).into_owned();
            if name.starts_with('f') {
                ok!(call!(SYS_unlink, &*cstr(&name)));
                seen += 1;
            }
            at += length;
        }
    }
    eq!(seen, 300);
    eq!(names(c"."), Vec::<String>::new());
}

fn listing_can_be_rewound() {
    scratch();
    put(c"a", b"", 0o644);
    let fd = ok!(open(c".", libc::O_RDONLY, 0));
    let mut buf = [0u8; 1024];
    let first = ok!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), 1024));
    eq!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), 1024), Ok(0));
    eq!(call!(SYS_lseek, fd, 0, libc::SEEK_SET), Ok(0));
    eq!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), 1024), Ok(first));
    ok!(call!(SYS_lseek, fd, 0, libc::SEEK_SET));
    put(c"bb", b"", 0o644);
    check!(ok!(call!(SYS_getdents64, fd, buf.as_mut_ptr(), 1024)) > first);
}

fn cwd() -> String {
    let mut buf = [0u8; 4096];
    let n = ok!(call!(SYS_getcwd, buf.as_mut_ptr(), buf.len()));
    String::from_utf8_lossy(&buf[..n - 1]).into_owned()
}

fn working_directory() {
    let here = scratch().to_string_lossy().into_owned();
    eq!(cwd(), here);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    ok!(call!(SYS_symlink, c"d", c"s"));
    ok!(call!(SYS_chdir, c"s"));
    eq!(cwd(), format!("{here}/d"));
    ok!(call!(SYS_chdir, c".."));
    let fd = ok!(open(c"d", libc::O_RDONLY, 0));
    ok!(call!(SYS_fchdir, fd));
    eq!(cwd(), format!("{here}/d"));
    ok!(call!(SYS_chdir, c"/"));
    eq!(cwd(), "/");
    ok!(call!(SYS_chdir, c"/../../.."));
    eq!(cwd(), "/");
}

fn working_directory_errors() {
    scratch();
    put(c"f", b"", 0o644);
    err!(call!(SYS_chdir, c"f"), ENOTDIR);
    err!(call!(SYS_chdir, c"missing"), ENOENT);
    err!(call!(SYS_chdir, c""), ENOENT);
    err!(call!(SYS_chdir, 0), EFAULT);
    err!(call!(SYS_fchdir, ok!(open(c"f", libc::O_RDONLY, 0))), ENOTDIR);
    let mut buf = [0u8; 4096];
    err!(call!(SYS_getcwd, buf.as_mut_ptr(), 3), ERANGE);
    err!(call!(SYS_getcwd, buf.as_mut_ptr(), 0), ERANGE | EINVAL);
    err!(call!(SYS_getcwd, mem::KERNEL, 4096), EFAULT);
}

fn removed_working_directory() {
    scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    ok!(call!(SYS_chdir, c"d"));
    ok!(call!(SYS_rmdir, c"../d"));
    err!(call!(SYS_getcwd, [0u8; 256].as_mut_ptr(), 256), ENOENT);
    err!(open(c"f", libc::O_WRONLY | libc::O_CREAT, 0o644), ENOENT);
    err!(call!(SYS_mkdir, c"e", 0o755), ENOENT);
    ok!(stat(c"."));
    ok!(call!(SYS_chdir, c".."));
}

fn root_directory() {
    let here = scratch();
    ok!(call!(SYS_mkdir, c"jail", 0o755));
    ok!(call!(SYS_mkdir, c"jail/in", 0o755));
    put(c"jail/f", b"inside", 0o644);
    put(c"outside", b"", 0o644);
    in_child(|| {
        ok!(call!(SYS_chroot, c"jail"));
        ok!(call!(SYS_chdir, c"/"));
        eq!(cwd(), "/");
        eq!(guest_programs::fs::get(c"/f"), Ok(b"inside".to_vec()));
        eq!(guest_programs::fs::get(c"/../../f"), Ok(b"inside".to_vec()));
        err!(stat(c"/../outside"), ENOENT);
        err!(stat(&here), ENOENT);
        ok!(call!(SYS_chdir, c"in"));
        eq!(cwd(), "/in");
        err!(call!(SYS_chroot, c"/f"), ENOTDIR);
        err!(call!(SYS_chroot, c"/missing"), ENOENT);
    });
    check!(stat(c"outside").is_ok());
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(call!(SYS_chroot, c"/"), EPERM);
    });
}

fn deep_paths() {
    let here = scratch().to_string_lossy().into_owned();
    let name = "d".repeat(200);
    for _ in 0..30 {
        ok!(call!(SYS_mkdir, &*cstr(&name), 0o755));
        ok!(call!(SYS_chdir, &*cstr(&name)));
    }
    // Longer than any path that can be named, but the way up still works.
    put(c"f", b"deep", 0o644);
    let mut buf = vec![0u8; 8192];
    match call!(SYS_getcwd, buf.as_mut_ptr(), buf.len()) {
        Ok(n) => eq!(n, here.len() + 30 * 201 + 1),
        Err(e) => err!(Err::<usize, _>(e), ENAMETOOLONG),
    }
    err!(stat(&cstr(&vec![name.as_str(); 30].join("/"))), ENAMETOOLONG);
    ok!(call!(SYS_unlink, c"f"));
    for _ in 0..30 {
        ok!(call!(SYS_chdir, c".."));
        ok!(call!(SYS_rmdir, &*cstr(&name)));
    }
    eq!(cwd(), here);
}
