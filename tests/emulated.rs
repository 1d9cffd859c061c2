//! Whole commands on the emulated device: what the GPU's kernels make of a run is what the CPU makes of it, step by
//! step; and what does not fit is refused before anything is written.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::sync::atomic::AtomicBool;

use kerase::cuda::Cuda;
use kerase::cuda::driver::dry::Dry;
use kerase::data::loader::LoaderOptions;
use kerase::precision::Precision;
use kerase::ranks::ALONE;
use kerase::run::{RunDirectory, Session, Start};
use kerase::simulate::Anatomy;
use kerase::train::TrainConfig;
use kerase::train::Training;
use kerase::unlearn::METHODS;
use num_complex::Complex32;
use run_support::{NETWORK_OPTIONS, Oddity, SAMPLING, Sets, signal_after, volume, write_odd};
use support::Folder;

/// Losses of steps whose weights differ by what float32 rounds; measured: 3e-6 after 18 steps.
const LOSS: f64 = 2e-5;
/// A gradient's norm feels it more; measured: 9e-5.
const NORM: f64 = 5e-4;

/// Losses of a student that still is what its teacher is.
const NOTHING: f64 = 1e-5;

/// A folder with sets, and weights in `trained` that both organs' slices were shown to for a while.
fn trained() -> Folder {
    let folder = Folder::new();
    folder.sets();
    for device in ["cpu", "emulated"] {
        let line = format!(
            "train --data brain --data knee --validation test --out trained-{device} {NETWORK_OPTIONS} {SAMPLING} \
             --epochs 2 --lr 3e-3 --device {device}"
        );
        folder.kerase(&line).succeeded();
    }
    folder
}

#[track_caller]
fn close(name: &str, cpu: &serde_json::Value, emulated: &serde_json::Value, tolerance: f64) {
    let [a, b] =
        [cpu, emulated].map(|line| line[name].as_f64().unwrap_or_else(|| panic!("{name} in {line}")));
    assert!((a - b).abs() <= tolerance * a.abs(), "{name}: {cpu} on the CPU, {emulated} emulated");
}

/// Compares the steps of two runs, and the numbers that a validation of weights so close must share.
#[track_caller]
fn runs_agree(folder: &Folder, [cpu, emulated]: [&str; 2], steps: usize) {
    let [a, b] = [cpu, emulated].map(|run| folder.lines(run, "step"));
    assert_eq!([a.len(), b.len()], [steps; 2]);
    for (a, b) in a.iter().zip(&b) {
        for same in ["step", "epoch", "volume", "slice", "lr"] {
            assert_eq!(a[same], b[same]);
        }
        if a["loss"].as_f64().is_some_and(|loss| loss.abs() > NOTHING) {
            close("loss", a, b, LOSS);
            close("grad_norm", a, b, NORM);
        }
    }
    let [a, b] = [cpu, emulated].map(|run| folder.lines(run, "validation"));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        ["psnr", "ssim", "nmse"].into_iter().for_each(|score| close(score, a, b, 1e-4));
    }
}

