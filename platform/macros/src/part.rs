//! `#[part]`: table, object, names and call functions of one part trait.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, FnArg, Ident, ItemTrait, Pat, Result, ReturnType, Signature, TraitItem, TraitItemFn,
    Type,
};

/// One hook, taken apart.
struct Hook<'a> {
    documentation: Vec<&'a Attribute>,
    signature: &'a Signature,
    arguments: Vec<&'a Ident>,
}

impl<'a> Hook<'a> {
    fn new(function: &'a TraitItemFn) -> Result<Self> {
        let signature = &function.sig;
        if !signature.generics.params.is_empty() || function.default.is_some() {
            return Err(Error::new_spanned(
                signature,
                "a hook has no generic parameters and no default body",
            ));
        }
        let mut arguments = Vec::new();
        for input in &signature.inputs {
            match input {
                FnArg::Typed(typed) => match &*typed.pat {
                    Pat::Ident(pattern) => arguments.push(&pattern.ident),
                    other => return Err(Error::new_spanned(other, "a hook's arguments are plain names")),
                },
                FnArg::Receiver(receiver) => return Err(Error::new_spanned(receiver, "a hook has no self")),
            }
        }
        let documentation: Vec<_> = function.attrs.iter().filter(|a| a.path().is_ident("doc")).collect();
        if documentation.is_empty() {
            return Err(Error::new_spanned(signature, "a hook documents its promises"));
        }
        Ok(Self { documentation, signature, arguments })
    }

    fn name(&self) -> &Ident {
        &self.signature.ident
    }

