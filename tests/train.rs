//! Training runs: the same bits however often they are stopped and on however many threads, what they log, and what
//! they refuse.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use kerase::backend::LossWeights;
use kerase::batch::{Batch, MaskSeeding, Reference, Sampler, Sampling};
use kerase::cpu::Cpu;
use kerase::data::mask::MaskKind;
use kerase::data::set::VolumeSet;
use kerase::data::volume::NewVolume;
use kerase::data::write::write_volume;
use kerase::engine::{Engine, Objective};
use kerase::model::Weights;
use kerase::run::plateau::{Plateau, PlateauSettings};
use kerase::run::state::RunState;
use kerase::simulate::Anatomy;
use num_complex::Complex32;
use run_support::{NETWORK, NETWORK_OPTIONS, Oddity, SAMPLING, Sets, signal_after, volume, write_odd};
use serde_json::Value;
use support::Folder;

/// The line of a training in `run`.
fn train(run: &str, options: &str) -> String {
    format!("train --data brain --out {run} {NETWORK_OPTIONS} {SAMPLING} {options}")
}

fn seconds_are_numbers(line: &Value) -> bool {
    line["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0)
}

#[test]
fn a_run_in_parts_is_bit_identical() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("whole", "--validation test --epochs 2")).succeeded();
    let whole = folder.lasting("whole");
    assert_eq!(whole.steps(), 12);

    // Within an epoch, at its end, just after; the last goes on from there to the end.
    folder.kerase(&train("parts", "--validation test --epochs 1 --max-steps 1")).succeeded();
    for most in [2, 5, 6, 7, 11] {
        folder.kerase(&format!("train --resume --out parts --epochs 2 --max-steps {most}")).succeeded();
        assert_eq!(folder.lines("parts", "step").len(), most);
        assert_eq!(folder.json("parts/summary.json")["steps"], most);
        assert!(
            folder.json("parts/summary.json")["validation"].is_object(),
            "max_steps ends in a validation"
        );
        assert_eq!(folder.lines("parts", "epoch").len(), most / 6);
    }
    folder.kerase("train --resume --out parts --max-steps 100").succeeded();
    assert_eq!(folder.lasting("parts"), whole);
    assert_eq!(
        folder.json("parts/summary.json")["validation"],
        folder.json("whole/summary.json")["validation"]
    );

    // Longer than it was meant to be, at first by one epoch, in one more part.
    folder.kerase(&train("longer", "--validation test --epochs 1")).succeeded();
    folder.kerase("train --resume --out longer --epochs 2").succeeded();
    assert_eq!(folder.lasting("longer"), whole);
    let config = String::from_utf8(folder.read("longer/config.toml")).unwrap();
    assert!(config.contains("epochs = 2"), "{config}");
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("run", "--validation test --epochs 1")).succeeded();
    let before = folder.contents("run");
    // Not even the data are needed.
    std::fs::rename(folder.path("brain"), folder.path("elsewhere")).unwrap();
    let said = folder.kerase("train --resume --out run").succeeded();
    assert!(said.contains("finished already (6 steps, 1 epochs)") && said.contains("--epochs"), "{said}");
    folder.kerase("train --resume --out run --max-steps 3").succeeded();
    assert_eq!(folder.contents("run"), before);

    // Killed after its last step and before its summary: that is what is left to do.
    std::fs::rename(folder.path("elsewhere"), folder.path("brain")).unwrap();
    std::fs::remove_file(folder.path("run/summary.json")).unwrap();
    folder.kerase("train --resume --out run").succeeded();
    assert_eq!(
        folder.json("run/summary.json"),
        serde_json::from_slice::<Value>(&before["summary.json"]).unwrap()
    );
}

/// A validation may take long or fail, and must not cost the epoch before it.
#[test]
fn an_epoch_is_saved_before_its_validation() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("whole", "--validation test --epochs 2")).succeeded();
    let name = "test/file_brain_AXT2_200_0000003.h5";
    std::fs::rename(folder.path(name), folder.path("away.h5")).unwrap();
    let mut bad = volume(Anatomy::Brain, 3, 3, 24);
    bad.kspace[7] = Complex32::new(f32::NAN, 0.0);
    write_odd(&folder.path(name), &bad, Oddity::default());
    folder.kerase(&train("run", "--validation test --epochs 2")).failed(2, &[name, "slice 0"]);
    assert_eq!((folder.state("run").state.step, folder.state("run").state.epoch), (6, 0));
    std::fs::rename(folder.path("away.h5"), folder.path(name)).unwrap();
    folder.kerase("train --resume --out run").succeeded();
    assert_eq!(folder.lasting("run"), folder.lasting("whole"));
}

