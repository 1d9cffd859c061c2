//! Whether the emulated device finds a barrier that is missing: copies of the kernels with one `__syncthreads` taken
//! out give other results under one of the schedules, and ThreadSanitizer names the lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rayon::prelude::*;

const BARRIER: &str = "__syncthreads();";

/// A piece of code with barriers of its own, in a kernel that tests/removed_barrier/run.cpp runs.
struct Piece {
    kernel: &'static str,
    /// What is compiled, and from where on that is replaced: kernels that nobody runs here take minutes.
    compiled: &'static str,
    only: Option<[&'static str; 2]>,
    /// Where the barriers stand, behind what.
    file: &'static str,
    behind: &'static str,
    /// Of each barrier, one of the lines that it keeps apart: shared memory is written there. Or, where it holds
    /// indices, read: a NaN as an index ends the run.
    apart: &'static [&'static str],
    /// Those whose absence no schedule shows, since warps with the same work go in step there.
    in_step: &'static [usize],
}

const DEEP: Option<[&str; 2]> =
    Some(["CONV3X3_FORMAT(tf32", "CONV3X3_MMA(tf32_deep_by2, Tf32, Deep, 2, 4, 4)\n"]);
const BY_8: Option<[&str; 2]> =
    Some(["CONV3X3_WEIGHTS_FORMAT(tf32", "CONV3X3_WEIGHTS_MMA(tf32_8x8, Tf32, 3, 1, 1, 1)\n"]);
const TRANSPOSE_FORWARD: Option<[&str; 2]> =
    Some(["CONV_TRANSPOSE_FORMAT(tf32", "CONV_TRANSPOSE_MMA(tf32_wide_by3, Tf32, 3, 1)\n"]);
const TRANSPOSE_INPUTS: Option<[&str; 2]> =
    Some(["CONV_TRANSPOSE_FORMAT(tf32", "CONV_TRANSPOSE_INPUTS_MMA(tf32_deep_by4, Tf32, 4, 2, 4)\n"]);
const TRANSPOSE_WEIGHT: Option<[&str; 2]> =
    Some(["CONV_TRANSPOSE_FORMAT(tf32", "CONV_TRANSPOSE_WEIGHT_MMA(tf32, Tf32)\n"]);

const PIECES: [Piece; 9] = [
    Piece {
        kernel: "add_parts",
        compiled: "partial.cu",
        only: None,
        file: "partial.cu",
        behind: "add_neighbours(",
        apart: &["sums["],
        in_step: &[],
    },
    Piece {
        kernel: "ssim_windows",
        compiled: "loss.cu",
        only: None,
        file: "loss.cu",
        behind: "ssim_windows(",
        apart: &["[row][column]"; 2],
        in_step: &[],
    },
    Piece {
        kernel: "conv3x3_tf32_deep_by2",
        compiled: "conv_mma_tf32.cu",
        only: DEEP,
        file: "conv_mma.cuh",
        behind: " correlate_mma(",
        apart: &["mine.load(source", "put_words(window", "shared[at(warp,", "shared[at(warp,"],
        in_step: &[],
    },
    Piece {
        kernel: "conv3x3_tf32_deep_by2",
        compiled: "conv_mma_tf32.cu",
        only: DEEP,
        file: "conv_mma_store.cuh",
        behind: "struct MmaStoreOutput",
        apart: &["of_warp[of_group] ="],
        in_step: &[],
    },
    Piece {
        kernel: "conv3x3_weights_tf32_8x8",
        compiled: "conv_mma_weights_tf32.cu",
        only: BY_8,
        file: "conv_mma_weights.cuh",
        behind: " sum_over_pixels(",
        apart: &[
            "mine.load(source",
            "plane[at / SIDE * PITCH + at % SIDE] =",
            "handed(warp * 2 + i % 2, p, j) =",
            "handed(warp * 2 + i % 2, p, j) =",
            "handed(warp, p, j) =",
            "handed(warp, p, j) =",
            "handed(MMA_WARPS + i, p, j) =",
        ],
        in_step: &[2],
    },
    Piece {
        kernel: "conv_transpose_inputs_tf32_deep_by4",
        compiled: "conv_transpose_mma_tf32.cu",
        only: TRANSPOSE_INPUTS,
        file: "conv_transpose_mma_pixels.cuh",
        behind: " multiply_pixels(",
        apart: &["memory[at] =", "memory[at] =", "shared[at(warp, i)] =", "shared[at(warp, i)] ="],
        // Every slice but the last has as many steps for each warp.
        in_step: &[0],
    },
    Piece {
        kernel: "conv_transpose_inputs_tf32_deep_by4",
        compiled: "conv_transpose_mma_tf32.cu",
        only: TRANSPOSE_INPUTS,
        file: "conv_transpose_mma_inputs.cuh",
        behind: " conv_transpose_inputs_mma(",
        apart: &["sums[of_block] ="],
        in_step: &[],
    },
    Piece {
        kernel: "conv_transpose_tf32_wide_by3",
        compiled: "conv_transpose_mma_tf32.cu",
        only: TRANSPOSE_FORWARD,
        file: "conv_transpose_mma_forward.cuh",
        behind: " conv_transpose_mma(",
        apart: &["moments[of_block] ="],
        in_step: &[],
    },
    Piece {
        kernel: "conv_transpose_weight_tf32",
        compiled: "conv_transpose_mma_tf32.cu",
        only: TRANSPOSE_WEIGHT,
        file: "conv_transpose_mma_weights.cuh",
        behind: " conv_transpose_weight_mma(",
        apart: &["to = make_float4("; 2],
        in_step: &[],
    },
];

