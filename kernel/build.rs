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
}