#[cfg(unix)]
#[test]
fn signals_and_kills_change_no_bit() {
    let folder = Folder::new();
    folder.sets();
    let options = "--validation test --epochs 30";
    folder.kerase(&train("whole", options)).succeeded();
    let whole = folder.lasting("whole");
    for (signal, code, lines) in [("-INT", Some(130), 9), ("-TERM", Some(0), 23), ("-KILL", None, 40)] {
        let run = format!("run{signal}");
        let log = folder.path(&run).join("metrics.jsonl");
        let child = folder.start(&train(&run, &format!("{options} --checkpoint-every 1")));
        assert_eq!(signal_after(child, &log, lines, signal).code(), code);
        let steps = folder.state(&run).state.step;
        assert!((1..180).contains(&steps), "{steps} steps before {signal}");
        if code.is_some() {
            assert_eq!(folder.lines(&run, "step").len() as u64, steps);
            assert_eq!(folder.json(&format!("{run}/summary.json"))["finished"], false);
        }
        // What a killed process was writing is not kept for ever.
        std::fs::write(folder.path(&format!("{run}/.kerase-Ab3.partial")), "half").unwrap();
        let said = folder.kerase(&format!("train --resume --out {run}")).succeeded();
        assert!(said.contains("finished"), "{said}");
        assert_eq!(folder.lasting(&run), whole, "{signal}");
        assert!(!folder.list(&run).iter().any(|file| file.contains("partial")));
    }
    // Over, then made longer, then stopped: it is no longer over.
    let child = folder.start("train --resume --out run-INT --epochs 60 --checkpoint-every 1");
    signal_after(child, &folder.path("run-INT/metrics.jsonl"), 250, "-INT");
    assert!(!folder.state("run-INT").state.finished);
    assert_eq!(folder.json("run-INT/summary.json")["finished"], false);
    folder.kerase("train --resume --out run-INT").succeeded();
    assert_eq!(folder.lines("run-INT", "step").len(), 360);

    // Killed before the first checkpoint: from the beginning.
    let child = folder.start(&train("early", options));
    signal_after(child, &folder.path("early/metrics.jsonl"), 1, "-KILL");
    folder.kerase("train --resume --out early").succeeded();
    assert_eq!(folder.lasting("early"), whole);
}

#[test]
fn a_log_longer_than_the_checkpoint_is_cut_back() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("whole", "--epochs 2")).succeeded();
    folder.kerase(&train("run", "--epochs 2 --max-steps 8")).succeeded();
    let checkpoint = folder.read("run/state.safetensors");
    folder.kerase("train --resume --out run --max-steps 11").succeeded();
    // As if the power had failed: the log is ahead, its last line half written in the middle of a letter.
    std::fs::write(folder.path("run/state.safetensors"), checkpoint).unwrap();
    let mut log = folder.read("run/metrics.jsonl");
    log.extend_from_slice("{\"kind\":\"step\",\"step\":3,\"volume\":\"Bü".as_bytes().split_last().unwrap().1);
    std::fs::write(folder.path("run/metrics.jsonl"), log).unwrap();
    folder.kerase("train --resume --out run --max-steps 12").succeeded();
    assert_eq!(folder.lasting("run"), folder.lasting("whole"));
}

#[test]
fn threads_do_not_change_a_bit_and_seeds_do() {
    let folder = Folder::new();
    folder.sets();
    for (run, options) in [("one", "--threads 1"), ("two", "--threads 2"), ("other", "--threads 2 --seed 7")]
    {
        folder.kerase(&train(run, &format!("--batch 2 --epochs 2 {options}"))).succeeded();
    }
    assert_eq!(folder.lasting("one"), folder.lasting("two"));
    assert_ne!(folder.read("one/model.safetensors"), folder.read("other/model.safetensors"));
    // From the same weights, the seed still is that of order and masks.
    folder.init("init.safetensors");
    for (run, seed) in [("a", 1), ("b", 2)] {
        folder
            .kerase(&train(run, &format!("--init init.safetensors --max-steps 3 --seed {seed}")))
            .succeeded();
    }
    assert_ne!(folder.read("a/model.safetensors"), folder.read("b/model.safetensors"));
}

#[test]
fn slices_from_memory_change_no_bit() {
    let folder = Folder::new();
    folder.sets();
    let options = "--virtual-coils 2 --validation test --epochs 3";
    folder.kerase(&train("read", options)).succeeded();
    // All of them, and two.
    for (run, gib) in [("kept", "1"), ("part", "0.00008")] {
        folder.kerase(&train(run, &format!("{options} --cache-gib {gib}"))).succeeded();
        let weights = |run: &str| folder.read(&format!("{run}/model.safetensors"));
        assert!(weights(run) == weights("read"), "{run}");
    }
    folder.kerase(&train("none", "--cache-gib=-1")).failed(2, &["--cache-gib", "from 0 to 1000000"]);
}

