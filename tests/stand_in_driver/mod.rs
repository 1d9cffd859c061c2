//! A driver library that the tests bring along: see device.h.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kerase::cuda::driver::fatbins::{CUDA_BUILD, CudaBuild};

use crate::support::{Ended, Folder};

#[allow(dead_code)]
#[path = "../../build/nvcc.rs"]
mod nvcc;

/// The folder with libcuda.so.1 and libnccl.so.2; `None` where this build has no kernels for GPUs, which no driver could
/// run.
pub fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match CUDA_BUILD {
        CudaBuild::Absent { reason } => {
            eprintln!("not tested: this build has no kernels for GPUs ({reason})");
            None
        }
        CudaBuild::Compiled { .. } => Some(build()),
    });
    built.as_deref()
}

fn build() -> PathBuf {
    let nvcc = nvcc::Nvcc::find().unwrap().expect("what compiled the kernels is still there");
    let toolkit = nvcc.path.canonicalize().unwrap().parent().unwrap().parent().unwrap().to_path_buf();
    let mut includes =
        ["include", "targets/x86_64-linux/include"].map(|folder| toolkit.join(folder)).into_iter();
    let include = includes.find(|folder| folder.join("cuda.h").is_file());
    let include = include.unwrap_or_else(|| panic!("no cuda.h in {}", toolkit.display()));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in");
    std::fs::create_dir_all(&folder).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in_driver");
    let compile = |library: &str, sources: &[&str], links: &[String]| {
        let named = std::env::var("CXX").unwrap_or_default();
        let mut words = named.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("c++"));
        command.args(words).args(["-std=c++17", "-O2", "-g", "-fPIC", "-shared", "-pthread"]);
        command.arg("-I").arg(&include).args(sources.iter().map(|source| here.join(source)));
        command.args(links).arg("-o").arg(folder.join(library));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    };
    // The kernels as this build compiled them for the emulated device, all of them: they enter themselves into a list.
    let archive = |name: &str| format!("{}/lib{name}.a", env!("OUT_DIR"));
    let whole = format!("-Wl,--whole-archive,{},--no-whole-archive", archive("kerase_kernels"));
    let links = [whole, archive("kerase_emulation"), "-Wl,-Bsymbolic,--no-undefined".into()];
    compile("libcuda.so.1", &["api.cpp", "streams.cpp", "captures.cpp"], &links);
    let links = [format!("-L{}", folder.display()), "-l:libcuda.so.1".into()];
    compile("libnccl.so.2", &["nccl.cpp"], &links);
    folder
}

/// Runs `kerase` with the stand-in and these variables.
pub fn kerase(folder: &Folder, library: &Path, variables: &str, line: &str) -> Ended {
    folder.shell(&format!(
        "LD_LIBRARY_PATH={} STAND_IN_REPORT=report {variables} \"$KERASE\" {line}",
        library.display()
    ))
}

/// What the stand-in counted in the last run.
pub fn report(folder: &Folder) -> HashMap<String, u64> {
    let text = String::from_utf8(folder.read("report")).unwrap();
    let counts = text.lines().map(|line| line.split_once(": ").expect("a name and a number"));
    counts.map(|(name, number)| (name.to_string(), number.parse().unwrap())).collect()
}