#[test]
fn a_training_and_every_method_of_unlearning_agree_with_the_cpu() {
    let folder = trained();
    runs_agree(&folder, ["trained-cpu", "trained-emulated"], 2 * 9);
    for method in METHODS {
        for recipe in ["code", "text"] {
            let given = [
                ("--recipe", recipe),
                ("--retain-fraction", "0.5"),
                ("--noise", "0.25"),
                ("--gamma", "1e-3"),
                ("--alpha", if method.has_steps() { "0.5" } else { "1.2" }),
                // Where student and teacher are the same, a gradient is nothing but rounding.
                ("--ascent-epochs", "0"),
            ];
            let mut options: String = given
                .iter()
                .filter(|(option, _)| method.all_knobs().iter().any(|knob| knob.to_string() == *option))
                .map(|(option, value)| format!("{option} {value} "))
                .collect();
            if !method.recipe && recipe == "text" {
                continue;
            }
            if method.has_steps() {
                options += "--epochs 1";
            }
            let runs = ["cpu", "emulated"].map(|device| {
                let run = format!("{}-{recipe}-{device}", method.name);
                let line = format!(
                    "unlearn --method {} --model trained-cpu/model.safetensors --retain brain --forget knee --out {run} \
                     {options} {SAMPLING} --no-measure --device {device}",
                    method.name
                );
                folder.kerase(&line).succeeded();
                run
            });
            let steps = folder.lines(&runs[0], "step").len();
            assert!(steps >= 3 || !method.has_steps(), "{}: {steps} steps", method.name);
            runs_agree(&folder, [&runs[0], &runs[1]], steps);
            let records = runs.map(|run| folder.json(&format!("{run}/unlearning.json")));
            let [a, b] = records.map(|record| record["weights_selected"].as_f64());
            assert_eq!(a.is_some(), b.is_some());
            if let (Some(a), Some(b)) = (a, b) {
                // One or two may lie where the comparison turns.
                assert!(a > 20.0 && (a - b).abs() <= 2.0, "{}: {a} and {b} weights", method.name);
            }
        }
    }
}

#[test]
fn a_run_that_is_resumed_or_has_less_memory_has_the_same_bits() {
    let folder = Folder::new();
    folder.sets();
    let train = |run: &str, options: &str| {
        folder.kerase(&format!("train --out {run} --device emulated {options}")).succeeded();
    };
    for precision in ["fp32", "bf16"] {
        let new = format!("--data brain {NETWORK_OPTIONS} {SAMPLING} --precision {precision}");
        let [whole, parts, frugal] = ["whole", "parts", "frugal"].map(|run| format!("{run}-{precision}"));
        train(&whole, &format!("{new} --epochs 2"));
        train(&parts, &format!("{new} --max-steps 5"));
        train(&parts, "--epochs 2 --max-steps 100 --resume");
        train(&frugal, &format!("{new} --epochs 2 --low-memory"));
        assert_eq!(folder.lasting(&whole), folder.lasting(&parts));
        assert_eq!(folder.lasting(&whole), folder.lasting(&frugal));
        assert_eq!(folder.lasting(&whole).steps(), 12);
    }
}

/// Filters' gradients, normal operators, what the maps get from cascades: all are made beside everything else, at once in
/// one schedule, as late as may be in the other. Who would write over what they still read waits for them.
#[test]
#[cfg(unix)]
fn what_runs_beside_a_step_may_come_early_or_late() {
    let folder = Folder::new();
    folder.sets();
    // More cascades than show the maps their gradients at a time.
    let network = "--cascades 8 --chans 2 --pools 2 --sens-chans 2 --sens-pools 1";
    for options in ["--precision tf32", "--precision bf16 --low-memory"] {
        let [early, late] = ["forward", "reverse"].map(|schedule| {
            let run = format!("{schedule}{}", options.len());
            folder
                .shell(&format!(
                    "KERASE_EMULATED_SCHEDULE={schedule} \"$KERASE\" train --data brain --data knee --out {run} \
                     {network} {SAMPLING} --max-steps 5 --device emulated {options}"
                ))
                .succeeded();
            assert_eq!(folder.lines(&run, "step").len(), 5);
            folder.read(&format!("{run}/model.safetensors"))
        });
        assert!(early == late, "{options}");
    }
}

