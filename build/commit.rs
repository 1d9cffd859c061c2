//! The commit that kerase is built from, for records that say what measured them: `KERASE_COMMIT`.
//!
//! Set in the environment it is taken as it is, for builds from an archive. Otherwise git says it, with "+" after it where
//! a file of the build has changed since. Where neither knows, it is not set.

use std::process::Command;

pub fn build() {
    println!("cargo::rerun-if-env-changed=KERASE_COMMIT");
    if std::env::var("KERASE_COMMIT").is_ok_and(|given| !given.is_empty()) {
        // rustc sees it too. Then nothing in src makes this script run again, which compiles kernels.
        return;
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    // An archive unpacked within another project's checkout is none of its commits.
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("") {
        return;
    }
    // A line is added to it by all that changes what HEAD is.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    let inputs = ["src", "kernels", "build", "build.rs", "Cargo.toml", "Cargo.lock"];
    let changed = git(&[&["status", "--porcelain", "--"], inputs.as_slice()].concat());
    let mark = if changed.is_some_and(|files| files.is_empty()) { "" } else { "+" };
    println!("cargo::rustc-env=KERASE_COMMIT={commit}{mark}");
}

/// What it prints, unless it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_string())
}