#[test]
fn low_memory_changes_no_bit() {
    let folder = Folder::new();
    folder.sets();
    let options = "--batch 2 --cascades 3 --validation test --epochs 2";
    let train = |run: &str, more: &str| {
        let network = NETWORK_OPTIONS.replace("--cascades 1", "");
        format!("train --data brain --out {run} {network} {SAMPLING} {options} {more}")
    };
    // The state's reader knows the other network.
    let lasting = |run: &str| {
        let mut lines = folder.lines(run, "");
        lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
        (folder.read(&format!("{run}/model.safetensors")), lines)
    };
    let config = |run: &str| String::from_utf8(folder.read(&format!("{run}/config.toml"))).unwrap();
    folder.kerase(&train("kept", "")).succeeded();
    folder.kerase(&train("again", "--low-memory --threads 1")).succeeded();
    assert_eq!(lasting("again"), lasting("kept"));
    assert!(config("again").contains("low_memory = true"), "{}", config("again"));

    // In parts, now with and now without; by a run that was begun before there was a choice.
    folder.kerase(&train("parts", "--max-steps 1")).succeeded();
    let old = config("parts").replace("low_memory = false\n", "");
    assert!(!old.contains("low_memory"), "{old}");
    std::fs::write(folder.path("parts/config.toml"), old).unwrap();
    for (most, option, recorded) in
        [(2, "", "false"), (3, "--low-memory", "true"), (4, "", "true"), (6, "--low-memory=false", "false")]
    {
        folder.kerase(&format!("train --resume --out parts --max-steps {most} {option}")).succeeded();
        assert!(config("parts").contains(&format!("low_memory = {recorded}")), "{}", config("parts"));
    }
    assert_eq!(lasting("parts").0, lasting("kept").0);
}

