//! Ranks that mpirun starts, in a build with the feature `mpi`: the bits of ranks without MPI, uneven sets, the end of all
//! when one is lost. `scripts/check-ranks.sh` runs this.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kerase::simulate::Anatomy;
use run_support::{NETWORK_OPTIONS, SAMPLING, Sets};
use support::Folder;

/// Five volumes of two sizes: 15 slices, which no number of ranks but 1, 3 and 5 shares evenly.
fn sets() -> Folder {
    let folder = Folder::new();
    folder.add("brain", Anatomy::Brain, 1..=4);
    folder.add("knee", Anatomy::Knee, 1..=1);
    folder.add("test", Anatomy::Brain, 5..=7);
    folder
}

fn mpirun(folder: &Folder, size: usize, line: &str) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(folder.path(""));
    // Of Open MPI: in containers one is root, and a test has more ranks than cores.
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &size.to_string()]);
    command.arg(env!("CARGO_BIN_EXE_kerase")).args(line.split_whitespace());
    command.env("RAYON_NUM_THREADS", "1");
    command
}

#[track_caller]
fn succeeded(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mpi_sums_to_the_bits_of_ranks_without_it() {
    let folder = sets();
    let options = format!(
        "--data brain --data knee {NETWORK_OPTIONS} {SAMPLING} --validation test --batch 4 --epochs 2"
    );
    for size in [1, 2, 4] {
        let line = |run: &str| format!("train --out {run}{size} {options}");
        succeeded(mpirun(&folder, size, &line("mpi")).output().unwrap());
        let alone = if size == 1 { String::new() } else { format!(" --ranks {size}") };
        folder.kerase(&(line("plain") + &alone)).succeeded();
        assert_eq!(
            folder.lasting(&format!("mpi{size}")),
            folder.lasting(&format!("plain{size}")),
            "{size} ranks"
        );
    }
    // Every slice once an epoch, whoever took it.
    for size in [1, 2, 4] {
        let lines = folder.lines(&format!("mpi{size}"), "step");
        let slices = |value: &serde_json::Value| value.as_array().map_or(1, Vec::len);
        assert_eq!(lines.iter().map(|line| slices(&line["slice"])).sum::<usize>(), 2 * 15);
        let psnr =
            folder.json(&format!("mpi{size}/summary.json"))["validation"]["psnr"]["mean"].as_f64().unwrap();
        let alone = folder.json("mpi1/summary.json")["validation"]["psnr"]["mean"].as_f64().unwrap();
        // Weights that are apart by rounding: 7e-7 dB observed.
        assert!((psnr - alone).abs() < 1e-4, "{psnr} {alone}");
    }
}

#[test]
fn what_mpi_ranks_refuse_they_refuse_with_code_2() {
    let folder = sets();
    let line = format!("train --data brain --out run {NETWORK_OPTIONS} {SAMPLING} --batch 1");
    let output = mpirun(&folder, 2, &line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(
        said.contains("2 ranks, but no step has more than 1 slices") && !folder.path("run").exists(),
        "{said}"
    );
}

#[test]
fn a_rank_that_is_killed_ends_the_job() {
    let folder = sets();
    let line = format!(
        "train --data brain --out run {NETWORK_OPTIONS} {SAMPLING} --epochs 4000 --checkpoint-every 1"
    );
    let started = Instant::now();
    let mut job = mpirun(&folder, 2, &line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = folder.path("run/metrics.jsonl");
    while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 5 {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let children = Command::new("pgrep").args(["-P", &job.id().to_string(), "kerase"]).output().unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    let last = children.split_whitespace().last().expect("mpirun's ranks");
    assert!(Command::new("kill").args(["-KILL", last]).status().unwrap().success());
    let killed = Instant::now();
    while job.try_wait().unwrap().is_none() {
        assert!(killed.elapsed() < Duration::from_secs(30), "the job goes on without a rank");
        std::thread::sleep(Duration::from_millis(20));
    }
    // mpirun ends the others too, but does not say at which step.
    let ended = job.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success());
    assert!(said.contains("is gone, its connection closed, after step"), "{said}");
    assert!(folder.state("run").state.step >= 4);
}
