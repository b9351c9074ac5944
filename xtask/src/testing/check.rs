//! Tests of what the other commands promise, which are not the run of one guest.

use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::images::Item;
use crate::testing::runner::Bench;
use crate::testing::{elsewhere, twice};
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};

/// A test that is a piece of code.
pub struct Check {
    /// Its name, as a case has one
    pub name: &'static str,
    /// The image that it is about
    pub item: Item,
    /// Runs it in a directory of its own; gives a figure for people
    pub run: fn(&Bench, &Self, &Path) -> Result<String>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The product, and the smallest image for the same machine.
const NATIVE: Variant =
    Variant { backend: Backend::Native, dispatch: Dispatch::Static, profile: Profile::Release };

/// All of them.
pub static CHECKS: [Check; 2] = [
    Check {
        name: "build/elsewhere",
        item: Item::Image(Product::Monoguest, NATIVE),
        run: elsewhere::the_same_image_is_built,
    },
    Check {
        name: "bench/hooks-twice",
        item: Item::Image(Product::Conformance, NATIVE),
        run: twice::the_same_figures_are_measured,
    },
];
