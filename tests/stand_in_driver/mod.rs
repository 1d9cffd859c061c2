//! A driver library that the tests bring along: see device.h.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rayon::prelude::*;

use kerase::cuda::driver::fatbins::{CUDA_BUILD, CudaBuild};

use crate::support::{Ended, Folder};

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
    // Another test program may be using what is there.
    let own = |library: &str| folder.join(format!("{library}.{}", std::process::id()));
    let compile = |library: &str, sources: &[&str], links: &[String]| {
        let named = std::env::var("CXX").unwrap_or_default();
        let mut words = named.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("c++"));
        command.args(words).args([
            "-std=c++17",
            "-O3",
            "-g",
            "-march=native",
            "-ffp-contract=off",
            "-fPIC",
            "-shared",
            "-pthread",
        ]);
        command.arg("-I").arg(&include).args(sources.iter().map(|source| here.join(source)));
        command.args(links).arg(format!("-Wl,-soname,{library}")).arg("-o").arg(own(library));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(own(library), folder.join(library)).unwrap();
    };
    // The kernels as this build compiled them for the emulated device, all of them: they enter themselves into a list.
    let archive = |name: &str| format!("{}/lib{name}.a", env!("OUT_DIR"));
    let whole = format!("-Wl,--whole-archive,{},--no-whole-archive", archive("kerase_kernels"));
    let links = [whole, archive("kerase_emulation"), "-Wl,-Bsymbolic,--no-undefined".into()];
    let sources = ["api.cpp", "kernels.cpp", "counts.cpp", "streams.cpp", "captures.cpp"];
    let machine =
        ["ptx/tokens.cpp", "ptx/parse.cpp", "ptx/operations.cpp", "ptx/memory.cpp", "ptx/machine.cpp"];
    compile("libcuda.so.1", &[sources.as_slice(), &machine].concat(), &links);
    // The name that is looked for first, of the same file: as another it would be loaded twice.
    let _ = std::fs::remove_file(folder.join("libcuda.so"));
    std::os::unix::fs::symlink("libcuda.so.1", folder.join("libcuda.so")).unwrap();
    let links = [format!("-L{}", folder.display()), "-l:libcuda.so.1".into()];
    compile("libnccl.so.2", &["nccl.cpp"], &links);
    folder
}

/// The folder with the PTX that nvcc makes of each file of kernels/, for compute capability 9.0.
pub fn ptx() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let nvcc = nvcc::Nvcc::find().unwrap().expect("what compiled the kernels is still there");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ptx");
        let texts = |extension: &str| -> BTreeMap<PathBuf, String> {
            let files = std::fs::read_dir(root.join("kernels")).unwrap().map(|file| file.unwrap().path());
            let wanted = files.filter(|file| file.extension().is_some_and(|other| other == extension));
            wanted.map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
        };
        let arguments = [&["-ptx", "-arch=compute_90a"], nvcc::FLAGS.as_slice()].concat();
        let sources = texts("cu");
        let made_from = format!("{:?}", (&nvcc.path, &nvcc.version.text, &arguments, texts("cuh"), &sources));
        let mark = folder.join("made-from");
        if std::fs::read_to_string(&mark).is_ok_and(|before| before == made_from) {
            return folder;
        }
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        sources.into_par_iter().for_each(|(source, _)| {
            let made = folder.join(source.file_stem().unwrap()).with_extension("ptx");
            let mut command = Command::new(&nvcc.path);
            command.current_dir(root).args(&arguments);
            command.args(nvcc.host.iter().flat_map(|host| ["-ccbin", host]));
            let output = command.arg(&source).arg("-o").arg(&made).output().unwrap();
            assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
        });
        std::fs::write(mark, made_from).unwrap();
        folder
    })
}

/// The greatest compute capability (times ten) of what this build has kernels for.
pub fn capability() -> u32 {
    let CudaBuild::Compiled { architectures, .. } = CUDA_BUILD else { return 0 };
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    architectures.iter().map(|name| digits(name)).max().unwrap()
}

/// What a process needs in its environment to find the stand-in.
pub fn environment(library: &Path) -> [(&'static str, String); 2] {
    let others = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    [
        ("LD_LIBRARY_PATH", format!("{}:{others}", library.display())),
        ("STAND_IN_CAPABILITY", capability().to_string()),
    ]
}

/// Runs `kerase` with the stand-in and these variables.
pub fn kerase(folder: &Folder, library: &Path, variables: &str, line: &str) -> Ended {
    let found = environment(library).map(|(name, value)| format!("{name}='{value}'")).join(" ");
    folder.shell(&format!(
        "unset KERASE_OVERLAP KERASE_SYNC KERASE_CARVEOUT; {found} STAND_IN_REPORT=report {variables} \"$KERASE\" {line}"
    ))
}

/// What the stand-in counted; nothing may be left.
#[track_caller]
pub fn report(folder: &Folder, name: &str) -> HashMap<String, u64> {
    let text = String::from_utf8(folder.read(name)).unwrap();
    let counts = text.lines().map(|line| line.split_once(": ").expect("a name and a number"));
    let counts: HashMap<String, u64> =
        counts.map(|(name, number)| (name.to_string(), number.parse().unwrap())).collect();
    let left: Vec<_> = counts.iter().filter(|(name, n)| name.starts_with("left ") && **n > 0).collect();
    assert!(left.is_empty() && counts.contains_key("left contexts"), "{counts:?}");
    counts
}
