//! Reads the `#!` line of a script, by Linux's rules.

use crate::errno::Errno;

/// How much of a file's start the line must fit in, in bytes, its end included.
pub const SCRIPT_HEAD_BYTES: usize = 256;

/// Who runs a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interpreter<'a> {
    /// Path of the program.
    pub path: &'a [u8],
    /// What else the line says: one argument, blanks inside it and all.
    pub argument: Option<&'a [u8]>,
}

/// Why there is no interpreter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScriptError {
    /// The file does not start with `#!`.
    NotAScript,
    /// The line names no program.
    NoInterpreter,
    /// The program's path goes on beyond the part of the file that counts.
    PathTooLong,
}

impl ScriptError {
    /// What `execve` returns for it.
    pub const fn errno(self) -> Errno {
        Errno::ENOEXEC
    }
}

impl core::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotAScript => "is not a script",
            Self::NoInterpreter => "is a script that names no interpreter",
            Self::PathTooLong => "is a script whose interpreter has too long a path",
        })
    }
}

impl core::error::Error for ScriptError {}

/// Reads the first line of a file that starts with `head`: the file's first [`SCRIPT_HEAD_BYTES`], or all of a shorter one.
///
/// The line ends at a newline, a NUL, the end of the file, or after 255 bytes; then an argument is cut off, while a path
/// is an error. Blanks are spaces and tabs; those at the end of a line are left out.
///
/// # Errors
/// See [`ScriptError`].
pub fn parse(head: &[u8]) -> Result<Interpreter<'_>, ScriptError> {
    let head = &head[..head.len().min(SCRIPT_HEAD_BYTES)];
    let rest = head.strip_prefix(b"#!").ok_or(ScriptError::NotAScript)?;
    let end = rest.iter().position(|&byte| byte == b'\n' || byte == 0);
    // With neither in sight, the end of the file ends the line, if it is in sight.
    let cut_off = end.is_none() && head.len() == SCRIPT_HEAD_BYTES;
    let line = match end {
        Some(end) => &rest[..end],
        None if cut_off => &rest[..SCRIPT_HEAD_BYTES - 3],
        None => rest,
    };
    let start = line.iter().position(|&byte| !is_blank(byte)).ok_or(ScriptError::NoInterpreter)?;
    let line = &line[start..];
    let Some(path_end) = line.iter().position(|&byte| is_blank(byte)) else {
        // A path right up to the cut is whole only if the byte after the cut ends it.
        if cut_off && !is_blank(head[SCRIPT_HEAD_BYTES - 1]) {
            return Err(ScriptError::PathTooLong);
        }
        return Ok(Interpreter { path: line, argument: None });
    };
    let (path, rest) = line.split_at(path_end);
    let argument = trim(rest);
    Ok(Interpreter { path, argument: (!argument.is_empty()).then_some(argument) })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn parsed(head: &[u8]) -> Result<(&str, Option<&str>), ScriptError> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        parse(head).map(|interpreter| (text(interpreter.path), interpreter.argument.map(text)))
    }

    /// `#!` and the path or argument, filled up to `length` bytes.
    fn long(start: &str, length: usize, end: &str) -> Vec<u8> {
        let mut head = Vec::from(start);
        head.resize(length - end.len(), b'x');
        head.extend_from_slice(end.as_bytes());
        head
    }

    #[test]
    fn reads_path_and_argument() {
        assert_eq!(parsed(b"#!/bin/sh\necho"), Ok(("/bin/sh", None)));
        assert_eq!(parsed(b"#!/bin/sh"), Ok(("/bin/sh", None)));
        assert_eq!(parsed(b"#! \t/bin/sh \t\n"), Ok(("/bin/sh", None)));
        assert_eq!(parsed(b"#!/usr/bin/env  sh -e \t\n"), Ok(("/usr/bin/env", Some("sh -e"))));
        assert_eq!(parsed(b"#!/bin/sh -e\0junk\n"), Ok(("/bin/sh", Some("-e"))));
        assert_eq!(parsed(b"#!/bin/sh\r\n"), Ok(("/bin/sh\r", None)));
    }

    #[test]
    fn refuses_lines_that_name_nothing() {
        for head in [&b""[..], b"#", b"# !/bin/sh\n", b"\x7fELF"] {
            assert_eq!(parsed(head), Err(ScriptError::NotAScript));
        }
        for head in [&b"#!"[..], b"#!\n/bin/sh", b"#! \t \n", b"#!  ", b"#!\0/bin/sh"] {
            assert_eq!(parsed(head), Err(ScriptError::NoInterpreter));
        }
        let mut blank = Vec::from("#!");
        blank.resize(400, b' ');
        assert_eq!(parsed(&blank), Err(ScriptError::NoInterpreter));
    }

    #[test]
    fn keeps_to_the_first_255_bytes() {
        let path = |head: &[u8]| parsed(head).map(|(path, _)| path.len());
        assert_eq!(path(&long("#!/", 256, "\n")), Ok(253));
        assert_eq!(path(&long("#!/", 255, "")), Ok(253), "the file ends there");
        assert_eq!(path(&long("#!/", 257, "\n")), Err(ScriptError::PathTooLong));
        assert_eq!(path(&long("#!/", 256, "")), Err(ScriptError::PathTooLong));
        assert_eq!(path(&long("#!/", 256, " ")), Ok(253));
        let argument = |head: &[u8]| parsed(head).map(|(_, argument)| argument.map(str::len));
        assert_eq!(argument(&long("#!/bin/sh -", 256, "\n")), Ok(Some(245)));
        assert_eq!(argument(&long("#!/bin/sh -", 1000, "\n")), Ok(Some(245)), "cut off");
        assert_eq!(argument(&long("#!/bin/sh -", 300, "\n")), Ok(Some(245)), "cut off");
    }
}
