//! The CUDA compiler: where it is, and what it can do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

/// What the search looks at, beside PATH.
pub const VARIABLES: &[&str] = &["NVCC", "CUDA_HOME", "CUDA_PATH", "NVCC_CCBIN", "CXX"];

const OLDEST: (u32, u32) = (12, 0);

/// How kernels are compiled, whatever is made of them.
pub const FLAGS: [&str; 5] = ["-std=c++17", "-O3", "-lineinfo", "-I", "kernels"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// All of it: "13.0.88".
    pub text: String,
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// From what `nvcc --version` prints: "Cuda compilation tools, release 13.0, V13.0.88".
    pub fn parse(printed: &str) -> Option<Self> {
        let (_, rest) = printed.split_once("release ")?;
        let (release, rest) = rest.split_once(',')?;
        let (major, minor) = release.trim().split_once('.')?;
        let text = rest.trim_start().strip_prefix('V').and_then(|v| v.split_whitespace().next());
        Some(Self {
            text: text.unwrap_or(release).to_string(),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Debug)]
pub struct Nvcc {
    pub path: PathBuf,
    pub version: Version,
    /// The host C++ compiler, where one is named; else nvcc takes the g++ of PATH.
    pub host: Option<String>,
}

impl Nvcc {
    /// The first one there is, or why there is none. The outer error is for a mistake in what was set.
    pub fn find() -> Result<Result<Self, String>, String> {
        let named = env::var_os("NVCC").filter(|v| !v.is_empty());
        if let Some(named) = &named
            && !on_path(named).is_some_and(|p| p.is_file())
        {
            return Err(format!("NVCC={}: there is no such program", named.display()));
        }
        let Some(path) = candidates(named).into_iter().find(|p| p.is_file()) else {
            return Ok(Err("no nvcc was found".into()));
        };
        let output = match Command::new(&path).arg("--version").output() {
            Ok(output) => output,
            Err(e) => return Ok(Err(format!("{} cannot be run ({e})", path.display()))),
        };
        let Some(version) = Version::parse(&String::from_utf8_lossy(&output.stdout)) else {
            return Ok(Err(format!("{} --version names no release", path.display())));
        };
        if (version.major, version.minor) < OLDEST {
            let (major, minor) = OLDEST;
            return Ok(Err(format!(
                "{} is of CUDA {version}, and the kernels need {major}.{minor} or newer",
                path.display()
            )));
        }
        let host = host(env::var("NVCC_CCBIN").ok(), env::var("CXX").ok());
        Ok(Ok(Self { path, version, host }))
    }

    /// Drivers learnt to unpack what the smallest mode packs in the course of CUDA 12; every driver that runs code of
    /// CUDA 13 can.
    pub fn compression(&self) -> &'static [&'static str] {
        if self.version.major >= 13 { &["--compress-mode=size"] } else { &[] }
    }
}

fn candidates(named: Option<OsString>) -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(env::var_os).filter(|v| !v.is_empty());
    let mut found: Vec<PathBuf> = named.iter().filter_map(on_path).collect();
    found.extend(homes.map(|home| Path::new(&home).join("bin/nvcc")));
    found.extend(on_path("nvcc"));
    found.push("/usr/local/cuda/bin/nvcc".into());
    let project = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    found.push(project.join(".nvcc/nvidia/cu13/bin/nvcc"));
    found
}

/// A program as a shell finds it: a bare name in the folders of PATH, anything else as it is.
fn on_path(name: impl AsRef<Path>) -> Option<PathBuf> {
    let name = name.as_ref();
    if name.components().count() > 1 {
        return Some(name.to_path_buf());
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|p| p.is_file())
}

/// CXX may be a command with options ("ccache g++"), which nvcc does not take.
pub fn host(nvcc_ccbin: Option<String>, cxx: Option<String>) -> Option<String> {
    let one_word = |v: &String| !v.is_empty() && !v.contains(char::is_whitespace);
    nvcc_ccbin.filter(|v| !v.is_empty()).or(cxx.filter(one_word))
}
