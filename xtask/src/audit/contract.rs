//! What the contract says: its public items with their promises, each as a number that changes when they do.

use std::collections::BTreeMap;

use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta, Visibility};

use crate::audit::source::{SourceFile, is_left_out};
use crate::evidence::equality::hash_of;

/// Files about how hooks are reached, which is nothing that either side of the contract promises.
const CONTROLS: [&str; 1] = ["platform/src/patch.rs"];

/// The public items of the files by name, with a hash of what they promise: signatures, types, values and
/// documentation, but no bodies of functions.
pub fn items(files: &[SourceFile]) -> BTreeMap<String, u64> {
    let mut items = BTreeMap::new();
    for file in files.iter().filter(|file| !CONTROLS.contains(&file.name.as_str())) {
        let module = file.name.trim_start_matches("platform/src/").trim_end_matches(".rs").to_owned();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for item in &file.syntax.items {
            let Some(name) = name(item) else { continue };
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            let number = if *count > 1 { format!("#{count}") } else { String::new() };
            items.insert(format!("{module}::{name}{number}"), hash_of(&normalized(item)));
        }
    }
    items
}

/// The name of an item that is part of the contract.
fn name(item: &Item) -> Option<String> {
    let public = |visibility: &Visibility| matches!(visibility, Visibility::Public(_));
    let named = |attributes: &[Attribute], visibility: &Visibility, name: String| {
        // The version is what the others' hashes are kept for.
        (public(visibility) && !is_left_out(attributes) && name != "CONTRACT_VERSION").then_some(name)
    };
    match item {
        Item::Trait(item) => named(&item.attrs, &item.vis, item.ident.to_string()),
        Item::Struct(item) => named(&item.attrs, &item.vis, item.ident.to_string()),
        Item::Enum(item) => named(&item.attrs, &item.vis, item.ident.to_string()),
        Item::Const(item) => named(&item.attrs, &item.vis, item.ident.to_string()),
        Item::Fn(item) => named(&item.attrs, &item.vis, item.sig.ident.to_string()),
        Item::Type(item) => named(&item.attrs, &item.vis, item.ident.to_string()),
        Item::Impl(item) => {
            Some(format!("impl {}", item.self_ty.to_token_stream().to_string().replace(' ', "")))
        }
        Item::Macro(item) if item.mac.path.is_ident("bitflags") || item.mac.path.segments.len() == 2 => {
            item.mac.path.segments.first().map(|segment| format!("macro {}", segment.ident))
        }
        _ => None,
    }
}

/// An item's text without the bodies of its functions, with all white space the same.
fn normalized(item: &Item) -> String {
    let mut item = item.clone();
    Bodiless.visit_item_mut(&mut item);
    item.to_token_stream().to_string()
}

struct Bodiless;

impl VisitMut for Bodiless {
    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.clear();
    }

    fn visit_attribute_mut(&mut self, attribute: &mut Attribute) {
        // A promise that is only wrapped otherwise is the same promise.
        if let Meta::NameValue(pair) = &mut attribute.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &mut pair.value
        {
            let words: Vec<_> = text.value().split_whitespace().map(str::to_owned).collect();
            *text = syn::LitStr::new(&words.join(" "), text.span());
        }
        visit_mut::visit_attribute_mut(self, attribute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::source::parse;

    fn of(text: &str) -> BTreeMap<String, u64> {
        items(&[parse("platform/src/hooks/x.rs", text).unwrap()])
    }

    #[test]
    fn a_promise_is_part_of_an_item_and_a_body_is_not() {
        let text = "/// Waits.\npub trait T { /// Stops.\n fn f(a: u64); }\npub fn g() -> u8 { 1 }";
        let before = of(text);
        assert_eq!(before.keys().collect::<Vec<_>>(), ["hooks/x::T", "hooks/x::g"]);
        assert_eq!(of(&text.replace("{ 1 }", "{ 2 }")), before);
        assert_eq!(of(&text.replace("/// Waits.", "///   Waits.  ")), before);
        for (from, to) in
            [("a: u64", "a: u32"), ("Stops", "Goes on"), ("Waits", "Sleeps"), ("-> u8", "-> u16")]
        {
            assert_ne!(of(&text.replace(from, to)), before, "{to}");
        }
        let with_tests = format!("{text}\n#[cfg(test)]\npub fn h() {{}}");
        assert_eq!(of(&with_tests), before);
    }
}
