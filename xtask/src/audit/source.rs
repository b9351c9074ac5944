//! Rust source, parsed: what belongs to the product, and which words are in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quote::ToTokens;
use syn::{Attribute, Item, Meta};

/// A parsed file of a crate.
pub struct SourceFile {
    /// Its path from the repository's top level
    pub name: String,
    /// What is in it
    pub syntax: syn::File,
}

/// Parses one text.
pub fn parse(name: &str, text: &str) -> Result<SourceFile> {
    let syntax = syn::parse_file(text).map_err(|error| {
        let at = error.span().start();
        anyhow::anyhow!("{name}:{}:{}: {error}", at.line, at.column + 1)
    })?;
    Ok(SourceFile { name: name.to_owned(), syntax })
}

/// The files of a crate from its root on, without those that are there for tests or for the build machine only.
pub fn of_crate(top: &Path, root: &str) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let root = top.join(root);
    let directory = root.parent().context("a source file is in a directory")?.to_owned();
    follow(top, &root, &directory, &mut files)?;
    Ok(files)
}

fn follow(top: &Path, path: &Path, directory: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.strip_prefix(top).unwrap_or(path).display().to_string();
    let file = parse(&name, &text)?;
    let mut children = Vec::new();
    modules(&file.syntax.items, directory, &mut children);
    files.push(file);
    for (path, directory) in children {
        follow(top, &path, &directory, files)?;
    }
    Ok(())
}

/// The files of the modules that `items` declare, each with the directory its own modules are in.
fn modules(items: &[Item], directory: &Path, found: &mut Vec<(PathBuf, PathBuf)>) {
    for item in items {
        let Item::Mod(module) = item else { continue };
        if is_left_out(&module.attrs) {
            continue;
        }
        let inside = directory.join(module.ident.to_string());
        if let Some((_, items)) = &module.content {
            modules(items, &inside, found);
            continue;
        }
        let named = module.attrs.iter().find_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("path") => {
                Some(pair.value.to_token_stream().to_string().trim_matches('"').to_owned())
            }
            _ => None,
        });
        let plain = directory.join(format!("{}.rs", module.ident));
        match named {
            Some(name) => found.push((directory.join(name), inside)),
            None if plain.is_file() => found.push((plain, inside)),
            None => found.push((inside.join("mod.rs"), inside)),
        }
    }
}

/// Whether something is compiled for tests, or on the build machine, only.
pub fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && ["test", "not(target_os=\"none\")"].contains(&condition.as_str())
    })
}

/// The attributes of an item that can stand for a test; none of other kinds.
pub fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}
