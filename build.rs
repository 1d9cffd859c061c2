//! Compiles the kernels: for GPUs where there is an nvcc, and for the emulated device.

#[path = "build/emulation.rs"]
mod emulation;

use std::path::{Path, PathBuf};

/// The kernels' sources.
pub struct Kernels {
    pub folder: PathBuf,
    /// The `.cu` files, sorted.
    pub sources: Vec<PathBuf>,
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    println!("cargo::rerun-if-changed={}", folder.display());
    let files = std::fs::read_dir(&folder).expect("kernels/ is beside Cargo.toml");
    let mut sources: Vec<PathBuf> = files.map(|file| file.expect("kernels/ can be read").path()).collect();
    sources.retain(|path| path.extension().is_some_and(|ending| ending == "cu"));
    sources.sort();
    let kernels = Kernels { folder, sources };
    emulation::build(&kernels);
}
