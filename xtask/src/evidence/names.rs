//! Names of functions and data, demangled, and the crate each belongs to.

use std::fmt;

use rustc_demangle::demangle;

/// A symbol's name for people, without the compiler's hashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Name(String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The owner of what has no crate in its name: assembly, and data that was given a name of its own.
pub const ASSEMBLY: &str = "assembly";
/// The owner of copies and comparisons of memory.
const BUILTINS: &str = "compiler_builtins";

impl Name {
    /// From a symbol's mangled or plain name.
    pub fn new(symbol: &str) -> Self {
        // LLVM marks copies and renamed locals by suffixes that differ from build to build.
        let mut plain = symbol.split(".llvm.").next().unwrap_or(symbol);
        while let Some((before, number)) = plain.rsplit_once('.')
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            plain = before;
        }
        Self(format!("{:#}", demangle(plain)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The crate that defines it, [`ASSEMBLY`] where there is none.
    pub fn owner(&self) -> &str {
        if !self.0.contains("::") {
            return match self.0.as_str() {
                "memcpy" | "memmove" | "memset" | "memcmp" | "bcmp" | "strlen" => BUILTINS,
                _ => ASSEMBLY,
            };
        }
        // `<A as B>::f` belongs to A's crate; where A is not a path (a parameter, a reference), to B's.
        let mut rest = self.0.as_str();
        loop {
            rest = rest.trim_start_matches(['<', '&', '*', '[', '(', ' ']);
            let stripped =
                ["mut ", "const ", "dyn "].iter().find_map(|qualifier| rest.strip_prefix(qualifier));
            match stripped {
                Some(more) => rest = more,
                None => break,
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if rest[end..].starts_with("::") {
            return &rest[..end];
        }
        match rest.split_once(" as ") {
            Some((_, of_trait)) => of_trait.split("::").next().unwrap_or(ASSEMBLY),
            None => "core",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners() {
        for (symbol, name, owner) in [
            (
                "_ZN6kernel4hook3cpu11irq_disable17he5dee58c99594d60E",
                "kernel::hook::cpu::irq_disable",
                "kernel",
            ),
            (
                "_ZN82_$LT$arch_native..cpu..NativeCpu$LT$K$GT$$u20$as$u20$platform..hooks..cpu..Cpu$GT$11irq_disable17ha26d39877974e12cE",
                "<arch_native::cpu::NativeCpu<K> as platform::hooks::cpu::Cpu>::irq_disable",
                "arch_native",
            ),
            (
                "_ZN42_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE",
                "<&T as core::fmt::Debug>::fmt",
                "core",
            ),
            (
                "_RNvMsa_NtCsg3SjgaGcPXb_4core3fmtNtB5_9Formatter12pad_integral",
                "<core::fmt::Formatter>::pad_integral",
                "core",
            ),
            ("native_iretq_user", "native_iretq_user", ASSEMBLY),
            ("memcpy", "memcpy", "compiler_builtins"),
            ("_ZN6kernel3foo17he5dee58c99594d60E.llvm.123", "kernel::foo", "kernel"),
        ] {
            let found = Name::new(symbol);
            assert_eq!((found.as_str(), found.owner()), (name, owner));
        }
        assert_eq!(Name::new("_ZN6kernel3foo17he5dee58c99594d60E.224").as_str(), "kernel::foo");
    }
}
