//! The code that talks to a GPU, as it is, with a driver library that stands in for NVIDIA's: streams, events, captures,
//! graphs, page-locked memory and NCCL by their rules, kernels as the emulated device has them. What comes of a run is
//! the emulated device's to the bit, however late streams do what nobody waits for.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

#[path = "ranks_support/mod.rs"]
mod ranks_support;

#[path = "stand_in_driver/mod.rs"]
mod stand_in_driver;

use std::time::Duration;

use kerase::model::Weights;
use kerase::run::state::Checkpoint;
use ranks_support::Job;
use run_support::{NETWORK_OPTIONS, SAMPLING, Sets};
use stand_in_driver::{capability, environment, kerase, library, report};
use support::Folder;

/// More cascades than show the maps their gradients at a time.
const CASCADES: &str = "--cascades 8 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1";

#[test]
fn a_training_has_the_same_bits_however_late_streams_are() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.sets();
    let line = |run: &str, device: &str, options: &str| {
        format!(
            "train --data brain --out {run} {CASCADES} {SAMPLING} --max-steps 5 --device {device} {options}"
        )
    };
    for options in ["--precision tf32", "--precision bf16 --low-memory"] {
        folder.kerase(&line("emulated", "emulated", &format!("{options} --overwrite"))).succeeded();
        let expected = folder.read("emulated/model.safetensors");
        for (variables, replayed, overlapping) in [
            ("", true, true),
            ("STAND_IN_LATE=1 KERASE_CARVEOUT=100", true, true),
            ("STAND_IN_LATE=1 KERASE_OVERLAP=off", true, false),
            ("KERASE_SYNC=1", false, false),
        ] {
            let options = format!("{options} --overwrite");
            kerase(&folder, library, variables, &line("run", "cuda", &options)).succeeded();
            assert!(folder.read("run/model.safetensors") == expected, "{variables} {options}");
            let counts = report(&folder, "report");
            let count = |name: &str| counts.get(name).copied().unwrap_or_default();
            assert_eq!(count("cuGraphLaunch"), if replayed { 4 } else { 0 }, "{variables}");
            // Launches of the first step and of the recorded one.
            assert_eq!(count("cuStreamWaitEvent") > 100, overlapping, "{variables}: {counts:?}");
            let early = capability() >= 90 && (overlapping || !replayed);
            assert_eq!(count("early launches") > 200, early, "{variables}: {counts:?}");
        }
    }
}

/// Without one kind of waits the test above would fail.
#[test]
fn a_wait_that_is_forgotten_shows() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.sets();
    let line = format!(
        "train --data brain --out run {CASCADES} {SAMPLING} --max-steps 2 --device cuda --precision tf32 --overwrite"
    );
    let run = |variables: &str| {
        let ended = kerase(&folder, library, &format!("STAND_IN_LATE=1 {variables}"), &line);
        let model = ended.code.is_some_and(|code| code == 0).then(|| folder.read("run/model.safetensors"));
        (model, ended.stderr)
    };
    let (right, said) = run("");
    assert!(right.is_some(), "{said}");
    let [main, uploads, beside] = [0, 1, 2];
    for [first, then] in [[uploads, main], [main, beside], [beside, main]] {
        let (wrong, said) = run(&format!("STAND_IN_FORGET={first}-{then}"));
        assert!(wrong != right, "nothing came of {then} not waiting for {first}");
        let nonsense = ["NaN", "CUDA_ERROR_STREAM_CAPTURE_"].iter().any(|why| said.contains(why));
        assert!(wrong.is_some() || nonsense, "{said}");
    }
}

