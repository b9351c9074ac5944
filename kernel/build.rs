//! Links the kernel image: a fixed address, our own linker script.

fn main() {
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's directory");
    // The target makes position-independent executables by default; the image has one fixed place.
    for argument in
        [&format!("-T{directory}/link.ld"), "-no-pie", "-znorelro", "-zmax-page-size=4096", "--build-id=none"]
    {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    // Of functions that are the same instruction by instruction one is enough; nothing compares their addresses. GNU ld
    // cannot do it. Cargo names a linker only where it is not the target's own, which is rust-lld.
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    if std::env::var("RUSTC_LINKER").map_or(true, |linker| linker.contains("lld")) {
        println!("cargo::rustc-link-arg-bins=--icf=all");
    }
}
