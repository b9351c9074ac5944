//! Links the ROM: from address 0, position-independent, by our own linker script.

fn main() {
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's directory");
    // The relocations are kept so that whoever makes the ROM can see that none depends on where it lies.
    for argument in
        [&format!("-T{directory}/link.ld"), "-pie", "-znorelro", "--emit-relocs", "--build-id=none"]
    {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