/// Nobody waits for what runs beside before it is needed.
#[test]
fn what_runs_beside_is_not_waited_for() {
    let folder = Folder::new();
    folder.sets();
    let network = "--cascades 4 --chans 2 --pools 2 --sens-chans 2 --sens-pools 1";
    folder.kerase(&format!("train --data brain --out plan {network} {SAMPLING} --max-steps 1")).succeeded();
    let directory = RunDirectory::check(&folder.path("plan"), Start::Resume).unwrap();
    let config: TrainConfig = directory.settings("train").unwrap();
    let device = Cuda::new(Dry::default()).with_precision(Precision::Tf32);
    let (out, stop) = (&folder.path("run"), &AtomicBool::new(false));
    let (loader, start, shown, ranks) = (LoaderOptions::default(), Start::New, false, &ALONE);
    Training { config, session: Session { out, start, loader, shown, ranks, stop } }.run(&device).unwrap();
    let overtaken = device.driver().overtaken();
    // Ten convolutions with their joins are more. What is beside in the backward pass comes one after the other, so that
    // whoever waits for filters' gradients waits for what was there before.
    let [of_a_unet, of_some_layers] = [20, 8];
    for (kernel, least) in [
        ("cascade_dc", of_a_unet),
        ("cascade_input", of_a_unet),
        ("normal_operator", of_some_layers),
        ("avg_pool", of_some_layers),
        ("conv_transpose_weight_tf32", 2),
        ("conv3x3_weights_tf32_8x8", 2),
    ] {
        let launches = overtaken.get(kernel).copied().unwrap_or_default();
        assert!(launches >= least, "{kernel} was waited for after {launches} launches: {overtaken:?}");
    }
}

/// A device that works beside the host has the next step before this one is waited for, unless this one is saved.
#[test]
fn two_steps_are_under_way_at_a_time() {
    let folder = Folder::new();
    folder.sets();
    let plan = format!("train --data brain --out plan {NETWORK_OPTIONS} {SAMPLING} --epochs 2 --max-steps 1");
    folder.kerase(&plan).succeeded();
    let directory = RunDirectory::check(&folder.path("plan"), Start::Resume).unwrap();
    for (every, most) in [(None, 2), (Some(3), 2), (Some(1), 1)] {
        let mut config: TrainConfig = directory.settings("train").unwrap();
        (config.optimisation.max_steps, config.optimisation.checkpoint_every) = (None, every);
        let device = Cuda::new(Dry::default());
        let run = format!("run{every:?}");
        let (out, stop) = (&folder.path(&run), &AtomicBool::new(false));
        let (loader, start, shown, ranks) = (LoaderOptions::default(), Start::New, false, &ALONE);
        Training { config, session: Session { out, start, loader, shown, ranks, stop } }
            .run(&device)
            .unwrap();
        assert_eq!(folder.lines(&run, "step").len(), 12);
        assert_eq!(device.driver().most_downloads(), most, "{every:?}");
    }
}

