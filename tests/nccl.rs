//! What kerase says of NCCL, without a GPU: libraries of the test's own, which know their version and little else.

#![cfg(target_os = "linux")]

#[path = "cli_support/mod.rs"]
mod support;

use std::process::Command;

use support::{Folder, kerase_in};

/// Puts a library there that says that it is of this version and has these functions beside.
fn library(folder: &Folder, version: u32, functions: &[&str]) {
    let mut source =
        format!("extern \"C\" int ncclGetVersion(int *version) {{ *version = {version}; return 0; }}\n");
    for function in functions {
        source += &format!("extern \"C\" int {function}() {{ return 0; }}\n");
    }
    std::fs::write(folder.path("nccl.cpp"), source).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut command = Command::new(compiler);
    command.current_dir(folder.path("")).args(["-shared", "-fPIC", "-o", "libnccl.so.2", "nccl.cpp"]);
    assert!(command.status().unwrap().success());
}

fn said(folder: &Folder) -> String {
    let mut command = kerase_in(folder, "info --json");
    command.env("LD_LIBRARY_PATH", folder.path(""));
    let output = command.output().unwrap();
    assert!(output.status.success());
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    info["build"]["nccl"].as_str().unwrap().to_string()
}

#[test]
fn a_missing_an_old_and_another_library_are_told_apart_with_a_remedy() {
    let folder = Folder::new();
    std::fs::write(folder.path("libnccl.so.2"), "no library").unwrap();
    let missing = said(&folder);
    // Unless the system has one of its own.
    if !missing.starts_with(char::is_numeric) {
        assert!(missing.contains("cannot be loaded") && missing.contains("LD_LIBRARY_PATH"), "{missing}");
    }
    library(&folder, 20_304, &[]);
    let old = said(&folder);
    assert!(old.contains("NCCL 2.3.4 is too old, 2.18.0 is needed") && old.contains("nvidia-nccl"), "{old}");
    library(&folder, 22_105, &["ncclCommInitRank"]);
    let broken = said(&folder);
    assert!(broken.contains("ncclAllReduce"), "{broken}");
    let functions = [
        "ncclCommInitRank",
        "ncclAllReduce",
        "ncclCommGetAsyncError",
        "ncclCommAbort",
        "ncclGetErrorString",
        "ncclGetLastError",
        "ncclGetUniqueId",
    ];
    library(&folder, 22_105, &functions);
    assert_eq!(said(&folder), "2.21.5");
}