/// fastMRI's SSIMLoss takes the mean over a batch's slices, each with its own range; so does L1.
#[test]
fn a_batch_has_the_mean_of_its_slices_gradients() {
    let folder = Folder::new();
    folder.sets();
    let set = VolumeSet::open(folder.path("brain")).unwrap();
    let sampling = Sampling {
        mask: MaskKind::EquispacedFraction,
        accelerations: vec![4],
        center_fractions: vec![0.16],
        mask_seed: MaskSeeding::Random,
        virtual_coils: None,
    };
    let sampler = Sampler::new(&sampling, 1).unwrap();
    let ops = Cpu::<f64>::default();
    let gradient = |parts: &[&[usize]]| {
        let mut engine = Engine::for_training(&ops, NETWORK, &NETWORK.initial_parameters(1)).unwrap();
        let mut loss = 0.0;
        for part in parts {
            // The middle slice of each volume, with masks and ranges of their own.
            let volumes: Vec<_> = part.iter().map(|&i| &set.volumes()[i]).collect();
            let slices: Vec<_> = volumes.iter().map(|v| v.read_slice(1).unwrap()).collect();
            let masks = volumes.iter().map(|v| sampler.mask(v, 1, 0).unwrap());
            let batch = Batch::new(volumes[0], slices.iter().map(|s| s.kspace.clone()).zip(masks));
            let reference = Reference {
                size: volumes[0].target.unwrap(),
                images: slices.iter().flat_map(|s| s.target.clone().unwrap()).collect(),
                max_value: volumes.iter().map(|v| v.max.unwrap()).collect(),
            };
            let weight = 1.0 / parts.len() as f64;
            let objective = Objective { weight, ..Objective::DESCENT };
            let weights = LossWeights { ssim: 1.0, l1: 0.3 };
            loss += weight * engine.accumulate(&batch, &reference, weights, objective).unwrap().loss;
        }
        (loss, engine.gradient().unwrap())
    };
    let (loss, together) = gradient(&[&[0, 1]]);
    let (mean, apart) = gradient(&[&[0], &[1]]);
    assert!((loss - mean).abs() < 1e-13 * mean, "{loss} {mean}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut together.iter().zip(&apart).map(|(a, b)| a - b));
    let size = norm(&mut apart.iter().copied());
    assert!(size > 0.0 && difference < 1e-11 * size, "{difference} of {size}");
    // And the slices differ, or this would show nothing.
    let (_, first) = gradient(&[&[0]]);
    assert!(norm(&mut first.iter().zip(&apart).map(|(a, b)| a - b)) > 1e-3 * size);
}

#[test]
fn batches_hold_slices_of_one_shape_and_every_slice_once() {
    let folder = Folder::new();
    folder.sets();
    write_volume(folder.path("brain/wide.h5"), &volume(Anatomy::Brain, 9, 3, 28)).unwrap();
    folder.kerase(&train("run", "--batch 2 --epochs 2")).succeeded();
    for epoch in 0..2 {
        let mut slices = Vec::new();
        for line in folder.lines("run", "step").iter().filter(|line| line["epoch"] == epoch) {
            let list = |key: &str| match &line[key] {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            };
            let volumes = list("volume");
            let wide = volumes.iter().filter(|name| *name == "wide.h5").count();
            assert!(wide == 0 || wide == volumes.len(), "{line}");
            assert!(volumes.len() <= 2);
            slices.extend(volumes.iter().zip(list("slice")).map(|(v, s)| format!("{v} {s}")));
        }
        slices.sort();
        slices.dedup();
        assert_eq!(slices.len(), 9, "{slices:?}");
    }
}

/// Nothing is lost of a run that has saved nothing.
#[test]
fn what_failed_before_it_saved_anything_is_begun_again() {
    let folder = Folder::new();
    folder.sets();
    let mut bad = volume(Anatomy::Brain, 9, 3, 24);
    bad.kspace[7].re = f32::NAN;
    std::fs::create_dir(folder.path("odd")).unwrap();
    write_odd(&folder.path("odd/odd.h5"), &bad, Oddity::default());
    let odd = train("run", "--epochs 1").replace("--data brain", "--data odd");
    folder.kerase(&odd).failed(2, &["odd.h5", "NaN"]);
    assert!(folder.path("run/config.toml").exists() && !folder.path("run/state.safetensors").exists());
    let said =
        folder.shell(&format!("$KERASE {} 2>&1", train("run", "--validation test --epochs 2"))).succeeded();
    for part in ["training, epoch 1 of 2: mean loss 0.", "; validation: PSNR ", "training, epoch 2 of 2: "] {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
    folder.kerase(&train("run", "--epochs 2")).failed(2, &["already holds a run"]);

    folder.kerase("info --data odd --check").failed(2, &["odd/odd.h5", "slice 0", "NaN"]);
    folder.kerase("info --data brain --check").succeeded();
    let scaled = volume(Anatomy::Brain, 9, 3, 24);
    write_odd(&folder.path("odd/odd.h5"), &scaled, Oddity { max: Some(Some(1e-9)), ..Oddity::default() });
    folder.kerase("info --data odd --check").failed(2, &["odd/odd.h5", "was the volume scaled?"]);
    // What a training would refuse, and what would make it worthless.
    let check = |max: Option<f64>, what: &str| {
        write_odd(&folder.path("odd/odd.h5"), &scaled, Oddity { max: Some(max), ..Oddity::default() });
        folder.kerase("info --data odd --check").failed(2, &["odd/odd.h5", what]);
    };
    check(None, "the attribute max is missing");
    check(Some(f64::NAN), "the attribute max is NaN");
    check(Some(100.0), "was the volume scaled?");
    let outside = NewVolume { encoding_limit_center: 24, ..scaled.clone() };
    write_odd(&folder.path("odd/odd.h5"), &outside, Oddity::default());
    folder.kerase("info --data odd --check").failed(2, &["odd/odd.h5", "the header says that columns"]);
    let dark = NewVolume { reconstruction_rss: vec![0.0; scaled.reconstruction_rss.len()], ..scaled.clone() };
    write_odd(&folder.path("odd/odd.h5"), &dark, Oddity { max: Some(Some(1.0)), ..Oddity::default() });
    folder.kerase("info --data odd --check").failed(2, &["odd/odd.h5", "zero everywhere in slice 0, 1, 2"]);
    write_odd(&folder.path("odd/odd.h5"), &scaled, Oddity { max: Some(Some(1e-9)), ..Oddity::default() });
    let said = folder.kerase("info --data odd").succeeded();
    assert!(said.contains("targets        max 1.00e-9 to 1.00e-9, median 1.00e-9"), "{said}");
    let evaluate = format!("$KERASE evaluate --model run --data odd {SAMPLING} 2>&1");
    let said = folder.shell(&evaluate).succeeded();
    assert_eq!(said.matches("was the volume scaled?").count(), 1, "{said}");
}

#[test]
fn validation_sets_are_joined() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("run", "--validation test --validation knee --epochs 1")).succeeded();
    assert_eq!(folder.lines("run", "validation")[0]["volumes"], 2);
    folder.kerase("train --resume --out run --epochs 2").succeeded();
    assert_eq!(folder.lines("run", "validation")[1]["volumes"], 2);
    let twice = train("new", "--validation test --validation test --epochs 1");
    folder.kerase(&twice).failed(2, &["--validation", "another --validation", "the same file"]);

    // What is learnt may be measured, and is said to be.
    let ended = folder.shell(&format!(
        "$KERASE {} 2>&1",
        train("learnt", "--validation brain --validation test --epochs 1")
    ));
    let said = ended.succeeded();
    assert!(said.contains("2 of the 3 volumes of --validation are learnt, too"), "{said}");
}

