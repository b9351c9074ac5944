//! What process 1 is and gets: its arguments and its environment.

use crate::testing::case::{Case, Source, case};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("arguments/plain").argv(["echo", "one", "two"]).prints("one two\n"),
        case("arguments/any-byte-survives")
            .argv([
                "sh",
                "-c",
                "printf '[%s]' \"$@\"; echo",
                "sh",
                "a  b",
                "",
                "\"",
                "'",
                "line\nfeed",
                "é",
                "$HOME",
                "--",
                "\\",
            ])
            .prints("[a  b][][\"]['][line\nfeed][é][$HOME][--][\\]"),
        case("arguments/many").argv(["sh", "-c", "seq 1 3000 | xargs sh -c 'echo $#' sh"]).prints("3000\n"),
        case("arguments/process-1-has-id-1").sh("echo id $$ parent $PPID").prints("id 1 parent 0\n"),
        case("arguments/init-parameter")
            .append("init=/bin/echo -- from the \"kernel  command\" line")
            .prints("from the kernel  command line\n"),
        case("arguments/init-is-the-default")
            .with("/init", Source::Bytes(b"#!/bin/sh\necho the default init; exit 8\n".to_vec()))
            .prints("the default init\n")
            .exits(8),
        case("arguments/sbin-init-comes-next")
            .with("/sbin/init", Source::Bytes(b"#!/bin/sh\necho the sbin init; exit 9\n".to_vec()))
            .prints("the sbin init\n")
            .exits(9),
        case("arguments/unknown-parameters-reach-the-environment")
            .append("COLOUR=green")
            .sh("echo colour $COLOUR")
            .prints("colour green\n"),
        case("arguments/standard-environment").sh("echo home $HOME term $TERM").prints("home / term linux\n"),
        case("arguments/quiet").append("quiet").sh("echo hello").prints("hello\n"),
    ]
}
