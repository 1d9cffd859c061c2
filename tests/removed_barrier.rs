//! Whether the emulated device finds a barrier that is missing: copies of the kernels with one `__syncthreads` taken
//! out give other results under one of the schedules, and ThreadSanitizer names the lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BARRIER: &str = "__syncthreads();";

/// A kernel, its file, the barriers it has of its own there, and one of the lines that they keep apart: shared memory
/// is written there.
const KERNELS: [(&str, &str, usize, &str); 2] =
    [("add_parts", "partial.cu", 1, "sums["), ("ssim_windows", "loss.cu", 2, "[row][column]")];

/// The kernels and what runs them, in a folder of their own.
struct Copy {
    folder: tempfile::TempDir,
    kernel: &'static str,
    source: PathBuf,
}

impl Copy {
    /// Without the `removed`-th barrier after the kernel's name, if any.
    fn new(kernel: &'static str, file: &str, removed: Option<usize>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        copy_folder(&kernels, folder.path());
        let source = folder.path().join(file);
        let mut text = fs::read_to_string(&source).unwrap();
        if let Some(removed) = removed {
            let begin = text.find(&format!("{kernel}(")).expect("the kernel is in this file");
            let (at, _) = text[begin..].match_indices(BARRIER).nth(removed).expect("it has that barrier");
            text.replace_range(begin + at..begin + at + BARRIER.len(), "");
            fs::write(&source, text).unwrap();
        }
        Self { folder, kernel, source }
    }

    /// Compiles everything, the kernels alone with `flags`, and runs it.
    fn run(&self, flags: &[&str], defines: &[&str]) -> Output {
        let emulation = self.folder.path().join("emulation");
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/removed_barrier/run.cpp");
        let apart = [emulation.join("runtime.cpp"), emulation.join("fiber.cpp"), here];
        let mut objects = Vec::new();
        for (source, flags) in apart.iter().map(|source| (source, &[][..])).chain([(&self.source, flags)]) {
            let object = self.folder.path().join(source.with_extension("o").file_name().unwrap());
            let mut compile = compiler();
            compile.args(["-std=c++17", "-O1", "-g", "-c", "-Wno-unknown-pragmas", "-x", "c++"]);
            compile.args(flags).args(defines).arg(source).arg("-o").arg(&object);
            succeed(&mut compile);
            objects.push(object);
        }
        let program = self.folder.path().join("run");
        succeed(compiler().args(flags).args(objects).arg("-o").arg(&program));
        Command::new(program)
            .arg(self.kernel)
            // As in scripts/sanitize.sh: what the emulation itself allocates and copies is no finding.
            .env("TSAN_OPTIONS", "ignore_interceptors_accesses=1 exitcode=66")
            .output()
            .expect("what was just compiled runs")
    }

    /// The results of each schedule.
    fn results(&self) -> Vec<String> {
        let output = self.run(&[], &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        let results = |line: &str| line.split_once(' ').expect("a name, then results").1.to_string();
        printed.lines().map(results).collect()
    }

    fn under_thread_sanitizer(&self) -> (bool, String) {
        let output = self.run(&["-fsanitize=thread"], &["-DEMULATION_TSAN"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// CXX may be a command with options.
fn compiler() -> Command {
    let named = std::env::var("CXX").unwrap_or_default();
    let mut words = named.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("c++"));
    command.args(words);
    command
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn schedules_show_it() {
    for (kernel, file, barriers, _) in KERNELS {
        let intact = Copy::new(kernel, file, None).results();
        assert!(intact.len() > 2 && !intact[0].contains("nan"), "{kernel}: {intact:?}");
        assert!(intact.iter().all(|results| *results == intact[0]), "{kernel}: {intact:?}");
        for barrier in 0..barriers {
            let removed = Copy::new(kernel, file, Some(barrier)).results();
            assert_eq!(removed.len(), intact.len());
            assert!(removed != intact, "{kernel} gives the same without barrier {barrier}");
        }
    }
}

/// scripts/sanitize.sh runs this.
#[test]
#[ignore = "needs a C++ compiler with ThreadSanitizer"]
fn thread_sanitizer_names_the_line() {
    for (kernel, file, barriers, written) in KERNELS {
        let (clean, said) = Copy::new(kernel, file, None).under_thread_sanitizer();
        assert!(clean, "{kernel} as it is:\n{said}");
        for barrier in 0..barriers {
            let copy = Copy::new(kernel, file, Some(barrier));
            let (clean, said) = copy.under_thread_sanitizer();
            assert!(!clean, "{kernel} without barrier {barrier}: nothing was found");
            let text = fs::read_to_string(&copy.source).unwrap();
            let is_named = |line: usize| said.contains(&format!("{file}:{line}"));
            let mut lines = text.lines().enumerate().filter(|(_, line)| line.contains(written));
            assert!(lines.any(|(i, _)| is_named(i + 1)), "{kernel} without barrier {barrier}:\n{said}");
        }
    }
}