    /// `unsafe fn(A, B) -> R`
    fn pointer(&self) -> TokenStream {
        let unsafety = &self.signature.unsafety;
        let types = self.signature.inputs.iter().map(|input| match input {
            FnArg::Typed(typed) => &typed.ty,
            FnArg::Receiver(_) => unreachable!("refused in Hook::new"),
        });
        let output = &self.signature.output;
        quote!(#unsafety fn(#(#types),*) #output)
    }

    /// A method with the hook's arguments.
    fn method(&self) -> TokenStream {
        let Self { documentation, signature, .. } = self;
        let Signature { unsafety, ident, inputs, output, .. } = signature;
        quote!(#(#documentation)* #unsafety fn #ident(&self, #inputs) #output)
    }

    /// A method that calls the backend `B`.
    fn method_of_backend(&self, part: &Ident) -> TokenStream {
        let Self { signature, arguments, .. } = self;
        let Signature { unsafety, ident, inputs, output, .. } = signature;
        let call = quote!(<B as #part>::#ident(#(#arguments),*));
        let body = if unsafety.is_some() { quote!(unsafe { #call }) } else { call };
        quote!(#unsafety fn #ident(&self, #inputs) #output { #body })
    }

    /// Whether it returns.
    fn returns(&self) -> bool {
        !matches!(&self.signature.output, ReturnType::Type(_, kind) if matches!(**kind, Type::Never(_)))
    }

    /// A public function that calls `target` with the hook's arguments.
    fn function(&self, target: &TokenStream) -> TokenStream {
        let Self { documentation, signature, arguments } = self;
        let body = match signature.unsafety {
            Some(_) => quote!(unsafe { #target(#(#arguments),*) }),
            None => quote!(#target(#(#arguments),*)),
        };
        quote! {
            #(#documentation)*
            #[inline(always)]
            pub #signature { #body }
        }
    }
}

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let module: Ident = syn::parse2(arguments)?;
    let contract: ItemTrait = syn::parse2(item)?;
    let part = &contract.ident;
    let hooks = contract
        .items
        .iter()
        .map(|item| match item {
            TraitItem::Fn(function) => Hook::new(function),
            other => Err(Error::new_spanned(other, "a part has only functions")),
        })
        .collect::<Result<Vec<_>>>()?;

    let names: Vec<_> = hooks.iter().map(Hook::name).collect();
    let pointers = hooks.iter().map(Hook::pointer);
    let slot_documentation = hooks.iter().map(|hook| &hook.documentation);
    let macro_name = format_ident!("{module}_hooks");
    let module_documentation = format!("The hooks of [`platform::{part}`].");

    let through_trait = hooks.iter().map(|hook| {
        let name = hook.name();
        hook.function(&quote!(<Part as platform::#part>::#name))
    });
    let without_trait = hooks.iter().map(|hook| {
        let name = hook.name();
        hook.function(&quote!(Part::#name))
    });
    let through_table = hooks.iter().map(|hook| {
        let name = hook.name();
        let Hook { documentation, signature, arguments } = hook;
        quote! {
            #(#documentation)*
            #[inline(always)]
            pub #signature {
                // SAFETY: `install` filled the slot before any other CPU or hook ran, and nothing writes it again.
                unsafe { ((*(&raw const TABLE)).assume_init_ref().#name)(#(#arguments),*) }
            }
        }
    });

    let methods = hooks.iter().map(Hook::method);
    let methods_of_backend = hooks.iter().map(|hook| hook.method_of_backend(part));
    let through_object = hooks.iter().map(|hook| {
        let name = hook.name();
        let Hook { documentation, signature, arguments } = hook;
        quote! {
            #(#documentation)*
            #[inline(always)]
            pub #signature {
                // SAFETY: `install` named the object before any other CPU or hook ran, and nothing writes it again.
                unsafe { (*(&raw const OBJECT)).assume_init().#name(#(#arguments),*) }
            }
        }
    });
    let through_sites = hooks.iter().map(|hook| {
        let name = hook.name();
        let Hook { documentation, signature, arguments } = hook;
        let call = quote!((TABLE.#name)(#(#arguments),*));
        // A comment in the assembly, so that two hooks' entries are not the same to the compiler.
        let comment = format!("# {name}");
        let call = match hook.returns() {
            true => quote! {
                let result = #call;
                core::arch::asm!("", options(nomem, nostack, preserves_flags));
                result
            },
            false => call,
        };
        quote! {
            #(#documentation)*
            #[inline(always)]
            pub #signature {
                // What stands around the call makes no instruction. The first reserves the site's entry in the record
                // and keeps the slot from being read earlier; the second keeps the call from becoming a jump.
                // SAFETY: `install` wrote the slot before any other CPU or hook ran, and nothing writes it again.
                unsafe {
                    core::arch::asm!(
                        ".pushsection .hook_sites, \"a\", @progbits",
                        #comment,
                        ".zero 8",
                        ".popsection",
                        options(nostack, preserves_flags)
                    );
                    #call
                }
            }
        }
    });
    Ok(quote! {
        #contract

        /// Names of the hooks of this part.
        pub const HOOKS: &[crate::Hook] =
            &[#(crate::Hook { part: stringify!(#part), name: stringify!(#names) }),*];

        /// One function pointer a hook.
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub struct Table {
            #(#(#slot_documentation)* pub #names: #pointers,)*
        }

        impl Table {
            /// The table of one backend.
            pub const fn of<B: #part>() -> Self {
                Self { #(#names: B::#names),* }
            }
        }

        /// The hooks as methods of an object.
        pub trait Object: Sync {
            #(#methods;)*
        }

        /// A backend as an object.
        #[derive(Clone, Copy, Debug)]
        pub struct Through<B>(pub core::marker::PhantomData<fn() -> B>);

        #[allow(clippy::undocumented_unsafe_blocks)]
        impl<B: #part> Object for Through<B> {
            #(#methods_of_backend)*
        }

        #[doc(hidden)]
        #[macro_export]
        macro_rules! #macro_name {
            (static $backend:ty) => {
                #[doc = #module_documentation]
                #[allow(clippy::undocumented_unsafe_blocks, unused_imports)]
                pub mod #module {
                    use super::*;
                    use platform::*;
                    type Part = <$backend as platform::Platform>::#part;
                    /// Nothing to do: the backend is bound at compile time.
                    #[inline(always)]
                    pub fn install() {}
                    #(#through_trait)*
                }
            };
            (direct $backend:ty) => {
                #[doc = #module_documentation]
                #[allow(clippy::undocumented_unsafe_blocks, unused_imports)]
                pub mod #module {
                    use super::*;
                    use platform::*;
                    /// Hides the trait: a backend without functions of its own does not compile here.
                    #[allow(dead_code)]
                    enum #part {}
                    type Part = <$backend as platform::Platform>::#part;
                    /// Nothing to do: the backend is bound at compile time.
                    #[inline(always)]
                    pub fn install() {}
                    #(#without_trait)*
                }
            };
            (table $backend:ty) => {
                #[doc = #module_documentation]
                #[allow(clippy::undocumented_unsafe_blocks, unused_imports)]
                pub mod #module {
                    use super::*;
                    use platform::*;
                    static mut TABLE: core::mem::MaybeUninit<platform::table::#part> =
                        core::mem::MaybeUninit::uninit();
                    /// Fills the slots with functions the optimizer cannot know.
                    pub fn install() {
                        type Part = <$backend as platform::Platform>::#part;
                        let table = core::hint::black_box(platform::table::#part::of::<Part>());
                        // SAFETY: runs once, before any hook is called and before any other CPU runs.
                        unsafe { (&raw mut TABLE).write_volatile(core::mem::MaybeUninit::new(table)) };
                    }
                    #(#through_table)*
                }
            };
            (patched $backend:ty) => {
                #[doc = #module_documentation]
                #[allow(clippy::undocumented_unsafe_blocks, unused_imports)]
                pub mod #module {
                    use super::*;
                    use platform::*;
                    /// Filled in the image, where the build reads which function a slot holds.
                    static mut TABLE: platform::table::#part =
                        platform::table::#part::of::<<$backend as platform::Platform>::#part>();
                    /// Writes the slots, with what is in them: from here on the optimizer cannot know them.
                    pub fn install() {
                        let table = &raw mut TABLE;
                        // SAFETY: runs once, before any hook is called and before any other CPU runs.
                        unsafe { table.write_volatile(core::hint::black_box(table.read_volatile())) };
                    }
                    /// Where the slots are.
                    pub(super) fn slots() -> core::ops::Range<u64> {
                        let start = (&raw const TABLE).addr() as u64;
                        start..start + size_of::<platform::table::#part>() as u64
                    }
                    #(#through_sites)*
                }
            };
            (dyn $backend:ty) => {
                #[doc = #module_documentation]
                #[allow(clippy::undocumented_unsafe_blocks, unused_imports)]
                pub mod #module {
                    use super::*;
                    use platform::*;
                    static mut OBJECT: core::mem::MaybeUninit<&'static dyn platform::object::#part> =
                        core::mem::MaybeUninit::uninit();
                    /// Names an object the optimizer cannot know.
                    pub fn install() {
                        type Part = <$backend as platform::Platform>::#part;
                        let object: &'static dyn platform::object::#part =
                            &platform::object::through::#part::<Part>(core::marker::PhantomData);
                        let object = core::hint::black_box(object);
                        // SAFETY: runs once, before any hook is called and before any other CPU runs.
                        unsafe { (&raw mut OBJECT).write_volatile(core::mem::MaybeUninit::new(object)) };
                    }
                    #(#through_object)*
                }
            };
        }
    })
}