#[test]
fn the_log_has_the_fields_that_people_script_against() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("run", "--validation test --epochs 2 --no-shuffle")).succeeded();
    let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let steps = folder.lines("run", "step");
    for (index, line) in steps.iter().enumerate() {
        let names = ["epoch", "grad_norm", "kind", "loss", "lr", "seconds", "slice", "step", "volume"];
        assert_eq!(keys(line), names);
        assert_eq!(line["step"], index + 1);
        assert_eq!(line["epoch"], index / 6);
        assert_eq!(line["slice"], index % 3, "in the order of the set");
        assert_eq!(line["volume"], format!("file_brain_AXT2_200_{:07}.h5", index % 6 / 3 + 1));
        assert!(line["grad_norm"].as_f64().unwrap() > 0.0 && seconds_are_numbers(line));
    }
    assert_eq!(steps.len(), 12);
    let validations = folder.lines("run", "validation");
    assert_eq!(validations.iter().map(|v| v["step"].as_u64().unwrap()).collect::<Vec<_>>(), [6, 12]);
    assert_eq!(keys(&validations[1]), ["epoch", "kind", "nmse", "psnr", "ssim", "step", "volumes"]);

    // The last validation is what evaluate finds.
    folder
        .kerase(&format!("evaluate --model run/model.safetensors --data test {SAMPLING} --out m.json"))
        .succeeded();
    let scores = &folder.json("m.json")["volumes"][0];
    for (name, value) in [("psnr", &validations[1]["psnr"]), ("ssim", &validations[1]["ssim"])] {
        let found = scores.to_string();
        assert!(found.contains(&format!("\"{name}\":{value}")), "{name} {value} is not in {found}");
    }

    let summary = folder.json("run/summary.json");
    assert_eq!(summary["finished"], true);
    assert_eq!([&summary["steps"], &summary["epochs"]], [12, 2]);
    assert_eq!(summary["parameters"], NETWORK.layout().0.len());
    assert_eq!([&summary["volumes"], &summary["slices"]], [2, 6]);
    assert_eq!(
        std::fs::read_dir(folder.path("run/tensorboard")).unwrap().count(),
        1,
        "one file of events for a run that was made in one go"
    );
    let files: Vec<String> = folder.list("run").into_iter().filter(|name| !name.contains('/')).collect();
    assert_eq!(
        files,
        [
            ".lock",
            "best",
            "config.toml",
            "metrics.jsonl",
            "model.safetensors",
            "state.safetensors",
            "summary.json",
            "tensorboard"
        ]
    );
    Weights::read(folder.path("run/model.safetensors")).unwrap();
}

#[test]
fn the_rate_falls_when_the_mean_loss_of_epochs_does_not() {
    let folder = Folder::new();
    folder.sets();
    let options = "--epochs 6 --lr 0.5 --lr-patience 0 --lr-factor 0.5";
    folder.kerase(&train("run", options)).succeeded();
    let steps = folder.lines("run", "step");
    let mut plateau = Plateau::new(0.5);
    for (epoch, line) in folder.lines("run", "epoch").iter().enumerate() {
        let of_epoch: Vec<&Value> = steps.iter().filter(|step| step["epoch"] == epoch).collect();
        assert!(of_epoch.iter().all(|step| step["lr"] == plateau.lr), "epoch {epoch}");
        let sum: f64 = of_epoch.iter().map(|step| step["loss"].as_f64().unwrap()).sum();
        assert_eq!(line["mean_loss"].as_f64().unwrap(), sum / 6.0);
        plateau.epoch(PlateauSettings { factor: 0.5, patience: 0 }, sum / 6.0);
        assert_eq!(line["lr"], plateau.lr);
    }
    assert!(plateau.lr < 0.5, "the rate never fell, so nothing was shown");
    assert_eq!(folder.json("run/summary.json")["lr"], plateau.lr);
}

