//! The command line, by examples of what Linux makes of it.

use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn parameters(line: &str) -> Vec<(&str, Option<&str>)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    let line = CommandLine::new(line.as_bytes());
    line.parameters().map(|parameter| (text(parameter.key), parameter.value.map(text))).collect()
}

fn strings(texts: &[Vec<u8>]) -> Vec<String> {
    texts.iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect()
}

fn for_init(line: &str) -> (Vec<String>, Vec<String>) {
    let init = CommandLine::new(line.as_bytes()).for_init(&["console", "init", "quiet", "loglevel"]);
    (strings(&init.arguments), strings(&init.environment))
}

#[test]
fn separates_words_and_takes_quotes_off() {
    assert_eq!(parameters(""), []);
    assert_eq!(parameters(" \t\n"), []);
    assert_eq!(parameters("  quiet\tinit=/bin/sh "), [("quiet", None), ("init", Some("/bin/sh"))]);
    assert_eq!(parameters("a= b=c=d =e"), [("a", Some("")), ("b", Some("c=d")), ("", Some("e"))]);
    assert_eq!(parameters(r#"a="b c" d"#), [("a", Some("b c")), ("d", None)]);
    assert_eq!(parameters(r#""a=b c" "d e""#), [("a", Some("b c")), ("d e", None)]);
    assert_eq!(parameters(r#"a=b" "c "#), [("a", Some(r#"b" "c"#))], "quotes inside stay");
    assert_eq!(parameters(r#"a="b c"#), [("a", Some("b c"))], "the end of the line closes them");
    assert_eq!(parameters(r#"""#), [("", None)]);
    assert_eq!(parameters("a\0b"), [("a", None)]);
}

#[test]
fn stops_at_two_dashes() {
    assert_eq!(parameters("a -- b=c"), [("a", None)]);
    assert_eq!(parameters("--a --=b c"), [("--a", None), ("--", Some("b")), ("c", None)]);
    let (arguments, environment) = for_init(r#"quiet -- -c "echo $X; ls" A="b c" quiet -- x"#);
    assert_eq!(arguments, ["-c", "echo $X; ls", "A=b c", "quiet", "--", "x"]);
    assert_eq!(environment, [""; 0]);
}

#[test]
fn gives_process_1_what_it_does_not_know() {
    let (arguments, environment) = for_init(
        "single console=ttyS0 TERM=vt100 quiet 5 nvme.depth=3 TERM=xterm loglevel=3 A=\"b c\" -- -x",
    );
    assert_eq!(arguments, ["single", "5", "-x"]);
    assert_eq!(environment, ["TERM=xterm", "A=b c"]);
    let (arguments, environment) = for_init("lost A=1 init=/bin/sh kept AB=2 A=3");
    assert_eq!(arguments, ["kept"], "what precedes init= was for another");
    assert_eq!(environment, ["A=3", "AB=2"]);
}

#[test]
fn finds_values() {
    let line = CommandLine::new(b" console=tty0 quiet console=ttyS0 log_level=4 -- console=none ");
    assert_eq!(line.value("console"), Some(&b"ttyS0"[..]));
    assert_eq!(line.values("console").count(), 2);
    assert_eq!(line.value("log-level"), Some(&b"4"[..]), "dashes are as good as underscores");
    assert_eq!(line.value("quiet"), None);
    assert!(line.has("quiet") && !line.has("console") && !line.has("quie"));
    assert_eq!(line.text(), b"console=tty0 quiet console=ttyS0 log_level=4 -- console=none");
}

#[test]
fn reads_numbers_sizes_and_switches() {
    let number =
        |text: &str| CommandLine::new(text.as_bytes()).number("n").map_err(|error| error.to_string());
    assert_eq!(number(""), Ok(None));
    assert_eq!(number("n=0"), Ok(Some(0)));
    assert_eq!(number("n=18446744073709551615"), Ok(Some(u64::MAX)));
    assert_eq!(number("n=0x1F"), Ok(Some(31)));
    assert_eq!(number("n=010 n=017"), Ok(Some(15)));
    for bad in ["", "x", "1x", "0x", "-1", "+1", "08", "18446744073709551616", "4K"] {
        let line = std::format!("n={bad}");
        assert_eq!(number(&line), Err(std::format!("boot parameter n={bad} is not a number")));
    }
    assert_eq!(number("n"), Err("boot parameter n has no value; it needs a number".into()));

    let size = |text: &str| CommandLine::new(text.as_bytes()).size("s").ok();
    assert_eq!(size("s=16M"), Some(Some(16 << 20)));
    assert_eq!(size("s=0x10k"), Some(Some(16 << 10)));
    assert_eq!(size("s=3g"), Some(Some(3 << 30)));
    assert_eq!(size("s=1T"), Some(Some(1 << 40)));
    assert_eq!(size("s=7"), Some(Some(7)));
    for bad in ["s=16MB", "s=M", "s=16777216T", "s=", "s"] {
        assert_eq!(size(bad), None, "{bad}");
    }

    let switch = |text: &str| CommandLine::new(text.as_bytes()).switch("w").ok();
    assert_eq!(switch("w=on"), Some(Some(true)));
    assert_eq!(switch("w"), Some(Some(true)));
    assert_eq!(switch("w=N"), Some(Some(false)));
    assert_eq!(switch("v"), Some(None));
    assert_eq!(switch("w=maybe"), None);
}

proptest! {
    #[test]
    fn reads_back_what_was_written(words in proptest::collection::vec(("[a-z_]{1,8}", "[ a-z=.]{0,12}", 0..3), 0..10)) {
        let line: Vec<String> = words.iter().map(|(key, value, form)| match form {
            0 => key.clone(),
            1 => std::format!("{key}=\"{value}\""),
            _ => std::format!("\"{key}={value}\""),
        }).collect();
        let line = line.join(" ");
        let expected: Vec<_> =
            words.iter().map(|(key, value, form)| (&key[..], (*form > 0).then_some(&value[..]))).collect();
        prop_assert_eq!(parameters(&line), expected);
    }

    #[test]
    fn takes_any_bytes(bytes: Vec<u8>) {
        let init = CommandLine::new(&bytes).for_init(&[]);
        let longest = init.arguments.iter().chain(&init.environment).map(Vec::len).max().unwrap_or(0);
        // A quote that is never closed keeps the blanks at the line's end.
        prop_assert!(longest <= bytes.len());
    }
}
