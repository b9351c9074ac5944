//! The gate of the kernel's source: how many places call a hook.

use std::collections::BTreeMap;

use proc_macro2::Span;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprPath, ItemFn, ItemMod, ItemUse, Macro, Token, UseTree};

use crate::audit::Violation;
use crate::audit::source::{SourceFile, is_left_out};
use crate::evidence::hooks::{self, HookName};

/// The most places there may be.
pub const MOST_PLACES: usize = 100;
/// The most hooks the contract may have.
pub const MOST_HOOKS: usize = 100;

/// A place in the source that names a hook, to call it or to hand it on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file
    pub file: String,
    /// Its line
    pub line: usize,
    /// The column, from 1
    pub column: usize,
    /// Which hook
    pub hook: HookName,
}

/// All places of the files; the module that defines the hooks' functions names none.
pub fn places(files: &[SourceFile]) -> Vec<Place> {
    let mut found = Vec::new();
    for file in files {
        let mut imports = Imports::default();
        imports.visit_file(&file.syntax);
        let mut finder =
            Finder { file: &file.name, imports: &imports.names, hooks: hooks::all(), found: &mut found };
        finder.visit_file(&file.syntax);
    }
    found.sort();
    found
}

/// More places than there may be.
pub fn too_many_places(places: &[Place], most: usize) -> Vec<Violation> {
    if places.len() <= most {
        return Vec::new();
    }
    let mut by_hook: BTreeMap<&HookName, Vec<&Place>> = BTreeMap::new();
    places.iter().for_each(|place| by_hook.entry(&place.hook).or_default().push(place));
    let mut by_hook: Vec<_> = by_hook.into_iter().collect();
    by_hook.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    let text = |places: &[&Place]| {
        let all: Vec<_> = places.iter().map(|place| format!("{}:{}", place.file, place.line)).collect();
        all.join(" ")
    };
    let mut violations = vec![Violation::new(
        "kernel/src",
        format!(
            "{} places call a hook, {most} are allowed: give those that call the same one a function",
            places.len()
        ),
    )];
    violations.extend(by_hook.iter().map(|(hook, places)| {
        Violation::new(hook.to_string(), format!("{} places: {}", places.len(), text(places)))
    }));
    violations
}

/// More hooks than there may be.
pub fn too_many_hooks(count: usize, most: usize) -> Vec<Violation> {
    if count <= most {
        return Vec::new();
    }
    vec![Violation::new("platform/src/hooks", format!("the contract has {count} hooks, {most} are allowed"))]
}

/// What a file's imports mean: names and the paths below `hook` that they stand for.
#[derive(Default)]
struct Imports {
    names: BTreeMap<String, Vec<String>>,
}

impl Imports {
    fn tree(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.tree(&step.tree, path);
                path.pop();
            }
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = path.last().cloned() {
                    self.enter(last, path);
                }
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.enter(name.ident.to_string(), path);
                path.pop();
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                self.enter(rename.rename.to_string(), path);
                if rename.ident != "self" {
                    path.pop();
                }
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, path)),
            UseTree::Glob(_) => {}
        }
    }

    fn enter(&mut self, name: String, path: &[String]) {
        if let Some(below) = below_hook(path) {
            self.names.insert(name, below.to_vec());
        }
    }
}

/// What comes after `hook` in a path of the kernel.
fn below_hook(path: &[String]) -> Option<&[String]> {
    let own =
        path.iter().take_while(|step| ["crate", "super", "self", "kernel"].contains(&step.as_str())).count();
    (own > 0 && path.get(own).is_some_and(|step| step == "hook")).then(|| &path[own + 1..])
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_left_out(&item.attrs) {
            self.tree(&item.tree, &mut Vec::new());
        }
    }
}

struct Finder<'a> {
    file: &'a str,
    imports: &'a BTreeMap<String, Vec<String>>,
    hooks: Vec<HookName>,
    found: &'a mut Vec<Place>,
}

