//! The initramfs: whole, compressed, absent, truncated and corrupt.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cpio::{Node, Writer};
use crate::initramfs::Initramfs;
use crate::testing::case::{Case, Files, case};

/// busybox and an /init that exits with 3.
fn archive(busybox: &Path) -> Result<Vec<u8>> {
    let mut tree = Initramfs::with_busybox(busybox)?;
    tree.file("/init", b"#!/bin/sh\necho it runs; exit 3\n".to_vec(), 0o755);
    Ok(tree.pack())
}

/// The same as gzip makes it.
fn compressed(busybox: &Path) -> Result<Vec<u8>> {
    let archive = archive(busybox)?;
    let mut child = Command::new(busybox)
        .args(["gzip", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run busybox gzip")?;
    let mut input = child.stdin.take().context("gzip's input is a pipe")?;
    let writer = std::thread::spawn(move || input.write_all(&archive));
    let output = child.wait_with_output().context("cannot wait for gzip")?;
    match writer.join() {
        Ok(Ok(())) if output.status.success() => Ok(output.stdout),
        _ => bail!("busybox gzip failed"),
    }
}

/// Where the last entry starts.
fn trailer(archive: &[u8]) -> usize {
    // busybox has the name in it too, for its own cpio.
    let name = b"TRAILER!!!\0";
    let at = archive.windows(name.len()).rposition(|window| window == name);
    at.expect("the archive has a trailer") - 110
}

/// Where a name starts in an archive.
fn find(archive: &[u8], name: &str) -> usize {
    let name = format!("{name}\0");
    archive
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .expect("the archive has this name")
}

/// A change to the good archive.
type Change = fn(&mut Vec<u8>);

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("initramfs/plain").raw(archive).prints("it runs\n").exits(3),
        case("initramfs/gzip").raw(compressed).prints("it runs\n").exits(3),
        case("initramfs/two-archives")
            .raw(|busybox| {
                let mut second = Writer::default();
                second.entry("init", &Node::File(b"#!/bin/sh\necho the second; exit 4\n".to_vec()), 0o755);
                let mut both = archive(busybox)?;
                both.resize(both.len().next_multiple_of(512), 0);
                both.extend(second.finish());
                Ok(both)
            })
            .prints("the second\n")
            .exits(4),
        case("initramfs/gzip-after-plain")
            .raw(|busybox| {
                let mut first = Writer::default();
                first.entry("first", &Node::File(b"1".to_vec()), 0o644);
                let mut both = first.finish();
                both.extend(compressed(busybox)?);
                Ok(both)
            })
            .prints("it runs\n")
            .exits(3),
        case("initramfs/none").files(Files::None).unusable(["no initramfs"]),
        case("initramfs/none-but-an-init-is-named")
            .files(Files::None)
            .append("init=/bin/sh")
            .unusable(["no initramfs"]),
        case("initramfs/without-an-init").files(Files::Bare).unusable(["init"]),
        case("initramfs/noise")
            .raw(|_| Ok((0..8192u32).map(|n| (n * 167 % 251) as u8).collect()))
            .unusable(["cpio"]),
        case("initramfs/zeroes").raw(|_| Ok(vec![0; 8192])).unusable([]),
    ];
    let changes: [(&str, Change, &str); 8] = [
        ("truncated-in-a-header", |archive| archive.truncate(110 + 40), "cpio: image ends in the header"),
        (
            "truncated-in-a-name",
            |archive| archive.truncate(find(archive, "bin/busybox") + 4),
            "cpio: image ends in the name",
        ),
        ("truncated-in-data", |archive| archive.truncate(500_000), "cpio: image ends in the"),
        (
            "without-a-trailer",
            |archive| archive.truncate(trailer(archive)),
            "cpio: image ends without a trailer",
        ),
        ("bad-magic", |archive| in_second_header(archive, 5, b'9'), "cpio: no newc header"),
        ("bad-digit", |archive| in_second_header(archive, 20, b'x'), "cpio: no hexadecimal number"),
        // The size field is the seventh of eight digits after the magic.
        (
            "size-beyond-the-end",
            |archive| set(archive, "bin/busybox", 6, b"7FFFFFF0"),
            "cpio: image ends in the",
        ),
        ("name-without-a-nul", |archive| set(archive, "bin", 11, b"00000003"), "cpio: name without a NUL"),
    ];
    for (name, change, message) in changes {
        cases.push(
            case(format!("initramfs/{name}"))
                .raw(move |busybox| {
                    let mut bytes = archive(busybox)?;
                    change(&mut bytes);
                    Ok(bytes)
                })
                .unusable([message]),
        );
    }
    let changes: [(&str, Change, &str); 4] = [
        ("gzip-truncated", |gzip| gzip.truncate(gzip.len() / 2), "gzip: input ends"),
        ("gzip-truncated-in-its-header", |gzip| gzip.truncate(6), "gzip: "),
        ("gzip-bad-checksum", |gzip| flip(gzip, 8), "gzip: "),
        ("gzip-unknown-method", |gzip| gzip[2] = 7, "gzip: "),
    ];
    for (name, change, message) in changes {
        cases.push(
            case(format!("initramfs/{name}"))
                .raw(move |busybox| {
                    let mut bytes = compressed(busybox)?;
                    change(&mut bytes);
                    Ok(bytes)
                })
                .unusable([message]),
        );
    }
    cases
}

/// Overwrites a byte of the header after the first entry, which is a directory.
fn in_second_header(archive: &mut [u8], offset: usize, byte: u8) {
    let header =
        archive[1..].windows(6).position(|window| window == b"070701").expect("the archive has two entries");
    archive[1 + header + offset] = byte;
}

/// Overwrites a header field, by its number, of the entry with this name.
fn set(archive: &mut [u8], name: &str, field: usize, digits: &[u8; 8]) {
    let at = find(archive, name) - 110 + 6 + field * 8;
    archive[at..at + 8].copy_from_slice(digits);
}

/// Changes one bit so many bytes before the end.
fn flip(bytes: &mut [u8], from_the_end: usize) {
    let at = bytes.len() - from_the_end;
    bytes[at] ^= 1;
}