/// With a checkpoint after each step every step is waited for before the next is asked for.
#[test]
fn steps_that_are_asked_for_ahead_change_no_bit() {
    let folder = Folder::new();
    folder.sets();
    folder.init("model.safetensors");
    let sampling = format!("{SAMPLING} --device emulated");
    let train =
        format!("train --data brain --data knee --validation test {NETWORK_OPTIONS} {sampling} --epochs 2");
    let sets = "--model model.safetensors --retain brain --forget knee --retain-fraction 0.5 --no-measure";
    let forget = format!(
        "unlearn --method nl-ft --recipe text --noise 0.25 --epochs 2 {sets} {sampling} --optimizer-state fresh"
    );
    for (name, line) in [("train", train), ("forget", forget)] {
        let run = |out: &str, options: &str| {
            let out = format!("{name}-{out}");
            folder.kerase(&format!("{line} --out {out} {options}")).succeeded();
            folder.lasting(&out)
        };
        let one_by_one = run("one-by-one", "--checkpoint-every 1");
        assert!(one_by_one.steps() >= 4);
        assert_eq!(run("ahead", ""), one_by_one);
        assert_eq!(run("now-and-then", "--checkpoint-every 3"), one_by_one);
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_with_steps_under_way_goes_on_exactly() {
    let folder = Folder::new();
    folder.sets();
    let line = |run: &str| {
        format!("train --data brain --out {run} {NETWORK_OPTIONS} {SAMPLING} --epochs 40 --device emulated")
    };
    folder.kerase(&line("whole")).succeeded();
    let log = folder.path("run").join("metrics.jsonl");
    // Within the first epochs, and once more.
    let first = folder.start(&line("run"));
    assert_eq!(signal_after(first, &log, 9, "-INT").code(), Some(130));
    let steps = folder.state("run").state.step;
    assert!((1..240).contains(&steps), "{steps} steps");
    assert_eq!(folder.lines("run", "step").len() as u64, steps, "what was under way was logged and saved");
    let resume = "train --resume --out run --device emulated";
    let second = folder.start(resume);
    assert_eq!(signal_after(second, &log, steps as usize + 60, "-KILL").code(), None);
    folder.kerase(resume).succeeded();
    let [resumed, whole] = ["run", "whole"].map(|run| folder.lasting(run));
    assert!(resumed == whole, "it went on otherwise after step {steps}");
}

/// The step after the one that fails was asked for already.
#[test]
fn bad_numbers_keep_the_last_checkpoint_whatever_is_under_way() {
    let folder = Folder::new();
    folder.sets();
    let size = 2 * 32 * 24;
    // Finite, but its image is not.
    let mut huge = volume(Anatomy::Brain, 4, 2, 24);
    huge.kspace[size..].fill(Complex32::new(f32::MAX, f32::MAX));
    write_odd(&folder.path("huge.h5"), &huge, Oddity::default());
    let mut nan = volume(Anatomy::Brain, 4, 2, 24);
    nan.kspace[size + 5] = Complex32::new(f32::NAN, 0.0);
    write_odd(&folder.path("nan.h5"), &nan, Oddity::default());
    for (name, code, said) in
        [("huge.h5", 1, ["step 5", "huge.h5 slice 1", "NaN"]), ("nan.h5", 2, ["nan.h5", "slice 1", "NaN"])]
    {
        let [first, last] = [1, 2].map(|subject| format!("brain/file_brain_AXT2_200_000000{subject}.h5"));
        std::fs::write(folder.path("list.txt"), format!("{first}\n{name}\n{last}\n")).unwrap();
        let runs = ["cpu", "emulated"].map(|device| {
            let run = format!("{name}-{device}");
            let options = format!("--no-shuffle --checkpoint-every 3 --epochs 1 --device {device}");
            let line = format!("train --data list.txt --out {run} {NETWORK_OPTIONS} {SAMPLING} {options}");
            folder.kerase(&line).failed(code, &said);
            let model = folder.read(&format!("{run}/model.safetensors"));
            assert_eq!(folder.state(&run).state.step, 3);
            // Again, from there: to the same end.
            folder.kerase(&format!("train --resume --out {run} --device {device}")).failed(code, &said);
            assert!(folder.read(&format!("{run}/model.safetensors")) == model);
            assert!(!folder.path(&format!("{run}/summary.json")).exists());
            run
        });
        runs_agree(&folder, [&runs[0], &runs[1]], 4);
    }
}

#[test]
fn images_and_scores_agree_with_the_cpu() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let given = format!("--model net=model.safetensors --data brain {SAMPLING}");
    let [cpu, emulated] = ["cpu", "emulated"].map(|device| {
        folder.kerase(&format!("evaluate {given} --out {device}.json --device {device}")).succeeded();
        folder.kerase(&format!("reconstruct {given} --out {device} --device {device}")).succeeded();
        folder.json(&format!("{device}.json"))
    });
    let slices = |json: &serde_json::Value| json["slices"].as_array().unwrap().clone();
    assert_eq!(slices(&cpu).len(), 6);
    for (a, b) in slices(&cpu).iter().zip(&slices(&emulated)) {
        ["psnr", "ssim", "nmse"].into_iter().for_each(|score| close(score, a, b, 1e-4));
    }
    let images = folder.list("cpu");
    assert_eq!((images.len(), folder.list("emulated")), (6, images.clone()));
    for name in images.iter().filter(|name| name.ends_with(".h5")) {
        let [a, b] = ["cpu", "emulated"].map(|device| {
            let file = hdf5_pure::File::open(folder.path(&format!("{device}/{name}"))).unwrap();
            file.dataset("reconstruction").unwrap().read_f32().unwrap()
        });
        let largest = a.iter().copied().fold(0.0, f32::max);
        assert!(largest > 0.0 && a.len() == b.len());
        let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 1e-5 * largest, "{name}: {apart} of {largest}");
    }
}

