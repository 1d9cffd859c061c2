//! The scripts for SLURM, with commands of the test's own in place of srun and scontrol: when a job is queued again, and how
//! it ends.

#![cfg(unix)]

#[path = "cli_support/mod.rs"]
mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::Folder;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/slurm")
}

/// A command that the scripts find in place of the system's.
fn command(folder: &Folder, name: &str, body: &str) {
    let path = folder.path(name);
    std::fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a script as SLURM does, from a place where its neighbours are not; `step` is what srun does. Returns the exit code,
/// what was asked of srun and scontrol, and what was said on standard error.
fn job(script: &str, arguments: &str, step: &str) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("spool")).unwrap();
    std::fs::create_dir(folder.path("run")).unwrap();
    std::fs::copy(scripts().join(script), folder.path("spool/slurm_script")).unwrap();
    command(&folder, "srun", &format!("echo \"srun $*, $SRUN_CPUS_PER_TASK cores\" >> asked\n{step}"));
    let shown = scripts().join(script).display().to_string();
    let known = format!("[ $1 = show ] && {{ echo \"   Command={shown} {arguments}\"; exit; }}");
    command(&folder, "scontrol", &format!("{known}\necho \"scontrol $*\" >> asked"));
    let path = format!("{}:{}", folder.path("").display(), std::env::var("PATH").unwrap());
    let mut batch = Command::new("bash");
    batch.current_dir(folder.path("")).arg("spool/slurm_script").args(arguments.split_whitespace());
    batch.env("PATH", path).env("SLURM_JOB_ID", "17").env("SLURM_CPUS_PER_TASK", "8");
    batch.env("SLURM_ARRAY_JOB_ID", "16").env("SLURM_ARRAY_TASK_ID", "3").env_remove("KERASE");
    let output = batch.output().unwrap();
    let asked = std::fs::read_to_string(folder.path("asked")).unwrap_or_default();
    (output.status.code(), asked, String::from_utf8(output.stderr).unwrap())
}

const UNFINISHED: &str = r#"echo '{ "finished": false }' > run/summary.json"#;
const FINISHED: &str = r#"echo '{ "finished": true }' > run/summary.json"#;

#[test]
fn a_run_that_is_not_finished_is_queued_again() {
    for script in ["node.sh", "nodes.sh"] {
        for out in ["--out run", "--out=run"] {
            let line = format!("train --data brain {out}");
            let srun = format!("srun --kill-on-bad-exit=1 kerase {line} --resume auto, 8 cores\n");
            let (code, asked, said) = job(script, &line, UNFINISHED);
            assert_eq!((code, asked), (Some(0), format!("{srun}scontrol requeue 17\n")), "{script}: {said}");
            let (code, asked, said) = job(script, &line, FINISHED);
            assert_eq!((code, asked), (Some(0), srun), "{script}: {said}");
        }
    }
    // Each command has its own summary.
    let unlearning = r#"echo '{ "finished": false }' > run/unlearning.json"#;
    let (_, asked, _) = job("node.sh", "unlearn --out run", unlearning);
    assert!(asked.ends_with("scontrol requeue 17\n"), "{asked}");
    let unlearned = r#"echo '{ "finished": true }' > run/unlearning.json"#;
    let (_, asked, _) = job("node.sh", "unlearn --out run", &format!("{UNFINISHED}\n{unlearned}"));
    assert!(!asked.contains("requeue"), "{asked}");
    // Stopped while the ranks waited for each other.
    let (_, asked, _) = job("node.sh", "train --out run", "exit 0");
    assert!(asked.ends_with("scontrol requeue 17\n"), "{asked}");
}

#[test]
fn a_run_that_failed_is_not_queued_again() {
    for code in [1, 2, 137] {
        let (ended, asked, _) = job("node.sh", "train --out run", &format!("{UNFINISHED}\nexit {code}"));
        assert_eq!(ended, Some(code));
        assert!(!asked.contains("requeue"), "{asked}");
    }
    let (ended, asked, _) = job("experiment.sh", "paper.toml --out run", "exit 2");
    assert!(ended == Some(2) && !asked.contains("requeue"), "{asked}");
    for script in ["node.sh", "experiment.sh"] {
        let (ended, asked, said) = job(script, "train --data brain", FINISHED);
        assert_eq!((ended, &*asked), (Some(2), ""));
        assert!(said.contains("no --out"), "{said}");
    }
}

#[test]
fn a_task_of_a_study_is_queued_again_until_there_are_results() {
    let line = "paper.toml --out run";
    let srun = format!("srun kerase experiment {line}, 8 cores\n");
    let (code, asked, said) = job("experiment.sh", line, "exit 0");
    assert_eq!((code, asked), (Some(0), format!("{srun}scontrol requeue 16_3\n")), "{said}");
    let (code, asked, said) = job("experiment.sh", line, "touch run/results.json");
    assert_eq!((code, asked), (Some(0), srun), "{said}");
}
