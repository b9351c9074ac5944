//! Figures of other kernels, as facts with their source.

/// Another kernel with and without its hooks.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Which kernel, and which part of it
    pub name: &'static str,
    /// Text without hooks, in bytes
    pub without: u64,
    /// Text with them
    pub with: u64,
    /// Indirect call sites, where they were counted
    pub sites: Option<u64>,
    /// Slots of the table, where they were counted
    pub slots: Option<u64>,
    /// Who measured it, and on what
    pub source: &'static str,
}

const SEED: &str = "Ingo Molnar, \"ABI coupling to hypervisors via CONFIG_PARAVIRT\", LKML, 9 March 2007: \
                    a distribution's i386 kernel";
const LINUX: &str = "Linux 6.1, x86-64, tiny configuration with network, GCC 12: built three times and \
                     disassembled for this project's design";

/// Architecture parts of other kernels.
pub const ARCHITECTURE: [Reference; 3] = [
    Reference {
        name: "Linux 2007, PARAVIRT",
        without: 139_863,
        with: 148_865,
        sites: Some(1463),
        slots: None,
        source: SEED,
    },
    Reference {
        name: "Linux 6.1, PARAVIRT",
        without: 591_311,
        with: 596_046,
        sites: Some(150),
        slots: Some(13),
        source: LINUX,
    },
    Reference {
        name: "Linux 6.1, PARAVIRT_XXL",
        without: 591_311,
        with: 635_800,
        sites: Some(2635),
        slots: Some(82),
        source: LINUX,
    },
];

/// A whole kernel.
pub const WHOLE: [Reference; 1] = [Reference {
    name: "Linux 2007, PARAVIRT",
    without: 5_154_975,
    with: 5_189_197,
    sites: Some(1463),
    slots: None,
    source: SEED,
}];

impl Reference {
    /// Text that the hooks added.
    pub fn growth(&self) -> i64 {
        self.with.cast_signed() - self.without.cast_signed()
    }
}

/// Growth in percent.
pub fn percent(before: u64, after: u64) -> f64 {
    (after as f64 - before as f64) / before as f64 * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentages_are_those_that_were_published() {
        let published =
            [(&ARCHITECTURE[0], 6.4), (&ARCHITECTURE[1], 0.8), (&ARCHITECTURE[2], 7.5), (&WHOLE[0], 0.7)];
        for (reference, expected) in published {
            let found = percent(reference.without, reference.with);
            assert!((found - expected).abs() < 0.05, "{}: {found}", reference.name);
        }
    }
}