#[test]
#[cfg(unix)]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    folder.simulate();
    let train = |memory: usize, options: &str| {
        folder.shell(&format!(
            "KERASE_EMULATED_MEMORY={memory} \"$KERASE\" train --data brain --out run --cascades 4 --chans 8 --pools 2 \
             --sens-chans 2 --sens-pools 2 {SAMPLING} --max-steps 1 --device emulated {options}"
        ))
    };
    train(5, "").failed(2, &["brain/file", "not enough memory", "of 5.0 MiB", "are missing", "--low-memory"]);
    assert!(!folder.path("run").exists());
    train(5, "--low-memory").succeeded();
    // A run that is there already stays as it is.
    let model = folder.read("run/model.safetensors");
    train(5, "--overwrite").failed(2, &["are missing"]);
    assert_eq!(folder.read("run/model.safetensors"), model);

    folder.weights("model.safetensors");
    let evaluate = |variable: &str| {
        folder.shell(&format!(
            "{variable} \"$KERASE\" evaluate --model model.safetensors --data brain {SAMPLING} --device emulated"
        ))
    };
    evaluate("KERASE_EMULATED_MEMORY=0").failed(2, &["0 bytes of 0 bytes are free"]);
    evaluate("KERASE_EMULATED_MEMORY=much").failed(2, &["KERASE_EMULATED_MEMORY=much", "MiB"]);
    evaluate("KERASE_EMULATED_SCHEDULE=sideways").failed(2, &["'sideways'", "random:SEED"]);
}

#[test]
fn devices_and_sizes_that_are_not_there() {
    let folder = Folder::new();
    folder.weights("model.safetensors");
    let wide =
        "simulate --anatomy brain --volumes 1 --slices 1 --coils 2 --matrix 16 1040 --recon 16 16 --out wide";
    folder.kerase(wide).succeeded();
    let evaluate = |device: &str| {
        folder.kerase(&format!("evaluate --model model.safetensors --data wide {SAMPLING} --device {device}"))
    };
    evaluate("emulated").failed(2, &["wide/file", "16 x 1040", "1024 points", "--device cpu"]);
    evaluate("cpu").succeeded();
    // No driver, no kernels, or no such GPU: whichever it is here.
    evaluate("cuda:4096").failed(2, &["--device cuda:4096: "]);
    evaluate("gpu").failed(2, &["'gpu'", "auto, cpu, cuda:N or emulated"]);
}

#[test]
#[cfg(unix)]
fn shapes_that_do_not_fit_beside_each_other_take_turns() {
    let folder = Folder::new();
    folder.simulate();
    let train = |run: &str, memory: &str| {
        let line = format!(
            "{memory} \"$KERASE\" train --data brain --data knee --out {run} --cascades 4 --chans 8 --pools 2 \
             --sens-chans 2 --sens-pools 2 {SAMPLING} --max-steps 6 --device emulated"
        );
        folder.shell(&line).succeeded();
    };
    train("ample", "");
    // The knees take 9.3 MiB, the brains 5.6, of which they share 1.8.
    train("tight", "KERASE_EMULATED_MEMORY=10");
    let sizes: std::collections::BTreeSet<String> = folder
        .lines("ample", "step")
        .iter()
        .map(|line| line["volume"].to_string()[..10].to_string())
        .collect();
    assert_eq!(sizes.len(), 2, "both shapes were trained with: {sizes:?}");
    assert_eq!(folder.read("ample/model.safetensors"), folder.read("tight/model.safetensors"));
}
