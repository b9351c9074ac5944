//! Derives what the dispatch controls need from the contract's traits, so that a hook is written once.
#![forbid(unsafe_code)]

mod backend;
mod part;

use proc_macro::TokenStream;

/// Goes on a part trait of the contract: `#[part(cpu)] trait Cpu { … }`.
///
/// Beside the trait it yields `HOOKS` (the hooks' names), `Table` (a structure of function pointers, one a hook, with
/// `Table::of::<Backend>()`) and the macro `cpu_hooks!(mode Backend)`, which expands to a module `cpu` with one
/// function a hook that reaches the backend in the given mode: `static`, `direct`, `table`, `dyn` or
/// `patched`.
#[proc_macro_attribute]
pub fn part(arguments: TokenStream, item: TokenStream) -> TokenStream {
    part::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Goes on a backend's implementation of a part: `#[backend] impl<K: Kernel> Cpu for NativeCpu<K> { … }`.
///
/// The bodies become functions of the type itself, which the `direct` control calls with no trait in the path; the
/// trait's functions call those.
#[proc_macro_attribute]
pub fn backend(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    backend::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
