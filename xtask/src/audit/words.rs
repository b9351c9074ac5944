//! The gate of the contract's words: it knows no cycles, jiffies, ticks or timer chips.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use crate::audit::Violation;
use crate::audit::source::SourceFile;

/// Words of time as some machine counts it, and of the devices that do.
const FORBIDDEN: &[&str] = &[
    "cycle",
    "cycles",
    "jiffy",
    "jiffies",
    "tick",
    "ticks",
    "tickless",
    "tsc",
    "rdtsc",
    "hz",
    "hertz",
    "frequency",
    "pit",
    "i8253",
    "i8254",
    "hpet",
    "apic",
    "lapic",
    "pmtimer",
    "rtc",
];

/// Texts that forbid these words, and so have them: the file, and a piece of the text.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// The forbidden words in the contract's names and documentation.
pub fn forbidden(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        tokens(file, file.syntax.to_token_stream(), &mut violations);
    }
    violations
}

fn tokens(file: &SourceFile, stream: TokenStream, violations: &mut Vec<Violation>) {
    for token in stream {
        let text = match &token {
            TokenTree::Group(group) => {
                tokens(file, group.stream(), violations);
                continue;
            }
            TokenTree::Punct(_) => continue,
            TokenTree::Ident(name) => name.to_string(),
            TokenTree::Literal(literal) => literal.to_string(),
        };
        let excepted = EXCEPTIONS.iter().any(|(name, piece)| *name == file.name && text.contains(piece));
        for word in words(&text).filter(|word| FORBIDDEN.contains(&word.as_str()) && !excepted) {
            let line = token.span().start().line;
            violations.push(Violation::new(format!("{}:{line}", file.name), format!("the word `{word}`")));
        }
    }
}

/// The words of a text or a name in snake or camel case, in small letters.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in text.chars() {
        if !letter.is_ascii_alphanumeric() || (letter.is_ascii_uppercase() && before.is_ascii_lowercase()) {
            words.push(String::new());
        }
        if let (true, Some(word)) = (letter.is_ascii_alphanumeric(), words.last_mut()) {
            word.push(letter.to_ascii_lowercase());
        }
        before = letter;
    }
    words.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::source::parse;

    fn found(text: &str) -> Vec<String> {
        let file = parse("platform/src/x.rs", text).unwrap();
        forbidden(&[file]).into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn planted_words_are_found() {
        for (text, word) in [
            ("/// Time in cycles.\npub struct A;", "cycles"),
            ("pub fn jiffies() {}", "jiffies"),
            ("pub struct PitMode;", "pit"),
            ("fn f() { let tsc_rate = 1; }", "tsc"),
            ("/// The HPET's counter.\npub struct A;", "hpet"),
            ("pub const TICK: u64 = 1;", "tick"),
        ] {
            let found = found(text);
            assert_eq!(found, [format!("platform/src/x.rs:1: the word `{word}`")], "{text}");
        }
    }

    #[test]
    fn other_words_are_not() {
        assert_eq!(
            found("/// Spits out stickers; a bicycle's capital.\npub fn critical_article() {}"),
            [""; 0]
        );
    }
}
