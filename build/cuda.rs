//! kernels/*.cu to fatbins, one a file, where there is an nvcc; and fatbins.rs, which takes them into kerase.
//!
//! `KERASE_CUDA` is `auto` (without nvcc: a warning, and a build without GPU kernels), `require` (without nvcc: an
//! error) or `off`. `CUDA_COMPUTE_CAP` names other architectures than the usual ones. `KERASE_TRIGGER=off` makes kernels that
//! never let the launch after them begin early, to be measured beside those that do. The search for nvcc and for its
//! host compiler is in nvcc.rs.

pub mod architectures;
pub mod nvcc;

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use architectures::Architectures;
use nvcc::{Nvcc, Version};

/// Whether there may be a build without GPU kernels, or must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Auto,
    Require,
    Off,
}

impl Wish {
    pub fn parse(value: Option<&str>) -> Result<Self, String> {
        match value {
            None | Some("" | "auto") => Ok(Self::Auto),
            Some("require") => Ok(Self::Require),
            Some("off") => Ok(Self::Off),
            Some(other) => Err(format!("KERASE_CUDA={other}: expected auto, require or off")),
        }
    }
}

/// Called by the build script. Ends the process where the build must fail.
pub fn build() {
    for variable in ["KERASE_CUDA", "CUDA_COMPUTE_CAP", "KERASE_TRIGGER"].iter().chain(nvcc::VARIABLES) {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=kernels");
    if let Err(message) = try_build() {
        eprintln!("{message}");
        exit(1);
    }
}

fn try_build() -> Result<(), String> {
    let wish = Wish::parse(env::var("KERASE_CUDA").ok().as_deref())?;
    let architectures = Architectures::parse(env::var("CUDA_COMPUTE_CAP").ok().as_deref())?;
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names OUT_DIR"));
    let kernels = files("kernels", "cu")?;

    if wish == Wish::Off {
        return write_absent(&out, "KERASE_CUDA=off was set");
    }
    if kernels.is_empty() {
        return write_absent(&out, "this version has no kernels");
    }
    match Nvcc::find()? {
        Ok(nvcc) => {
            println!("cargo:rerun-if-changed={}", nvcc.path.display());
            compile_all(&nvcc, &architectures, &kernels, &out)?;
            write(&out, &compiled(&nvcc, &architectures, &kernels))
        }
        Err(why) => {
            println!("cargo:rerun-if-env-changed=PATH");
            let remedy = "scripts/install-nvcc.sh installs one for this project, and a CUDA toolkit's is found by \
                          NVCC, CUDA_HOME or PATH";
            if wish == Wish::Require {
                return Err(format!("KERASE_CUDA=require, but {why}: {remedy}"));
            }
            println!("cargo:warning=kerase is built without GPU kernels: {why}. {remedy}.");
            write_absent(&out, &why)
        }
    }
}

/// The files of a folder with this ending, in order.
pub fn files(folder: impl AsRef<Path>, ending: &str) -> Result<Vec<PathBuf>, String> {
    let folder = folder.as_ref();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot read {}: {e}", folder.display()))?.path();
        if path.is_file() && path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether kernels are not to let the launch after them begin early: it then takes its places as theirs become free.
fn without_trigger() -> bool {
    env::var("KERASE_TRIGGER").is_ok_and(|value| value == "off")
}

fn stem(kernel: &Path) -> String {
    kernel.file_stem().expect("a file that ends in .cu has a stem").to_string_lossy().into_owned()
}

/// Compiles what has changed, on all cores.
fn compile_all(
    nvcc: &Nvcc,
    architectures: &Architectures,
    kernels: &[PathBuf],
    out: &Path,
) -> Result<(), String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let headers = digest(&files("kernels", "cuh")?)?;
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cores.min(kernels.len()) {
            scope.spawn(|| {
                while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // With fewer files than cores, a file's architectures are compiled side by side.
                    let threads = (cores / kernels.len()).max(1);
                    if let Err(message) = compile(nvcc, architectures, kernel, out, headers, threads) {
                        failures.lock().expect("nothing panics while it holds this").push(message);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nothing panics while it holds this");
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn compile(
    nvcc: &Nvcc,
    architectures: &Architectures,
    kernel: &Path,
    out: &Path,
    headers: u64,
    threads: usize,
) -> Result<(), String> {
    let fatbin = out.join(stem(kernel)).with_extension("fatbin");
    let mut arguments: Vec<String> =
        [&["-fatbin"], nvcc::FLAGS.as_slice()].concat().into_iter().map(String::from).collect();
    arguments.extend(nvcc.compression().iter().map(ToString::to_string));
    arguments.extend(architectures.arguments());
    arguments.extend(without_trigger().then(|| "-DKERASE_NO_TRIGGER".to_string()));
    if let Some(host) = &nvcc.host {
        arguments.extend(["-ccbin".into(), host.clone()]);
    }

    let mut hasher = DefaultHasher::new();
    (&nvcc.path, &nvcc.version.text, &arguments, headers, digest(&[kernel.to_path_buf()])?).hash(&mut hasher);
    let wanted = format!("{:016x}", hasher.finish());
    let made_from = fatbin.with_extension("made-from");
    if fatbin.exists() && fs::read_to_string(&made_from).is_ok_and(|found| found == wanted) {
        return Ok(());
    }

    let output = Command::new(&nvcc.path)
        .args(&arguments)
        .args(["--threads", &threads.to_string(), "-o"])
        .arg(&fatbin)
        .arg(kernel)
        .output()
        .map_err(|e| format!("cannot run {}: {e}", nvcc.path.display()))?;
    // nvcc writes some errors to standard output, and those of the host compiler to standard error.
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if !output.status.success() {
        return Err(format!("nvcc cannot compile {}:\n{}", kernel.display(), said.trim_end()));
    }
    eprint!("{said}");
    fs::write(&made_from, wanted).map_err(|e| format!("cannot write {}: {e}", made_from.display()))
}

/// Of names and contents.
fn digest(paths: &[PathBuf]) -> Result<u64, String> {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.hash(&mut hasher);
        fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn compiled(nvcc: &Nvcc, architectures: &Architectures, kernels: &[PathBuf]) -> String {
    let mut text = String::from("pub const FATBINS: &[(&str, &[u8])] = &[\n");
    for kernel in kernels {
        let stem = stem(kernel);
        // The driver reads the header in words.
        writeln!(
            text,
            "    ({stem:?}, {{\n        const ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!(\"OUT_DIR\"), \
             \"/{stem}.fatbin\")));\n        &ALIGNED.0\n    }}),"
        )
        .expect("a String takes everything");
    }
    let Version { text: version, major, minor } = &nvcc.version;
    let release = if without_trigger() { format!("{version}, KERASE_TRIGGER=off") } else { version.clone() };
    let names = architectures.names();
    write!(
        text,
        "];\npub const CUDA_BUILD: CudaBuild = CudaBuild::Compiled {{\n    nvcc: {release:?},\n    version: \
         ({major}, {minor}),\n    architectures: &{names:?},\n}};\n"
    )
    .expect("a String takes everything");
    text
}

fn write_absent(out: &Path, reason: &str) -> Result<(), String> {
    write(
        out,
        &format!(
            "pub const FATBINS: &[(&str, &[u8])] = &[];\npub const CUDA_BUILD: CudaBuild = CudaBuild::Absent {{ \
             reason: {reason:?} }};\n"
        ),
    )
}

fn write(out: &Path, text: &str) -> Result<(), String> {
    let path = out.join("fatbins.rs");
    fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