#[test]
fn what_cannot_be_trained_on_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    folder.sets();
    folder.init("init.safetensors");
    std::fs::create_dir(folder.path("empty")).unwrap();
    std::fs::write(folder.path("file"), "x").unwrap();
    let good = volume(Anatomy::Brain, 4, 2, 24);
    for (set, odd) in [
        ("no_target", Oddity { no_target: true, ..Oddity::default() }),
        ("no_max", Oddity { max: Some(None), ..Oddity::default() }),
        ("zero_max", Oddity { max: Some(Some(0.0)), ..Oddity::default() }),
        ("nan_max", Oddity { max: Some(Some(f64::NAN)), ..Oddity::default() }),
    ] {
        std::fs::create_dir(folder.path(set)).unwrap();
        write_odd(&folder.path(set).join("odd.h5"), &good, odd);
    }
    let new = |data: &str, options: &str| {
        format!("train --data brain --data {data} --out new {SAMPLING} --epochs 1 {options}")
    };
    for (data, parts) in [
        ("no_target", &["no_target/odd.h5", "reconstruction_rss"][..]),
        ("no_max", &["no_max/odd.h5", "max is missing"]),
        ("zero_max", &["zero_max/odd.h5", "max is 0"]),
        ("nan_max", &["nan_max/odd.h5", "max"]),
        ("empty", &["empty", "no *.h5 files"]),
        ("none", &["none", "No such file"]),
    ] {
        folder.kerase(&new(data, NETWORK_OPTIONS)).failed(2, parts);
    }
    for data in ["no_target", "empty", "none"] {
        let validation =
            format!("train --data brain --validation {data} --out new {NETWORK_OPTIONS} {SAMPLING}");
        folder.kerase(&validation).failed(2, &[data]);
    }
    for (options, parts) in [
        ("--lr 0", &["--lr 0"][..]),
        ("--lr nan", &["--lr NaN"]),
        ("--lr=-1", &["--lr -1"]),
        ("--clip 0", &["--clip 0"]),
        ("--epochs 0", &["--epochs"]),
        ("--max-steps 0", &["--max-steps"]),
        ("--batch 0", &["--batch"]),
        ("--lr-factor 2", &["--lr-factor 2"]),
        ("--seed 18446744073709551615", &["--seed 18446744073709551615"]),
        ("--chans 0", &["chans"]),
        ("--loss l2", &["l2", "ssim+l1"]),
        ("--init init.safetensors --chans 4", &["init.safetensors", "leave out the network's options"]),
        ("--init missing.safetensors", &["missing.safetensors"]),
        ("--cascades 1 --chans 2 --pools 5 --sens-chans 2 --sens-pools 1", &["brain_AXT2", "too small"]),
        ("--resume", &["--resume", "config.toml"]),
        ("--device cuda:0", &["cuda:0"]),
    ] {
        folder.kerase(&new("test", options)).failed(2, parts);
    }
    assert!(!folder.path("new").exists());
    folder.kerase(&train("file", "")).failed(2, &["file is a file"]);
    folder.kerase(&train("file/run", "")).failed(2, &["file/run"]);
    folder.kerase("train --out new").failed(2, &["--data is missing"]);
    folder.kerase("train --resume --out empty").failed(2, &["empty", "no run to resume", "config.toml"]);
    assert_eq!(folder.list("empty"), [""; 0]);
    assert_eq!(folder.read("file"), b"x");
    assert!(!folder.path("new").exists());
}