#[test]
fn a_run_is_resumed_unlearned_evaluated_and_reconstructed() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.sets();
    for (device, variables) in [("emulated", ""), ("cuda", "STAND_IN_LATE=1")] {
        let run = |line: &str| {
            let line = format!("{} --device {device} --precision tf32", line.replace('@', device));
            kerase(&folder, library, variables, &line).succeeded()
        };
        let new = format!("--data brain --data knee --out @-run {NETWORK_OPTIONS} {SAMPLING}");
        run(&format!("train {new} --epochs 2 --max-steps 5"));
        run("train --out @-run --resume --max-steps 100");
        run(&format!(
            "unlearn --method bad-teacher --model @-run/model.safetensors --retain brain --forget knee --out @-unlearned \
             {SAMPLING} --epochs 1"
        ));
        run(&format!(
            "evaluate --model @-unlearned/model.safetensors --data test {SAMPLING} --out @-scores.json"
        ));
        run(&format!(
            "reconstruct --model @-unlearned/model.safetensors --data test {SAMPLING} --out @-images"
        ));
    }
    assert_eq!(folder.lasting("emulated-run"), folder.lasting("cuda-run"));
    assert_eq!(
        folder.read("emulated-unlearned/model.safetensors"),
        folder.read("cuda-unlearned/model.safetensors")
    );
    let slices = |device: &str| folder.json(&format!("{device}-scores.json"))["slices"].clone();
    assert_eq!(slices("emulated").as_array().map(Vec::len), Some(3));
    let without_names = |device: &str| slices(device).to_string().replace(device, "");
    assert_eq!(without_names("emulated"), without_names("cuda"));
    let image = |device: &str| {
        let file =
            folder.list(&format!("{device}-images")).into_iter().find(|name| name.ends_with(".h5")).unwrap();
        let file = hdf5_pure::File::open(folder.path(&format!("{device}-images/{file}"))).unwrap();
        file.dataset("reconstruction").unwrap().read_f32().unwrap()
    };
    assert!(image("emulated") == image("cuda"));
}

#[test]
fn operations_agree_and_a_step_is_timed() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    for only in ["announce", "upload", "cascade"] {
        let line = format!("validate --device cuda --precision tf32 --only {only}");
        kerase(&folder, library, "STAND_IN_LATE=1", &line).succeeded();
    }
    let sizes = format!("{NETWORK_OPTIONS} --coils 2 --height 32 --width 24");
    for (variables, early, beside) in
        [("", true, true), ("KERASE_OVERLAP=dependent", true, false), ("KERASE_OVERLAP=off", false, false)]
    {
        let line = format!("bench --step --device cuda --json {sizes}");
        let said = kerase(&folder, library, variables, &line).succeeded();
        let step: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(step.to_string().contains("stand-in"), "{step}");
        let launches = |kind: &str| step["train_launches"][kind].as_u64().unwrap();
        assert!(launches("kernels") > launches("early") + launches("beside"), "{step}");
        assert_eq!(launches("early") > 0, early && capability() >= 90, "{step}");
        assert_eq!(launches("beside") > 0, beside, "{step}");
        assert!(step["inference_handing_over_seconds"].as_f64().unwrap() > 0.0, "{step}");
    }
}

#[test]
fn ranks_add_up_by_nccl() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.sets();
    let line = |out: &str, device: &str| {
        format!(
            "train --data brain --data knee --out {out} {CASCADES} {SAMPLING} --batch 2 --max-steps 2 --device {device} \
             --precision tf32"
        )
    };
    let mut emulated = Job::start(&folder, 2, &line("emulated", "emulated"));
    let ended = emulated.wait(Duration::from_secs(120));
    assert_eq!(ended.codes, [Some(0); 2], "{}", ended.text);
    let on_gpus = |count: &str, line: &str, late: bool| {
        let mut job = Job::with(&folder, 2, line, |command, rank| {
            command.envs(environment(library)).env("STAND_IN_GPUS", count).env("TMPDIR", folder.path(""));
            command.env("STAND_IN_REPORT", format!("report-{rank}"));
            if late {
                command.env("STAND_IN_LATE", "1");
            }
        });
        job.wait(Duration::from_secs(120))
    };
    for late in [false, true] {
        let run = format!("late-{late}");
        let ended = on_gpus("2", &line(&run, "cuda"), late);
        assert_eq!(ended.codes, [Some(0); 2], "{}", ended.text);
        let [a, b] = ["emulated", &run].map(|run| folder.read(&format!("{run}/model.safetensors")));
        assert!(a == b, "{run}");
        for rank in 0..2 {
            assert!(report(&folder, &format!("report-{rank}")).contains_key("cuLaunchHostFunc"));
        }
    }
    let refused = on_gpus("1", &line("shared", "cuda"), false);
    assert!(refused.text.contains("have one GPU"), "{}", refused.text);
    assert_eq!(refused.codes, [Some(2); 2]);
}

