//! What nvcc makes of the kernels, run instruction by instruction: tests/stand_in_driver/ptx takes its PTX where a GPU would
//! take machine code. The emulated device knows only what the host's compiler makes of the same source, with words of its own
//! for tensor cores and copies.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

#[path = "stand_in_driver/mod.rs"]
mod stand_in_driver;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use run_support::{NETWORK_OPTIONS, SAMPLING, Sets};
use stand_in_driver::{kerase, library, ptx};
use support::{Ended, Folder};

fn run(folder: &Folder, library: &Path, ptx: &Path, variables: &str, line: &str) -> Ended {
    kerase(folder, library, &format!("STAND_IN_PTX='{}' {variables}", ptx.display()), line)
}

/// In each precision all cases; and no kernel is left out.
#[test]
fn every_kernel_agrees_with_the_reference() {
    let Some(library) = library() else { return };
    let ptx = ptx();
    let folder = Folder::new();
    let mut launched = BTreeSet::new();
    for precision in ["fp32", "tf32", "bf16"] {
        let line = format!("validate --device cuda --precision {precision}");
        run(&folder, library, ptx, "STAND_IN_COUNTS=counts", &line).succeeded();
        for line in String::from_utf8(folder.read("counts")).unwrap().lines() {
            let counted: serde_json::Value = serde_json::from_str(line).unwrap();
            launched.insert(counted["kernel"].as_str().unwrap().to_string());
        }
    }
    let mut kernels = BTreeSet::new();
    for file in fs::read_dir(ptx).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "ptx") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        kernels.extend(text.lines().filter_map(entry).map(str::to_string));
    }
    assert!(kernels.len() > 100, "{kernels:?}");
    assert_eq!(kernels.difference(&launched).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The kernel that a line of PTX begins.
fn entry(line: &str) -> Option<&str> {
    line.strip_prefix(".visible .entry ")?.strip_suffix('(')
}

/// Kernels compiled by nvcc fuse products with sums, which the host's do not: bits differ, and the loss hardly.
#[test]
fn a_training_goes_as_on_the_emulated_device_and_has_the_same_bits_twice() {
    let Some(library) = library() else { return };
    let ptx = ptx();
    let folder = Folder::new();
    folder.sets();
    for precision in ["tf32", "bf16"] {
        let line = |out: &str, device: &str| {
            format!(
                "train --data brain --out {out}-{precision} {NETWORK_OPTIONS} {SAMPLING} --max-steps 3 --device {device} \
                 --precision {precision}"
            )
        };
        folder.kerase(&line("emulated", "emulated")).succeeded();
        run(&folder, library, ptx, "", &line("ptx", "cuda")).succeeded();
        run(&folder, library, ptx, "STAND_IN_LATE=1 KERASE_OVERLAP=off", &line("again", "cuda")).succeeded();
        let model = |out: &str| folder.read(&format!("{out}-{precision}/model.safetensors"));
        assert!(model("ptx") == model("again"), "{precision}");
        assert!(model("ptx") != model("emulated"), "this is not what nvcc made");
        let losses = |out: &str| -> Vec<f64> {
            let steps = folder.lines(&format!("{out}-{precision}"), "step");
            steps.iter().map(|step| step["loss"].as_f64().expect("a loss")).collect()
        };
        let [of_ptx, emulated] = ["ptx", "emulated"].map(losses);
        assert!(!emulated.is_empty() && of_ptx.len() == emulated.len());
        for (a, b) in of_ptx.iter().zip(&emulated) {
            // What comes of other last bits in three steps: at most 7e-5 in tf32 and 6e-4 in bf16, when it was measured.
            assert!((a / b - 1.0).abs() < 1e-3, "{precision}: {of_ptx:?} {emulated:?}");
        }
    }
}

/// One mistake in one kernel: `change` makes another line of one, the last where it makes any; an operation then ends as
/// `found` says.
struct Mistake {
    file: &'static str,
    kernel: &'static str,
    change: fn(&str) -> Option<String>,
    operation: &'static str,
    found: &'static str,
}

/// Without this line.
fn without(line: &str, what: &str) -> Option<String> {
    line.contains(what).then(String::new)
}

const MISTAKES: [Mistake; 8] = [
    Mistake {
        file: "pool",
        kernel: "avg_pool_backward",
        change: |line| without(line, "bar.sync"),
        operation: "avg_pool_backward",
        found: "since the last barrier",
    },
    Mistake {
        file: "pool",
        kernel: "avg_pool_backward",
        change: |line| {
            let but_for_one =
                ".reg .pred %mine; .reg .b32 %me; mov.u32 %me, %tid.x; setp.eq.s32 %mine, %me, 5;";
            line.contains("bar.sync").then(|| format!("{{ {but_for_one} @%mine bra past; {line}\npast: }}"))
        },
        operation: "avg_pool_backward",
        found: "does not come with its warp to a barrier",
    },
    Mistake {
        file: "pool",
        kernel: "avg_pool_backward",
        change: |line| without(line, "griddepcontrol.wait"),
        operation: "avg_pool_backward",
        found: "before the launches before have ended",
    },
    Mistake {
        file: "sens",
        kernel: "sens_reduce",
        change: |line| line.contains("ld.global.v2").then(|| line.replace("];", "+264];")),
        operation: "sens_reduce",
        found: "outside of global memory",
    },
    Mistake {
        file: "sens",
        kernel: "sens_reduce",
        change: |line| line.contains("ld.global.v2").then(|| line.replace("];", "+4];")),
        operation: "sens_reduce",
        found: "not aligned to 8 bytes",
    },
    Mistake {
        file: "conv_mma_tf32",
        kernel: "conv3x3_tf32_wide_by1",
        change: |line| without(line, "cp.async.wait_group"),
        operation: "conv3x3",
        found: "uses what an asynchronous copy is on its way to",
    },
    Mistake {
        file: "conv_mma_tf32",
        kernel: "conv3x3_tf32_wide_by1",
        change: |line| line.contains("st.shared.v2").then(|| line.replace("]", "+232448]")),
        operation: "conv3x3",
        found: "outside of shared memory",
    },
    // Nothing is broken, but two elements of a matrix have changed places.
    Mistake {
        file: "conv_mma_tf32",
        kernel: "conv3x3_tf32_wide_by1",
        change: |line| {
            let (before, operands) = line.split_once("}, {").filter(|_| line.contains("mma.sync"))?;
            let (a, after) = operands.split_once('}')?;
            let [first, second, rest @ ..] = &a.split(',').collect::<Vec<_>>()[..] else { return None };
            let swapped = [&[*second, *first], rest].concat().join(",");
            Some(format!("{before}}}, {{{swapped}}}{after}"))
        },
        operation: "conv3x3",
        found: "cases failed on cuda:0",
    },
];

#[test]
fn a_mistake_is_found() {
    let Some(library) = library() else { return };
    let ptx = ptx();
    for Mistake { file, kernel, change, operation, found } in MISTAKES {
        let folder = Folder::new();
        let wrong = folder.path("ptx");
        fs::create_dir(&wrong).unwrap();
        for file in fs::read_dir(ptx).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), wrong.join(file.file_name())).unwrap();
        }
        let text = fs::read_to_string(ptx.join(format!("{file}.ptx"))).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_string).collect();
        let begin = lines.iter().position(|line| entry(line) == Some(kernel)).expect("the kernel is there");
        let end = begin + lines[begin..].iter().position(|line| line == "}").expect("and ends");
        let (at, other) =
            (begin..end).rev().find_map(|at| Some((at, change(&lines[at])?))).expect("a line to change");
        lines[at] = other;
        fs::write(wrong.join(format!("{file}.ptx")), lines.join("\n")).unwrap();
        let line = format!("validate --device cuda --precision tf32 --only {operation}");
        let ended = run(&folder, library, &wrong, "", &line);
        assert_ne!(ended.code, Some(0), "{kernel}: {found}");
        assert!((ended.stdout + &ended.stderr).contains(found), "{kernel}, {found}: {}", ended.stderr);
    }
}