#[test]
fn a_run_is_neither_replaced_nor_changed_by_mistake() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("run", "--epochs 2 --max-steps 4")).succeeded();
    let before = folder.contents("run");

    folder.kerase(&train("run", "")).failed(2, &["run already holds a run", "--resume", "--overwrite"]);
    for option in
        ["--lr 0.1", "--seed 1", "--data test", "--cascades 2", "--mask random", "--loss l1", "--no-shuffle"]
    {
        folder.kerase(&format!("train --resume --out run {option}")).failed(2, &["--resume", "config.toml"]);
    }
    folder
        .kerase(&train("run", "--overwrite --init run/model.safetensors"))
        .failed(2, &["--init run/model.safetensors", "choose another --out"]);
    folder.kerase("train --resume --overwrite --out run").failed(2, &["--overwrite"]);
    folder.kerase("unlearn --resume --out run").failed(2, &["run/config.toml"]);

    // Other settings, and other data than it began with.
    let resume = "train --resume --out run --max-steps 6";
    let config = String::from_utf8(folder.read("run/config.toml")).unwrap();
    for (from, to, key) in [
        ("lr = 0.001", "lr = 0.002", "optimisation.lr"),
        ("loss = \"ssim+l1\"", "loss = \"l1\"", "optimisation.loss"),
        ("accelerations = [4]", "accelerations = [2]", "sampling.accelerations"),
        ("clip = 0.5\n", "", "optimisation.clip"),
    ] {
        let edited = config.replace(from, to);
        assert_ne!(edited, config, "{from} is not in {config}");
        std::fs::write(folder.path("run/config.toml"), edited).unwrap();
        folder.kerase(resume).failed(2, &["run", key, "is not what the run began with"]);
    }
    std::fs::write(folder.path("run/config.toml"), config).unwrap();
    let path = folder.path("brain/file_brain_AXT2_200_0000002.h5");
    std::fs::rename(&path, folder.path("away.h5")).unwrap();
    folder.kerase(resume).failed(2, &["run", "have changed since"]);
    std::fs::rename(folder.path("away.h5"), &path).unwrap();
    // Exported anew: of the same name and size, with the same max.
    let kept = std::fs::read(&path).unwrap();
    let mut other = kept.clone();
    let middle = other.len() / 2;
    other[middle..middle + 4096].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&path, other).unwrap();
    folder.kerase(resume).failed(2, &["run", "have changed since", "what files hold"]);
    std::fs::write(&path, kept).unwrap();

    // Somebody else is at work there.
    let held = std::fs::File::options().write(true).open(folder.path("run/.lock")).unwrap();
    held.lock().unwrap();
    for line in [resume.to_string(), train("run", "--overwrite --epochs 1")] {
        folder.kerase(&line).failed(2, &["another process is at work in run"]);
    }
    drop(held);
    assert_eq!(folder.contents("run"), before);

    // Weights without the state that they were saved with are not thrown away for a run that begins anew.
    std::fs::rename(folder.path("run/state.safetensors"), folder.path("state")).unwrap();
    folder.kerase(resume).failed(2, &["run holds weights", "state.safetensors", "--overwrite"]);
    folder.kerase(&train("run", "--resume auto --epochs 2 --max-steps 4")).failed(2, &["run holds weights"]);
    std::fs::rename(folder.path("state"), folder.path("run/state.safetensors")).unwrap();
    let said = folder.kerase("train --resume --out run --epochs 9").succeeded();
    assert!(said.contains("finished already") && said.contains("--max-steps 4 ended it"), "{said}");
    assert_eq!(folder.contents("run"), before);

    // A state that is damaged, or of another network.
    let whole = folder.read("run/state.safetensors");
    std::fs::write(folder.path("run/state.safetensors"), &whole[..whole.len() - 9]).unwrap();
    folder.kerase(resume).failed(2, &["run/state.safetensors", "not a whole safetensors file"]);
    std::fs::copy(folder.path("run/model.safetensors"), folder.path("run/state.safetensors")).unwrap();
    folder.kerase(resume).failed(2, &["run/state.safetensors", "no state of a run"]);
    std::fs::write(folder.path("run/state.safetensors"), &whole).unwrap();
    let summary = folder.read("run/summary.json");
    for (change, said) in [
        ((|state| state.step_in_epoch = 1000) as fn(&mut RunState), "1000 steps into an epoch of"),
        (|state| state.plateau.lr = -1e-3, "a learning rate of -0.001"),
    ] {
        let mut damaged = folder.state("run");
        change(&mut damaged.state);
        damaged.write(&folder.path("run/state.safetensors")).unwrap();
        folder.kerase(resume).failed(2, &["run/state.safetensors", said]);
    }
    assert_eq!(folder.read("run/summary.json"), summary);
    std::fs::write(folder.path("run/state.safetensors"), &whole).unwrap();
    assert_eq!(folder.contents("run"), before);

    let config = String::from_utf8(folder.read("run/config.toml")).unwrap();
    std::fs::write(folder.path("run/config.toml"), config.replace("chans = 2", "chans = 4")).unwrap();
    folder.kerase(resume).failed(2, &["run/state.safetensors", "parameters"]);
    std::fs::write(folder.path("run/config.toml"), config.replace("epochs", "epoch")).unwrap();
    folder.kerase(resume).failed(2, &["run/config.toml", "epoch"]);
    std::fs::write(folder.path("run/config.toml"), config).unwrap();
    assert_eq!(folder.contents("run"), before);

    folder.kerase(&train("run", "--overwrite --epochs 1")).succeeded();
    assert_eq!(folder.json("run/summary.json")["steps"], 6);
}

/// The volume that comes second, and a run that meets it with three steps and three checkpoints behind it.
fn meets(folder: &Folder, name: &str) -> String {
    std::fs::write(folder.path("list.txt"), format!("brain/file_brain_AXT2_200_0000001.h5\n{name}\n"))
        .unwrap();
    let options = "--no-shuffle --checkpoint-every 1 --epochs 1";
    format!("train --data list.txt --out {name}.run {NETWORK_OPTIONS} {SAMPLING} {options}")
}

#[test]
fn bad_numbers_stop_a_run_and_keep_its_last_checkpoint() {
    let folder = Folder::new();
    folder.sets();
    let size = 2 * 32 * 24;
    let mut nan = volume(Anatomy::Brain, 4, 2, 24);
    nan.kspace[size + 5] = Complex32::new(f32::NAN, 0.0);
    write_odd(&folder.path("nan.h5"), &nan, Oddity::default());
    // Finite, but its image is not.
    let mut huge = volume(Anatomy::Brain, 4, 2, 24);
    huge.kspace[size..].fill(Complex32::new(f32::MAX, f32::MAX));
    write_odd(&folder.path("huge.h5"), &huge, Oddity::default());
    // A range so small that SSIM's constants would vanish, and background have 0/0.
    let mut flat = volume(Anatomy::Brain, 4, 2, 24);
    flat.kspace[size..].fill(Complex32::default());
    flat.reconstruction_rss[256..].fill(0.0);
    write_odd(&folder.path("flat.h5"), &flat, Oddity { max: Some(Some(1e-200)), ..Oddity::default() });

    folder.kerase(&meets(&folder, "nan.h5")).failed(2, &["nan.h5", "slice 1"]);
    folder.kerase(&meets(&folder, "huge.h5")).failed(1, &["step 5", "huge.h5 slice 1", "NaN"]);
    folder.kerase(&meets(&folder, "flat.h5")).failed(2, &["flat.h5", "the attribute max is 1e-200"]);
    for name in ["nan.h5", "huge.h5"] {
        let run = format!("{name}.run");
        assert_eq!(folder.state(&run).state.step, 4, "{name}");
        assert_eq!(folder.lines(&run, "step").len(), 4);
        let weights = Weights::read(folder.path(&format!("{run}/model.safetensors"))).unwrap();
        assert_eq!(weights.parameters, folder.state(&run).parameters);
        assert!(!folder.path(&format!("{run}/summary.json")).exists());
    }
}

