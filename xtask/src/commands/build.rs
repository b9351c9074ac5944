//! `cargo xtask build`: one image.

use anyhow::Result;

use crate::images;
use crate::lguest;
use crate::report::say;
use crate::variant::{Backend, Variant};
use crate::workspace::Workspace;

/// Builds an image; its path is the last line on standard output
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    variant: Variant,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let image = images::image(&workspace, args.variant)?;
    if args.variant.backend == Backend::Lguest {
        say!(
            "this image runs below {} alone, which `cargo xtask boot --features lguest` starts with it; QEMU by itself finds \
             no PVH note in it, for nothing in it may be privileged",
            lguest::hypervisor_path(&workspace).display()
        );
    }
    println!("{}", image.display());
    Ok(0)
}
