//! Compiles the kernels for the emulated device, with the host's C++ compiler.

use std::path::{Path, PathBuf};

/// `KERASE_SANITIZE=thread|address` builds them for that sanitizer; scripts/sanitize.sh runs the result.
pub fn build() {
    // As it is now, not when this was compiled: clones may share a target directory.
    let folder =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("kernels");
    let sources = super::cuda::files(&folder, "cu").unwrap_or_else(|message| panic!("{message}"));
    println!("cargo::rerun-if-env-changed=KERASE_SANITIZE");
    println!("cargo::rustc-check-cfg=cfg(kerase_sanitized)");
    let sanitizer = std::env::var("KERASE_SANITIZE").unwrap_or_default();
    let define = match sanitizer.as_str() {
        "" => None,
        "thread" => Some("EMULATION_TSAN"),
        "address" => Some("EMULATION_ASAN"),
        other => panic!("KERASE_SANITIZE={other}: expected thread or address"),
    };

    let emulation = folder.join("emulation");
    let mut common = cc::Build::new();
    common.cpp(true).std("c++17").opt_level(2).include(&folder).cargo_warnings(true);
    // A kernel's literals and casts are checked by nvcc; what the host says about them is noise.
    common.flag_if_supported("-Wno-unknown-pragmas");
    if let Some(define) = define {
        println!("cargo::rustc-cfg=kerase_sanitized");
        common.define(define, None).flag("-g");
    }

    // The runtime is never instrumented: it tells the sanitizer itself what is in order.
    common
        .clone()
        .file(emulation.join("runtime.cpp"))
        .file(emulation.join("fiber.cpp"))
        .compile("kerase_emulation");

    let mut compiled = common;
    if define.is_some() {
        compiled.flag(format!("-fsanitize={sanitizer}"));
        if sanitizer == "address" {
            // A GPU loads 8 and 16 bytes at multiples of them. Without its own library, a fault is an illegal instruction.
            compiled.flag("-fsanitize=alignment").flag("-fsanitize-undefined-trap-on-error");
        }
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    for source in &sources {
        // A compiler tells languages apart by a file's ending, and does not know this one.
        let wrapper = out.join(source.file_stem().expect("a .cu file")).with_extension("cpp");
        let text = format!("#include \"{}\"\n", source.display());
        if std::fs::read_to_string(&wrapper).ok().as_deref() != Some(&text) {
            std::fs::write(&wrapper, text).expect("OUT_DIR can be written to");
        }
        compiled.file(wrapper);
    }
    // Kernels enter themselves into a list when the program starts: nothing refers to them by name.
    compiled.link_lib_modifier("+whole-archive").compile("kerase_kernels");
    if define.is_some() {
        link_sanitizer(&compiled, &sanitizer);
    }
}

/// rustc links with -nodefaultlibs, so the sanitizer's library is named by its path.
fn link_sanitizer(build: &cc::Build, sanitizer: &str) {
    let library = if sanitizer == "thread" { "libtsan.so" } else { "libasan.so" };
    let path = build.get_compiler().to_command().arg(format!("-print-file-name={library}")).output();
    let path = path.expect("the compiler ran a moment ago").stdout;
    let path = String::from_utf8(path).expect("a path in UTF-8");
    assert!(Path::new(path.trim()).is_absolute(), "the C++ compiler has no {library}");
    println!("cargo::rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo::rustc-link-arg={}", path.trim());
}