/// A limit on the size of files stands for a full disk: both refuse in the middle of writing.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("whole", "--epochs 3")).succeeded();
    folder.kerase(&train("run", "--epochs 3 --max-steps 4")).succeeded();
    let kept = ["run/model.safetensors", "run/state.safetensors"].map(|file| folder.read(file));
    // More than the log needs, less than the weights.
    let blocks = folder.read("run/metrics.jsonl").len() / 512 + 3;
    assert!(kept[0].len() > blocks * 1024, "{} bytes", kept[0].len());
    let limited = format!("ulimit -f {blocks}; exec \"$KERASE\"");
    folder
        .shell(&format!("{limited} train --resume --out run --max-steps 6"))
        .failed(2, &["cannot write run/model.safetensors", "File too large"]);
    assert_eq!(["run/model.safetensors", "run/state.safetensors"].map(|file| folder.read(file)), kept);
    assert!(!folder.list("run").iter().any(|file| file.contains("partial")), "{:?}", folder.list("run"));

    // The log itself is cut short in a line.
    let resume = "train --resume --out run --max-steps 100";
    folder.shell(&format!("{limited} {resume}")).failed(2, &["cannot write run/m", "File too large"]);
    folder.kerase(resume).succeeded();
    assert_eq!(folder.lasting("run"), folder.lasting("whole"));

    // A run that cannot even begin leaves no half a file.
    folder
        .shell(&format!("ulimit -f 0; exec \"$KERASE\" {}", train("none", "")))
        .failed(2, &["cannot write none/config.toml"]);
    assert_eq!(folder.list("none"), [".lock"]);
}

/// What a run is only measured on is looked at before its directory is there.
#[test]
fn a_set_that_cannot_be_measured_on_is_refused_at_once() {
    let folder = Folder::new();
    folder.sets();
    folder
        .kerase("simulate --anatomy brain --volumes 1 --slices 1 --coils 2 --matrix 32 24 --recon 6 6 --out small")
        .succeeded();
    folder.kerase(&train("run", "--validation small")).failed(2, &["small/", "SSIM needs 7 x 7"]);
    folder.init("model.safetensors");
    let unlearn = format!(
        "unlearn --method nl --model model.safetensors --optimizer-state fresh --retain brain --forget knee --test \
         small=small --out run {SAMPLING}"
    );
    folder.kerase(&unlearn).failed(2, &["small/", "SSIM needs 7 x 7"]);
    folder
        .kerase("simulate --anatomy brain --volumes 1 --slices 1 --coils 8 --matrix 256 192 --out large")
        .succeeded();
    let large = unlearn.replace("small=small", "large=large");
    folder
        .shell(&format!("KERASE_CPU_MEMORY=20 \"$KERASE\" {large} --device cpu"))
        .failed(2, &["large/", "memory"]);
    assert!(!folder.path("run").exists());
}

#[test]
fn another_loss_than_trainings_is_warned_of_where_it_can_be_given() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("trained", "--max-steps 1 --loss l1 --clip inf")).succeeded();
    let warnings = |method: &str, options: &str| {
        let ended = folder.kerase(&format!(
            "unlearn --method {method} --model trained/model.safetensors --retain brain --forget knee --no-measure \
             --overwrite --out run {SAMPLING} {options}"
        ));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr
    };
    for (method, options, right) in
        [("nl", "--max-steps 1", "--loss l1 --clip inf"), ("ssd", "--retain-fraction 1", "--loss l1")]
    {
        let said = warnings(method, &format!("{options} --loss ssim"));
        assert!(
            said.contains(&format!("was trained with {right}, and goes on with --loss ssim")),
            "{method}: {said}"
        );
        for same in [right, ""] {
            let said = warnings(method, &format!("{options} {same}"));
            assert!(!said.contains("was trained with"), "{method}: {said}");
        }
    }
}