/// A copy from the device that fails while a checkpoint is made leaves other numbers on the host, finite ones: they must
/// not become the checkpoint.
#[test]
fn whatever_call_fails_the_last_checkpoint_is_a_good_one() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.sets();
    let line = |run: &str, steps: usize| {
        format!(
            "train --data brain --out {run} --overwrite {NETWORK_OPTIONS} {SAMPLING} --max-steps {steps} \
             --checkpoint-every 2 --device cuda"
        )
    };
    let learnt = |run: &str| {
        let Checkpoint { parameters, exp_avg, exp_avg_sq, .. } = folder.state(run);
        [parameters, exp_avg, exp_avg_sq]
    };
    for steps in [2, 4] {
        kerase(&folder, library, "", &line(&format!("good{steps}"), steps)).succeeded();
    }
    let counts = report(&folder, "report");
    let mut stopped = 0;
    // Every copy; of what is waited for often every third.
    for (call, step) in [("cuMemcpyDtoHAsync", 1), ("cuStreamSynchronize", 3), ("cuEventSynchronize", 3)] {
        let count = counts.get(call).copied().unwrap_or_default();
        assert!(count > 10, "{call}: {counts:?}");
        for number in (1..=count).step_by(step) {
            let _ = std::fs::remove_dir_all(folder.path("run"));
            let variables = format!("STAND_IN_FAIL={call}:{number}:719");
            let ended = kerase(&folder, library, &variables, &line("run", 4));
            stopped += u32::from(ended.code != Some(0));
            if !folder.path("run/state.safetensors").exists() {
                assert!(
                    ended.code != Some(0) && !folder.path("run/model.safetensors").exists(),
                    "{variables}"
                );
                continue;
            }
            let step = folder.state("run").state.step;
            assert!(learnt("run") == learnt(&format!("good{step}")), "{variables}: step {step}");
            assert!(ended.code != Some(0) || step == 4, "{variables}");
            let weights = Weights::read(folder.path("run/model.safetensors")).unwrap().parameters;
            assert!(weights == learnt("run")[0], "{variables}");
        }
    }
    assert!(stopped > 10, "{stopped} runs were stopped");
}

#[test]
fn what_a_driver_refuses_is_said_with_the_remedy() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.sets();
    let train =
        format!("train --data brain --out run {NETWORK_OPTIONS} {SAMPLING} --max-steps 3 --device cuda");
    let failed = |variables: &str, code: i32, parts: &[&str]| {
        let line = format!("{train} --overwrite");
        kerase(&folder, library, variables, &line).failed(code, parts);
    };
    failed("STAND_IN_GPUS=0", 2, &["--device cuda", "finds no GPU"]);
    failed("KERASE_CARVEOUT=all", 2, &["expected a number from 0 to 100"]);
    failed("STAND_IN_DRIVER=11080", 2, &["CUDA 11.8", "update the driver"]);
    failed("STAND_IN_MEMORY=0", 2, &["has not enough memory", "--low-memory"]);
    failed("STAND_IN_FAIL=cuModuleLoadData:3:200", 2, &["the driver does not load kernels/"]);
    failed("STAND_IN_FAIL=cuModuleGetFunction:7:500", 2, &["kernel "]);
    failed("STAND_IN_FAIL=cuGraphInstantiateWithFlags:1:2", 2, &["recorded step itself", "--low-memory"]);
    failed(
        "STAND_IN_FAIL=cuStreamEndCapture:1:901",
        1,
        &["CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "recording a step"],
    );
    failed("STAND_IN_FAIL=kernel:200:700", 1, &["CUDA_ERROR_ILLEGAL_ADDRESS", "KERASE_SYNC=1"]);
    // The kernel that fails is named.
    failed(
        "KERASE_SYNC=1 STAND_IN_FAIL=kernel:1:700",
        1,
        &["CUDA_ERROR_ILLEGAL_ADDRESS", "after the kernel"],
    );
    // Nothing of what was there is lost.
    assert!(!folder.path("run").join("model.safetensors").exists());
    kerase(&folder, library, "", &format!("{train} --overwrite")).succeeded();
    let before = folder.read("run/model.safetensors");
    failed("STAND_IN_MEMORY=0", 2, &["has not enough memory"]);
    assert_eq!(folder.read("run/model.safetensors"), before);
}