impl Finder<'_> {
    fn path(&mut self, path: &syn::Path, span: Span) {
        let steps: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let full = match (below_hook(&steps), steps.split_first()) {
            (Some(below), _) => below.to_vec(),
            (None, Some((first, rest))) => match self.imports.get(first) {
                Some(meaning) => meaning.iter().chain(rest).cloned().collect(),
                None => return,
            },
            _ => return,
        };
        let [part, name] = &full[..] else { return };
        let hook = HookName { part: part.clone(), name: name.clone() };
        if self.hooks.contains(&hook) {
            let at = span.start();
            let file = self.file.to_owned();
            self.found.push(Place { file, line: at.line, column: at.column + 1, hook });
        }
    }
}

fn left_out<T>(attributes: &[Attribute], item: &T, go_on: impl FnOnce(&T)) {
    if !is_left_out(attributes) {
        go_on(item);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        left_out(&item.attrs, item, |_| visit::visit_item_mod(self, item));
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        left_out(&item.attrs, item, |_| visit::visit_item_fn(self, item));
    }

    fn visit_expr_path(&mut self, path: &'ast ExprPath) {
        let span = path.path.segments.first().map_or_else(Span::call_site, |segment| segment.ident.span());
        self.path(&path.path, span);
        visit::visit_expr_path(self, path);
    }

    /// What a macro is given is looked at where it is a list of expressions.
    fn visit_macro(&mut self, call: &'ast Macro) {
        let list = Punctuated::<Expr, Token![,]>::parse_terminated;
        if let Ok(expressions) = list.parse2(call.tokens.clone()) {
            let expressions: Vec<Expr> = expressions.into_iter().collect();
            // The tree is this function's own, so a finder of a shorter life looks through it.
            let mut inner = Finder {
                file: self.file,
                imports: self.imports,
                hooks: std::mem::take(&mut self.hooks),
                found: self.found,
            };
            expressions.iter().for_each(|expression| inner.visit_expr(expression));
            self.hooks = inner.hooks;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::source::parse;

    fn found(text: &str) -> Vec<(usize, String)> {
        let file = parse("kernel/src/x.rs", text).unwrap();
        places(&[file]).into_iter().map(|place| (place.line, place.hook.to_string())).collect()
    }

    #[test]
    fn every_way_to_name_a_hook_is_found() {
        let text = "use crate::hook::{self, cpu, power as off};
use crate::hook::clock::now;
use other::cpu as elsewhere;
fn f() {
    cpu::irq_disable();
    hook::paging::activate_kernel();
    crate::hook::timer::disarm();
    off::report(b\"\");
    println!(\"{:?}\", now());
    g(cpu::irq_enable);
    hook::install();
    elsewhere::irq_disable();
    cpu::no_such_hook();
}
#[cfg(test)]
mod tests {
    fn g() { cpu::halt(); }
}";
        let expected = [
            (5, "cpu::irq_disable"),
            (6, "paging::activate_kernel"),
            (7, "timer::disarm"),
            (8, "power::report"),
            (9, "clock::now"),
            (10, "cpu::irq_enable"),
        ];
        assert_eq!(found(text), expected.map(|(line, hook)| (line, hook.to_owned())));
    }

    #[test]
    fn one_place_or_hook_too_many_is_a_violation() {
        let text = "fn f() { crate::hook::cpu::irq_enable(); crate::hook::cpu::irq_disable(); }";
        let places = places(&[parse("kernel/src/x.rs", text).unwrap()]);
        assert_eq!(too_many_places(&places, 2), []);
        let violations = too_many_places(&places, 1);
        assert!(
            violations[0].to_string().contains("2 places call a hook, 1 are allowed"),
            "{}",
            violations[0]
        );
        assert_eq!(violations[1].to_string(), "cpu::irq_disable: 1 places: kernel/src/x.rs:1");
        assert_eq!(too_many_hooks(100, 100), []);
        let violations = too_many_hooks(101, 100);
        assert_eq!(
            violations[0].to_string(),
            "platform/src/hooks: the contract has 101 hooks, 100 are allowed"
        );
    }
}