/// What runs a kernel, in a folder of its own.
struct Bench {
    folder: tempfile::TempDir,
    flags: &'static [&'static str],
    defines: &'static [&'static str],
    /// What is the same for all kernels.
    objects: Vec<PathBuf>,
}

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

impl Bench {
    /// The kernels alone are compiled with `flags`.
    fn new(flags: &'static [&'static str], defines: &'static [&'static str]) -> Self {
        let mut bench = Self { folder: tempfile::tempdir().unwrap(), flags, defines, objects: Vec::new() };
        let emulation = kernels().join("emulation");
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/removed_barrier/run.cpp");
        let sources = [emulation.join("runtime.cpp"), emulation.join("fiber.cpp"), run];
        bench.objects = sources.par_iter().map(|of| bench.compile(of, bench.folder.path(), &[])).collect();
        bench
    }

    fn compile(&self, source: &Path, folder: &Path, flags: &[&str]) -> PathBuf {
        let object = folder.join(source.with_extension("o").file_name().unwrap());
        let mut compile = compiler();
        compile.args(["-std=c++17", "-O1", "-g", "-c", "-Wno-unknown-pragmas", "-x", "c++"]);
        succeed(compile.args(flags).args(self.defines).arg(source).arg("-o").arg(&object));
        object
    }

    /// Runs the piece's kernel without the `removed`-th of its barriers, if any.
    fn run(&self, piece: &Piece, removed: Option<usize>) -> Output {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        copy_folder(&kernels(), folder.path());
        if let Some([from, instead]) = piece.only {
            edit(&folder.path().join(piece.compiled), |text| {
                text.truncate(text.find(from).expect("it says so"));
                *text += instead;
            });
        }
        if let Some(removed) = removed {
            edit(&folder.path().join(piece.file), |text| {
                let begin = text.find(piece.behind).expect("the barriers are in this file");
                let (at, _) = text[begin..].match_indices(BARRIER).nth(removed).expect("it has that barrier");
                text.replace_range(begin + at..begin + at + BARRIER.len(), "");
            });
        }
        let kernel = self.compile(&folder.path().join(piece.compiled), folder.path(), self.flags);
        let program = folder.path().join("run");
        succeed(compiler().args(self.flags).args(&self.objects).arg(kernel).arg("-o").arg(&program));
        Command::new(program)
            .arg(piece.kernel)
            // As in scripts/sanitize.sh: what the emulation itself allocates and copies is no finding.
            .env("TSAN_OPTIONS", "ignore_interceptors_accesses=1 exitcode=66")
            .output()
            .expect("what was just compiled runs")
    }

    /// The results of each schedule; none where the run crashed.
    fn results(&self, piece: &Piece, removed: Option<usize>) -> Vec<String> {
        let output = self.run(piece, removed);
        if !output.status.success() {
            return Vec::new();
        }
        let printed = String::from_utf8(output.stdout).unwrap();
        let results = |line: &str| line.split_once(' ').expect("a name, then results").1.to_string();
        printed.lines().map(results).collect()
    }
}

fn edit(file: &Path, change: impl FnOnce(&mut String)) {
    let mut text = fs::read_to_string(file).unwrap();
    change(&mut text);
    fs::write(file, text).unwrap();
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
    let bench = Bench::new(&[], &[]);
    PIECES.par_iter().for_each(|piece| {
        let Piece { kernel, file, apart, in_step, .. } = piece;
        let intact = bench.results(piece, None);
        assert!(intact.len() > 2 && !intact[0].contains("nan"), "{kernel}: {intact:?}");
        assert!(intact.iter().all(|results| *results == intact[0]), "{kernel}: {intact:?}");
        let same = |&barrier: &usize| bench.results(piece, Some(barrier)) == intact;
        let unseen: Vec<usize> = (0..apart.len()).into_par_iter().filter(same).collect();
        assert_eq!(unseen, *in_step, "{kernel} gives the same without these barriers of {file}");
    });
}

/// scripts/sanitize.sh runs this.
#[test]
#[ignore = "needs a C++ compiler with ThreadSanitizer"]
fn thread_sanitizer_names_the_line() {
    let bench = Bench::new(&["-fsanitize=thread"], &["-DEMULATION_TSAN"]);
    PIECES.par_iter().for_each(|piece| {
        let Piece { kernel, file, apart, .. } = piece;
        let intact = bench.run(piece, None);
        let said = String::from_utf8_lossy(&intact.stderr);
        assert!(intact.status.success(), "{kernel} as it is:\n{said}");
        let text = fs::read_to_string(kernels().join(file)).unwrap();
        apart.par_iter().enumerate().for_each(|(barrier, apart)| {
            let removed = bench.run(piece, Some(barrier));
            let said = String::from_utf8_lossy(&removed.stderr);
            assert!(
                !removed.status.success(),
                "{kernel} without barrier {barrier} of {file}: nothing was found"
            );
            // A barrier goes without its line, so lines keep their numbers.
            let is_named = |line: usize| said.contains(&format!("{file}:{line}"));
            let mut lines = text.lines().enumerate().filter(|(_, line)| line.contains(apart));
            assert!(
                lines.any(|(i, _)| is_named(i + 1)),
                "{kernel} without barrier {barrier} of {file}:\n{said}"
            );
        });
    });
}
