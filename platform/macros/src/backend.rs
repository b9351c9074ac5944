//! `#[backend]`: a backend's functions with and without the trait.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, ImplItem, ItemImpl, Pat, Result, parse_quote};

pub fn expand(item: TokenStream) -> Result<TokenStream> {
    let block: ItemImpl = syn::parse2(item)?;
    let Some((_, path, _)) = block.trait_.clone() else {
        return Err(Error::new_spanned(
            &block.self_ty,
            "#[backend] goes on an implementation of a part trait",
        ));
    };
    let (generics, _, bounds) = block.generics.split_for_impl();
    let owner = &block.self_ty;
    let attributes = &block.attrs;

    let mut own = Vec::new();
    let mut forwards = Vec::new();
    for item in &block.items {
        let ImplItem::Fn(function) = item else {
            return Err(Error::new_spanned(item, "a part has only functions"));
        };
        let mut inherent = function.clone();
        inherent.vis = parse_quote!(pub);
        if !inherent.attrs.iter().any(|a| a.path().is_ident("inline") || a.path().is_ident("cold")) {
            inherent.attrs.push(parse_quote!(#[inline]));
        }
        inherent.attrs.push(parse_quote!(#[allow(clippy::missing_safety_doc, missing_docs)]));
        own.push(inherent);

        let mut signature = function.sig.clone();
        let mut arguments = Vec::new();
        for (index, input) in signature.inputs.iter_mut().enumerate() {
            let FnArg::Typed(typed) = input else {
                return Err(Error::new_spanned(input, "a hook has no self"));
            };
            let name = quote::format_ident!("argument_{index}");
            *typed.pat = Pat::Verbatim(quote!(#name));
            arguments.push(name);
        }
        let name = &signature.ident;
        let call = if signature.unsafety.is_some() {
            quote! {
                // SAFETY: the caller keeps the promises of the hook of the same name.
                unsafe { Self::#name(#(#arguments),*) }
            }
        } else {
            quote! { Self::#name(#(#arguments),*) }
        };
        forwards.push(quote! {
            #[inline(always)]
            #[allow(clippy::undocumented_unsafe_blocks)]
            #signature { #call }
        });
    }
    Ok(quote! {
        #(#attributes)*
        impl #generics #owner #bounds { #(#own)* }
        impl #generics #path for #owner #bounds { #(#forwards)* }
    })
}
