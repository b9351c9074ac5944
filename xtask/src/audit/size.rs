//! The gate of the hypervisor's size: what guests must trust is small enough to be read.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;

use crate::audit::Violation;
use crate::audit::source::{SourceFile, attributes, is_left_out};

/// The most lines of code that the lguest hypervisor may have.
pub const MOST_LINES: usize = 6000;

/// Lines that have code, in files that are no tests: neither comments nor empty ones.
pub fn lines(files: &[SourceFile]) -> usize {
    files.iter().map(|file| file.lines_of_code()).sum()
}

/// More lines than there may be; names the files, the longest first.
pub fn too_large(files: &[SourceFile], most: usize) -> Vec<Violation> {
    let count = lines(files);
    if count <= most {
        return Vec::new();
    }
    let mut by_file: Vec<_> = files.iter().map(|file| (file.lines_of_code(), file.name.as_str())).collect();
    by_file.sort();
    let total = Violation::new("arch-lguest/host", format!("{count} lines of code, {most} are allowed"));
    let each = by_file.iter().rev().map(|(count, name)| Violation::new(*name, format!("{count} lines")));
    [total].into_iter().chain(each).collect()
}

impl SourceFile {
    fn lines_of_code(&self) -> usize {
        let mut lines = BTreeSet::new();
        product(&self.syntax.items).for_each(|item| note(item.to_token_stream(), &mut lines));
        lines.len()
    }
}

/// Items that are no tests.
fn product(items: &[Item]) -> impl Iterator<Item = &Item> {
    items.iter().filter(|item| !attributes(item).is_some_and(is_left_out))
}

fn note(stream: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        // A doc comment is an attribute by now.
        if matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '#')
            && tokens.next_if(is_documentation).is_some()
        {
            continue;
        }
        match token {
            TokenTree::Group(group) => {
                lines.extend([group.span_open().start().line, group.span_close().start().line]);
                note(group.stream(), lines);
            }
            other => lines.extend(other.span().start().line..=other.span().end().line),
        }
    }
}

fn is_documentation(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let first = group.stream().into_iter().next();
    group.delimiter() == Delimiter::Bracket && matches!(first, Some(TokenTree::Ident(name)) if name == "doc")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::source::parse;

    const TEXT: &str = "//! Of the file.

/// Documentation
/// of two lines.
pub fn f() {
    // A comment.
    g(\"a text
       of two lines\");
}

#[cfg(test)]
mod tests {
    fn more() {}
}
";

    #[test]
    fn only_code_counts() {
        assert_eq!(lines(&[parse("arch-lguest/host/src/x.rs", TEXT).unwrap()]), 4);
    }

    #[test]
    fn one_line_too_many_is_told_with_the_files() {
        let file = [parse("arch-lguest/host/src/x.rs", TEXT).unwrap()];
        assert_eq!(too_large(&file, 4), []);
        let told: Vec<_> = too_large(&file, 3).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["arch-lguest/host: 4 lines of code, 3 are allowed", "arch-lguest/host/src/x.rs: 4 lines"]
        );
    }
}
