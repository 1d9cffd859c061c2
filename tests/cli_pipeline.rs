//! Whole command lines that should work: simulate, evaluate, reconstruct, bench, info.

#[path = "cli_support/mod.rs"]
mod support;

use kerase::data::set::VolumeSet;
use kerase::data::volume::VolumeFile;
use kerase::metrics::{self, Images};
use kerase::report::evaluation::Evaluation;
use support::{Folder, golden, kerase_in};

const SAMPLING: &str = "--mask equispaced_fraction --acceleration 4 --center-fraction 0.08";

fn reconstruction(path: &std::path::Path) -> (Vec<f32>, [usize; 3]) {
    let file = hdf5_pure::File::open(path).unwrap();
    let dataset = file.dataset("reconstruction").unwrap();
    let shape: Vec<usize> = dataset.shape().unwrap().into_iter().map(|size| size as usize).collect();
    (dataset.read_f32().unwrap(), shape.try_into().unwrap())
}

fn targets(volume: &VolumeFile) -> Vec<f32> {
    (0..volume.slices).flat_map(|slice| volume.read_slice(slice).unwrap().target.unwrap()).collect()
}

#[test]
fn a_row_without_a_network_comes_first() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let evaluate = format!("evaluate --model model.safetensors --data brain {SAMPLING} --threads 2");
    folder.kerase(&format!("{evaluate} --zero-filled --out both.json")).succeeded();
    folder
        .kerase(&format!("reconstruct --model model.safetensors --data brain {SAMPLING} --out images"))
        .succeeded();
    let [both, images] =
        ["both.json", "images/metrics.json"].map(|name| Evaluation::read(folder.path(name)).unwrap());
    assert_eq!(both.summary[0].model, "zero-filled");
    assert_eq!(both.summary, images.summary);
    folder.kerase(&format!("{evaluate} --out one.json")).succeeded();
    assert_eq!(Evaluation::read(folder.path("one.json")).unwrap().summary, both.summary[1..]);
    let named = evaluate.replace("--model ", "--model zero-filled=");
    folder.kerase(&format!("{named} --zero-filled")).failed(2, &["--zero-filled", "give it another"]);
    folder
        .kerase(&named.replace("evaluate", "reconstruct").replace("--threads 2", "--out twice"))
        .failed(2, &["zero-filled", "give it another"]);
    // It needs none.
    let alone = evaluate.replace("--model model.safetensors", "--zero-filled");
    folder.kerase(&format!("{alone} --out alone.json")).succeeded();
    assert_eq!(Evaluation::read(folder.path("alone.json")).unwrap().summary, both.summary[..1]);
    folder.kerase("evaluate --data brain").failed(2, &["--model"]);
}

#[cfg(unix)]
#[test]
fn what_is_interrupted_leaves_nothing_half_written() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    let folder = Folder::new();
    let line = "simulate --anatomy brain --volumes 20 --slices 8 --coils 8 --matrix 320 320 --out brain";
    let mut child = kerase_in(&folder, line).stderr(Stdio::null()).spawn().unwrap();
    let half_written = || {
        let names = std::fs::read_dir(folder.path("brain")).into_iter().flatten().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".partial")).count()
    };
    while half_written() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended, and nothing was seen at work");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    assert_eq!(half_written(), 0);
}

#[test]
fn records_say_what_made_them_and_which_masks_were_not_drawn() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let volumes = VolumeSet::open(folder.path("brain")).unwrap();
    let first = &volumes.volumes()[0].name;
    folder.add_mask(&format!("brain/{first}"));
    folder
        .kerase(&format!("evaluate --model model.safetensors --data brain {SAMPLING} --out m.json"))
        .succeeded();
    folder
        .kerase(&format!(
            "reconstruct --model model.safetensors --data brain {SAMPLING} --panels 0 --out images"
        ))
        .succeeded();
    for file in ["m.json", "images/metrics.json"] {
        let record = folder.json(file);
        assert_eq!(record["own_masks"], serde_json::json!([{"set": "brain", "volume": first}]), "{file}");
        let commit = record["commit"].as_str().unwrap_or_default();
        let version = folder.kerase("--version").succeeded();
        assert!(version.contains(env!("CARGO_PKG_VERSION")) && version.contains(commit), "{version}");
        assert_eq!((&record["device"], &record["precision"]), (&"cpu".into(), &"fp32".into()), "{file}");
    }
}

#[test]
fn networks_are_measured_as_they_were_trained() {
    let folder = Folder::new();
    folder.simulate();
    let network = "--cascades 1 --chans 2 --pools 2 --sens-chans 2 --sens-pools 2 --max-steps 1";
    let train = |out: &str, options: &str| {
        folder.kerase(&format!("train --data brain --out {out} {network} {options}")).succeeded();
    };
    train("four", "--acceleration 4 --virtual-coils 3");
    train("two", "--acceleration 2 --center-fraction 0.1");
    train("also-two", "--acceleration 2 --center-fraction 0.1 --mask-seed filename");
    let sampling = |options: &str| {
        let said = folder.kerase(&format!("evaluate --data brain --out m.json --overwrite {options}"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        (folder.json("m.json")["sampling"].clone(), said.stderr)
    };
    let (four, said) = sampling("--model four");
    assert!(
        said.contains("as in training (four/config.toml): equispaced masks of acceleration 4 with"),
        "{said}"
    );
    assert_eq!((&four["accelerations"][0], &four["virtual_coils"]), (&4.into(), &3.into()));
    assert_eq!(four["mask_seed"], "filename");
    let (two, _) = sampling("--model two --model also-two");
    assert_eq!((&two["accelerations"][0], &two["center_fractions"][0]), (&2.into(), &0.1.into()));
    assert_eq!(two["virtual_coils"], serde_json::Value::Null);
    // What an option says counts, and nothing else of it does.
    let (eight, said) = sampling("--model four --acceleration 8");
    assert!(said.contains("warning: four/config.toml: the network was trained with"), "{said}");
    assert_eq!((&eight["accelerations"][0], &eight["virtual_coils"]), (&8.into(), &3.into()));
    let (all, _) = sampling("--model four --virtual-coils all");
    assert_eq!((&all["accelerations"][0], &all["virtual_coils"]), (&4.into(), &serde_json::Value::Null));
    // Which is meant of two nobody can know.
    folder.kerase("evaluate --data brain --model two --model four").failed(
        2,
        &[
            "different masks or coils",
            "two/config.toml",
            "four/config.toml",
            "--acceleration 2 --center-fraction 0.1",
        ],
    );
    sampling("--model two --model four --acceleration 4 --virtual-coils all");
    // Nor is anything known of weights alone: then it is the paper's.
    std::fs::copy(folder.path("two/model.safetensors"), folder.path("bare.safetensors")).unwrap();
    let (eight, said) = sampling("--model bare.safetensors");
    assert_eq!(eight["accelerations"][0], 8);
    assert!(
        said.contains("nothing says what bare.safetensors was trained with: it is used with the paper's")
    );
    let further =
        format!("train --data brain --init bare.safetensors --max-steps 1 {}", "--out bare-further");
    assert!(folder.kerase(&further).stderr.contains("nothing says what bare.safetensors was trained with"));
    let (_, said) = sampling("--model bare.safetensors --acceleration 4");
    assert!(!said.contains("nothing says"), "{said}");

    let said = folder.kerase("evaluate --data brain --model two --model bare.safetensors").stderr;
    assert!(said.contains("nothing says what bare.safetensors was trained with"), "{said}");

    folder.kerase("reconstruct --model two --data brain --panels 0 --out images").succeeded();
    assert_eq!(folder.json("images/metrics.json")["sampling"]["accelerations"][0], 2);
    // A network that is trained further keeps what it knows.
    train("further", "--init two");
    let text = String::from_utf8(folder.read("further/config.toml")).unwrap();
    assert!(text.contains("accelerations = [2]") && text.contains("center_fractions = [0.1]"), "{text}");

    // Where no mask is drawn there is none to be asked for.
    for file in VolumeSet::open(folder.path("brain")).unwrap().volumes() {
        folder.add_mask(&format!("brain/{}", file.name));
    }
    folder.kerase("evaluate --data brain --model two --model also-two --model bare.safetensors").succeeded();
    train("eight", "");
    let (_, said) = sampling("--model two --model eight");
    assert!(!said.contains("equispaced"), "{said}");
    folder
        .kerase("evaluate --data brain --model two --model four")
        .failed(2, &["3 virtual coils", "all coils"]);

    // What cannot be read is no reason to take something else.
    std::fs::remove_file(folder.path("two/config.toml")).unwrap();
    std::fs::create_dir(folder.path("two/config.toml")).unwrap();
    folder.kerase("evaluate --data knee --model two").failed(2, &["two/config.toml"]);
    std::fs::write(folder.path("four/config.toml"), b"sampling = \xff").unwrap();
    let said = folder.kerase("evaluate --data knee --model four");
    assert!(
        said.stderr.contains("four/config.toml does not say what") && said.stderr.contains("as in the paper")
    );
    said.succeeded();
}

#[test]
fn what_reconstruct_writes_is_what_evaluate_scores() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let evaluated = folder
        .kerase(&format!(
            "evaluate --model net=model.safetensors --data brain --data organ=knee {SAMPLING} --out m.json --csv v.csv \
             --csv-slices s.csv"
        ))
        .succeeded();
    assert!(evaluated.contains("organ PSNR"), "{evaluated}");

    let evaluation = Evaluation::read(folder.path("m.json")).unwrap();
    assert_eq!(evaluation.volumes.len(), 4);
    assert_eq!(evaluation.summary.len(), 2);
    let json = folder.json("m.json");
    assert_eq!(json["slices"].as_array().unwrap().len(), 12);
    assert_eq!(json["sampling"]["mask_seed"], "filename");
    assert_eq!(json["sets"][1]["name"], "organ");
    let lines = |name| String::from_utf8(folder.read(name)).unwrap().lines().count();
    assert_eq!((lines("v.csv"), lines("s.csv")), (1 + 4, 1 + 12));

    for (data, label) in [("brain", "brain"), ("knee", "organ")] {
        let line =
            format!("reconstruct --model net=model.safetensors --data {data} {SAMPLING} --out {data}-out");
        folder.kerase(&line).succeeded();
        for volume in VolumeSet::open(folder.path(data)).unwrap().volumes() {
            let (images, shape) = reconstruction(&folder.path(&format!("{data}-out/{}", volume.name)));
            let [height, width] = volume.target.unwrap();
            assert_eq!(shape, [3, height, width]);
            let target = targets(volume);
            let scores = metrics::evaluate(
                Images::new(&target, shape).unwrap(),
                Images::new(&images, shape).unwrap(),
                volume.max,
            )
            .unwrap();
            let entry =
                |e: &&kerase::report::evaluation::Entry| (&*e.set, &*e.volume) == (label, &*volume.name);
            let found = evaluation.volumes.iter().find(entry).unwrap();
            assert_eq!(found.scores, scores.volume);

            let figure = format!("{data}-out/panels/{}", volume.name.replace(".h5", ".png"));
            let png = png::Decoder::new(std::io::Cursor::new(folder.read(&figure))).read_info().unwrap();
            assert!(png.info().width > 4 * 240 && png.info().height > 3 * 240);
        }
        let of_model = |model: &str| {
            let made = Evaluation::read(folder.path(&format!("{data}-out/metrics.json"))).unwrap();
            made.summary.into_iter().find(|entry| entry.model == model).unwrap().scores
        };
        let summary = evaluation.summary.iter().find(|entry| entry.set == label).unwrap();
        assert_eq!(of_model("net"), summary.scores);
        assert_ne!(of_model("zero-filled"), summary.scores);
    }
}

#[test]
fn threads_and_order_of_commands_change_nothing() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    for threads in [1, 3] {
        let line = format!(
            "evaluate --model model.safetensors --data knee --threads {threads} --out {threads}.json"
        );
        folder.kerase(&line).succeeded();
        folder
            .kerase(&format!(
                "simulate --anatomy knee --volumes 1 --first 2 --slices 3 --coils 5 --matrix 72 40 --acquired-lines 37 \
                 --threads {threads} --out again-{threads}"
            ))
            .succeeded();
        assert_eq!(
            folder.read(&format!("again-{threads}/file1000002.h5")),
            folder.read("knee/file1000002.h5")
        );
    }
    assert_eq!(folder.read("1.json"), folder.read("3.json"));
}

#[test]
fn several_models_are_rows_of_one_table() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    folder.weights("other.safetensors");
    let table = folder
        .kerase("evaluate --model a=model.safetensors --model other.safetensors --data brain")
        .succeeded();
    let row = |name: &str| table.lines().rev().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert_eq!(row("a ").trim_start()[5..].trim(), row("other ").trim_start()[5..].trim());
    folder
        .kerase("evaluate --model model.safetensors --model brain/../model.safetensors --data brain")
        .failed(2, &["brain/../model.safetensors", "both called", "give them names"]);
}

#[test]
fn volumes_without_target_and_with_a_mask_are_reconstructed() {
    let folder = Folder::new();
    folder.weights("model.safetensors");
    // 4 x 10 with a mask of its own, the header asks for 3 x 5.
    let volume = golden("mask_uint8.h5");
    folder.kerase(&format!("reconstruct --model model.safetensors --data {volume} --out a")).succeeded();
    let (images, shape) = reconstruction(&folder.path("a/mask_uint8.h5"));
    assert_eq!(shape, [2, 3, 5]);
    assert!(images.iter().all(|value| value.is_finite()));
    assert_eq!(folder.list("a"), ["mask_uint8.h5", "metrics.json", "panels", "panels/mask_uint8.png"]);

    // The file's own mask counts, whatever --mask says.
    let line = format!("reconstruct --model model.safetensors --data {volume} --out b --panels 0");
    folder.kerase(&format!("{line} --mask random --acceleration 2")).succeeded();
    assert_eq!(reconstruction(&folder.path("b/mask_uint8.h5")).0, images);
    assert_eq!(folder.list("b"), ["mask_uint8.h5", "metrics.json"]);
}

#[test]
fn a_part_of_a_volume_is_enough() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    std::fs::write(
        folder.path("part.txt"),
        "knee/file1000002.h5 slices=1..3\nbrain/file_brain_AXT2_200_0000001.h5\n",
    )
    .unwrap();
    folder.kerase("evaluate --model model.safetensors --data part.txt --out m.json").succeeded();
    let json = folder.json("m.json");
    let slices: Vec<_> =
        json["slices"].as_array().unwrap().iter().map(|s| s["slice"].as_u64().unwrap()).collect();
    assert_eq!(slices, [1, 2, 0, 1, 2]);
}

#[test]
fn existing_results_are_kept_unless_told_otherwise() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let commands = [
        "simulate --anatomy brain --volumes 2 --slices 3 --coils 4 --matrix 64 32 --out brain",
        "evaluate --model model.safetensors --data brain --out m.json",
        "reconstruct --model model.safetensors --data brain --out images",
    ];
    let file = ["brain/file_brain_AXT2_200_0000001.h5", "m.json", "images/file_brain_AXT2_200_0000001.h5"];
    for (command, file) in commands.into_iter().zip(file) {
        if !folder.path(file).exists() {
            folder.kerase(command).succeeded();
        }
        let before = folder.read(file);
        std::fs::write(folder.path(file), "something else").unwrap();
        folder.kerase(command).failed(2, &[file, "--overwrite"]);
        assert_eq!(folder.read(file), b"something else");
        folder.kerase(&format!("{command} --overwrite")).succeeded();
        assert_eq!(folder.read(file), before);
    }
    folder
        .kerase("reconstruct --model model.safetensors --data brain --out brain --overwrite")
        .failed(2, &["brain/file_brain_AXT2_200_0000001.h5 would be replaced by its own reconstruction"]);
}

/// Whoever forgets an option measures another thing than was trained.
#[test]
fn another_sampling_than_in_training_is_said() {
    let folder = Folder::new();
    folder.simulate();
    let network = "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1";
    let trained = "--acceleration 4 --center-fraction 0.1";
    folder.kerase(&format!("train --data brain --out run {network} {trained} --max-steps 1")).succeeded();
    let unlearn = "unlearn --method ft --model run/model.safetensors --retain brain --forget knee --no-measure \
                   --retain-fraction 1 --max-steps 1 --out";
    let lines = [
        "evaluate --model run/model.safetensors --data brain".to_string(),
        "reconstruct --model run/model.safetensors --data brain --overwrite --panels 0 --out images".into(),
        format!("{unlearn} unlearned --overwrite"),
    ];
    for line in &lines {
        let said = |options: &str| {
            let ended = folder.kerase(&format!("{line} {options}"));
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            ended.stderr
        };
        let other = said("--acceleration 8");
        for part in [
            "warning: run/config.toml",
            "acceleration 4 with center fraction 0.1",
            "acceleration 8 with center fraction 0.04",
        ] {
            assert!(other.contains(part), "{part}: {other}");
        }
        for alike in [trained, ""] {
            assert!(!said(alike).contains("warning: run/config.toml"), "{line}");
        }
        assert!(said("--virtual-coils 3").contains("and all coils, and is used with equispaced masks of"));
    }
    // Weights that no run left.
    folder.weights("model.safetensors");
    let ended = folder.kerase("evaluate --model model.safetensors --data brain");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("nothing says what model.safetensors was trained with"),
        "{}",
        ended.stderr
    );
}

#[test]
fn volumes_that_keep_their_masks_are_counted() {
    let folder = Folder::new();
    folder.simulate();
    folder.add_mask("brain/file_brain_AXT2_200_0000001.h5");
    folder.weights("model.safetensors");
    let network = "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1 --max-steps 1";
    for (line, count) in [
        ("evaluate --model model.safetensors --data brain --data knee".to_string(), "1 of 4 volumes"),
        ("reconstruct --model model.safetensors --data brain --out images".into(), "1 of 2 volumes"),
        (format!("train --data knee --validation brain --out run {network}"), "1 of 4 volumes"),
    ] {
        let ended = folder.kerase(&line);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("taken as they are").count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(count), "{}", ended.stderr);
    }
    let ended = folder.kerase("evaluate --model model.safetensors --data knee");
    assert!(!ended.stderr.contains("taken as they are"), "{}", ended.stderr);
}

#[cfg(unix)]
#[test]
fn what_the_machine_has_no_memory_for_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    folder.simulate();
    let train = |memory: &str, options: &str| {
        folder.shell(&format!(
            "KERASE_CPU_MEMORY={memory} \"$KERASE\" train --data brain --out run --cascades 4 --chans 8 --pools 2 \
             --sens-chans 2 --sens-pools 2 {SAMPLING} --max-steps 1 --device cpu {options}"
        ))
    };
    let parts =
        ["brain/file", "cpu has not enough memory", "this machine has 6.0 MiB", "--low-memory", "--batch"];
    train("6", "").failed(2, &parts);
    assert!(!folder.path("run").exists());
    train("6", "--low-memory").succeeded();
    // A run that is there already stays as it is.
    let run = folder.contents("run");
    train("6", "--overwrite").failed(2, &parts);
    assert_eq!(folder.contents("run"), run);
    train("much", "--overwrite").failed(2, &["KERASE_CPU_MEMORY=much", "MiB"]);
    // Before the initial weights are made, which are 24 billion.
    folder
        .shell("KERASE_CPU_MEMORY=1000 \"$KERASE\" train --data brain --out huge --chans 512 --device cpu")
        .failed(2, &["cpu has not enough memory", "this machine has 1000.0 MiB"]);
    assert!(!folder.path("huge").exists());

    // No block of these is as large as all of them.
    let network =
        "--data brain --cascades 12 --chans 12 --pools 2 --sens-chans 2 --sens-pools 2 --low-memory";
    let plan = folder.kerase(&format!("info --plan --json {network}")).succeeded();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let bytes = |pointer: &str| plan["plan"]["training"].pointer(pointer).unwrap().as_u64().unwrap();
    // Beside its buffers a run needs what saving takes.
    let saving = plan["plan"]["host_bytes_while_saving"].as_u64().unwrap();
    let held = (bytes("/total_bytes") - bytes("/bytes/scratch") + saving) >> 20;
    let train = |memory: u64| {
        folder.shell(&format!(
            "KERASE_CPU_MEMORY={memory} \"$KERASE\" train {network} --out many {SAMPLING} --max-steps 1 --device cpu"
        ))
    };
    train(held - 1).failed(2, &["cpu has not enough memory"]);
    assert!(!folder.path("many").exists());
    train(held + 1).succeeded();

    folder.weights("model.safetensors");
    folder
        .shell("KERASE_CPU_MEMORY=0 \"$KERASE\" evaluate --model model.safetensors --data brain --out m.json")
        .failed(2, &["this machine has 0 bytes"]);
    assert!(!folder.path("m.json").exists());
}

#[test]
fn bench_prints_what_the_comparison_reads() {
    let folder = Folder::new();
    let shape =
        "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1 --coils 2 --height 16 --width 18";
    for (mode, absent) in [("train", "inference_seconds"), ("inference", "train_seconds"), ("both", "")] {
        let text = folder.kerase(&format!("bench --step --json --iters 1 --mode {mode} {shape}")).succeeded();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["train_seconds", "inference_seconds"] {
            assert_eq!(json[key].as_f64().is_some_and(|seconds| seconds > 0.0), key != absent, "{text}");
        }
        assert_eq!((&json["mode"], &json["iters"], &json["warm_up"]), (&mode.into(), &1.into(), &1.into()));
        if cfg!(target_os = "linux") {
            assert!(json["peak_rss_mb"].as_f64().unwrap() > 1.0, "{text}");
        }
    }
    let text = folder.kerase(&format!("bench --iters 2 {shape}")).succeeded();
    assert!(text.contains("training") && text.contains("2 coils, 16 x 18"), "{text}");
}

/// Against a step of the set's own shape; where there is none, the loader's numbers alone, and why.
#[test]
fn bench_sets_the_loader_against_the_step() {
    let folder = Folder::new();
    folder.simulate();
    let network = "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1";
    let bench = |options: &str| -> serde_json::Value {
        let text = folder.kerase(&format!("bench --data brain --iters 1 --json {options}")).succeeded();
        serde_json::from_str(&text).unwrap()
    };
    let report = bench(network);
    let step = &report["step"];
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("a number in {report}"));
    assert_eq!([&step["coils"], &step["height"], &step["width"]], [4, 64, 32]);
    for (ratio, pass) in [
        ("first_loader_to_step", &report["first"]),
        ("loader_to_step", report["again"].as_array().unwrap().last().unwrap()),
    ] {
        let expected = number(&pass["slices_per_second"]) / number(&step["slices_per_second"]);
        assert!((number(&step[ratio]) / expected - 1.0).abs() < 1e-9, "{ratio}: {report}");
    }
    let waits = if number(&step["loader_to_step"]) < 1.0 { "device" } else { "loader" };
    assert_eq!(step["waits"], waits);
    let said = folder.kerase(&format!("bench --data brain --iters 1 {network}")).succeeded();
    assert!(said.contains("slices/s") && said.contains("times what steps take"), "{said}");

    let alone = bench("--loader-only");
    assert!(alone["step"].is_null() && alone["step_left_out"].is_null() && number(&alone["bytes"]) > 0.0);
    let too_deep = bench("--pools 6");
    assert!(too_deep["step"].is_null() && too_deep["again"].is_array(), "{too_deep}");
    assert!(too_deep["step_left_out"].as_str().unwrap().contains("too small"), "{too_deep}");
    #[cfg(unix)]
    {
        let line = format!("KERASE_EMULATED_MEMORY=0 \"$KERASE\" bench --data brain --iters 1 {network}");
        let said = folder.shell(&format!("{line} --device emulated")).succeeded();
        assert!(said.contains("no step was timed") && said.contains("not enough memory"), "{said}");
    }
    folder.kerase("bench --data brain --device cuda:4096").failed(2, &["cuda:4096"]);
    folder.kerase("bench --loader-only").failed(2, &["--data"]);
}

#[test]
fn bench_times_tilings_and_uses_them() {
    let folder = Folder::new();
    let network =
        "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1 --coils 1 --height 32 --width 48";
    let bench = |options: &str| format!("bench --device emulated --iters 1 {network} {options}");
    let write = |name: &str, text: &str| std::fs::write(folder.path(name), text).unwrap();
    let read = |name: &str| String::from_utf8(folder.read(name)).unwrap();
    // What no model would choose.
    let [layer, filters] = ["conv3x3 4 -> 4, 1 x 16 x 24", "conv3x3 filters 2 -> 2, 1 x 32 x 48"];
    let slow = format!("[tf32]\n\"{layer}\" = \"deep by 4\"\n\"{filters}\" = \"18 x 24\"\n");
    // Of a network that is not timed, and of another precision.
    let others = "# measured on NVIDIA A40; bf16; by hand\n[tf32]\n\"conv3x3 5 -> 7, 1 x 9 x 9\" = \"wide by 5\"\n\n[bf16]\n\"conv_transpose 5 -> 7, 1 x 9 x 9\" = \"wide by 5\"\n";
    write("slow.toml", &slow);
    write("quick.toml", others);
    let text =
        folder.kerase(&bench("--tune quick.toml --precision tf32 --tilings slow.toml --json")).succeeded();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let problems = report["problems"].as_array().unwrap();
    let of = |name: &str| {
        let row = problems.iter().find(|row| row["problem"] == name);
        row.unwrap_or_else(|| panic!("no {name} in {report}"))
    };
    for (name, calls) in [(layer, 2), (filters, 6), ("conv_transpose inputs 2 -> 4, 1 x 16 x 24", 2)] {
        assert_eq!(of(name)["calls"], calls, "{name}");
    }
    for (name, used, model) in [(layer, "deep by 4", "wide by 1"), (filters, "18 x 24", "8 x 8")] {
        let row = of(name);
        assert_eq!([&row["tilings"][0]["tiling"], &row["by_model"]], [used, model], "{row}");
    }
    // Which are written depends on this machine; what was there of others stays.
    let written = read("quick.toml");
    for line in others.lines() {
        assert!(written.contains(line), "{line} in {written}");
    }
    assert!(written.contains("# measured on the emulated device") && written.contains("; tf32; by kerase"));

    let step = |options: &str| folder.kerase(&bench(&format!("--step --mode inference {options}")));
    let text = step("--tilings slow.toml --precision tf32 --json").succeeded();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    // An inference makes no gradient of filters.
    let found = ["tilings", "tilings_in_file", "tilings_of_this_pass"].map(|key| report[key].clone());
    assert_eq!(serde_json::json!(found), serde_json::json!(["slow.toml", 2, 1]));
    write("others.toml", others);
    step("--tilings others.toml --precision tf32").failed(2, &["others.toml", "none of them"]);
    step("--tilings slow.toml --precision bf16").failed(2, &["slow.toml", "no tilings of bf16"]);
    step("--tilings slow.toml").failed(2, &["--tilings", "fp32"]);
    folder.kerase(&bench("--tune new.toml")).failed(2, &["--tune", "fp32", "--precision tf32"]);
    folder.kerase(&bench("--tune no/new.toml --precision tf32")).failed(2, &["no/new.toml"]);
    write("bad.toml", &slow.replace("by 4", "by 7"));
    step("--tilings bad.toml --precision tf32").failed(2, &["bad.toml", "deep by 7", "wide by 3"]);
    // What is there and is no such table stays as it is.
    folder.kerase(&bench("--tune bad.toml --precision tf32")).failed(2, &["bad.toml"]);
    assert!(read("bad.toml").contains("by 7") && !folder.path("new.toml").exists());
}

#[test]
fn bench_counts_and_times_operations() {
    let folder = Folder::new();
    let plan: serde_json::Value =
        serde_json::from_str(&folder.kerase("bench --plan h100 --json").succeeded()).unwrap();
    assert_eq!((&plan["precision"], &plan["low_memory"]), (&"tf32".into(), &false.into()));
    assert_eq!(plan["data_sheet_bytes_per_second"], 3.35e12);
    let total = &plan["total"];
    let [products, bytes] = ["matrix_flop", "bytes"].map(|name| total[name].as_f64().unwrap());
    // Three times the forward convolutions, 0.417 TFLOP, less the first layers' data gradients.
    assert!((1.2e12..1.26e12).contains(&products), "{products:e}");
    assert!((2.5e10..3.2e10).contains(&bytes), "{bytes:e}");
    let half = folder.kerase("bench --plan h100 --json --precision bf16").succeeded();
    let half = serde_json::from_str::<serde_json::Value>(&half).unwrap()["total"].take();
    assert_eq!(half["matrix_flop"], total["matrix_flop"]);
    let of_bytes = half["bytes"].as_f64().unwrap() / bytes;
    assert!((0.5..0.6).contains(&of_bytes), "{of_bytes}");
    let network =
        "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1 --coils 2 --height 24 --width 20";
    let inference = folder.kerase(&format!("bench --plan A100 --mode inference {network}")).succeeded();
    assert!(inference.contains("conv3x3") && !inference.contains("backward"), "{inference}");
    assert!(inference.contains("on A100, tf32") && inference.contains("GB/s (data sheet of A100)"));
    folder.kerase("bench --plan C64").failed(2, &["C64", "A10, A30"]);
    let side_by_side = format!("bench --plan A100,h100 --precision fp32 {network}");
    let text = folder.kerase(&side_by_side).succeeded();
    assert!(text.contains("H100") && text.contains("2039") && text.contains("66.9"), "{text}");
    let plans = folder.kerase(&format!("{side_by_side} --json")).succeeded();
    let plans: serde_json::Value = serde_json::from_str(&plans).unwrap();
    let ceiling = &plans[1]["ceiling"];
    assert_eq!(ceiling["name"], "H100");
    assert_eq!(ceiling["matrix_flop_per_second"], ceiling["flop_per_second"]);
    // Two U-Nets, forward and backward: what their layers have in common is made for all of them at once.
    let line = format!("bench --plan A100 --mode train --json --precision tf32 {network}");
    let plan: serde_json::Value = serde_json::from_str(&folder.kerase(&line).succeeded()).unwrap();
    let launches = |kernel: &str| plan["launches"][kernel].as_u64();
    assert_eq!((launches("conv3x3_filters_tf32"), launches("add_all_parts")), (Some(4), Some(2)), "{plan}");

    for device in ["cpu", "emulated"] {
        let line = format!("bench --operations --iters 1 --json --device {device} {network}");
        let report: serde_json::Value = serde_json::from_str(&folder.kerase(&line).succeeded()).unwrap();
        assert_eq!(report["iters"], 1);
        assert_eq!(report["copied_bytes_per_second"], report["ceiling"]["bytes_per_second"]);
        assert!(report["data_sheet_bytes_per_second"].is_null(), "{report}");
        let rows = report["shapes"].as_array().unwrap();
        assert!(rows.len() > 30 && rows.iter().all(|row| row["seconds"].as_f64().unwrap() > 0.0), "{report}");
        let sums = ["operations", "shapes"].map(|of| {
            report[of].as_array().unwrap().iter().map(|row| row["calls"].as_f64().unwrap()).sum::<f64>()
        });
        assert_eq!(sums, [report["total"]["calls"].as_f64().unwrap(); 2]);
    }
}

#[test]
fn info_plans_the_memory_of_a_network() {
    let folder = Folder::new();
    folder.weights("model.safetensors");
    let plan = |options: &str| -> serde_json::Value {
        let text = folder.kerase(&format!("info --plan --json {options}")).succeeded();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["plan"].take()
    };
    let (kept, again) = (plan(""), plan("--low-memory"));
    let total = |plan: &serde_json::Value, task: &str| plan[task]["total_bytes"].as_u64().unwrap();
    assert_eq!(kept["architecture"]["cascades"], 12);
    assert!(2 * total(&kept, "training") > 5 * total(&again, "training"), "{kept}");
    assert_eq!(total(&kept, "inference"), total(&again, "inference"));
    let bytes = kept["training"]["bytes"].as_object().unwrap();
    assert_eq!(bytes.values().map(|bytes| bytes.as_u64().unwrap()).sum::<u64>(), total(&kept, "training"));
    let sized = plan("--model model.safetensors --coils 3 --matrix 32 24 --batch 2");
    assert_eq!(sized["architecture"]["chans"], 2);
    assert_eq!((&sized["coils"], &sized["batch"]), (&3.into(), &2.into()));

    folder.simulate();
    std::fs::write(folder.path("both.txt"), folder.all_of(&["brain", "knee"])).unwrap();
    let of_set = plan("--model model.safetensors --data both.txt");
    let shape = |plan: &serde_json::Value| {
        (plan["coils"].clone(), plan["matrix"].clone(), plan["largest_of"].clone())
    };
    assert_eq!(shape(&of_set), (5.into(), serde_json::json!([72, 40]), "both.txt".into()));
    let coils = plan("--model model.safetensors --data brain --coils 7");
    assert_eq!(shape(&coils), (7.into(), serde_json::json!([64, 32]), "brain".into()));
    let own = plan("--model model.safetensors --data brain --coils 3 --matrix 32 24");
    assert_eq!(own, plan("--model model.safetensors --coils 3 --matrix 32 24"));
    let text = folder.kerase("info --plan --model model.safetensors --data knee").succeeded();
    assert!(
        text.contains("5 coils, 72 x 40, in fp32") && text.contains("the largest slices of knee"),
        "{text}"
    );

    let half = plan("--precision bf16");
    assert!(total(&half, "training") < total(&kept, "training") * 2 / 3, "{half}");
    let text = folder.kerase("info --plan --cascades 2 --coils 4 --precision tf32").succeeded();
    assert!(text.contains("2 cascades") && text.contains("gradients of maps"), "{text}");
    assert!(text.contains("in tf32"), "{text}");
    folder.kerase("info --coils 4").failed(2, &["--plan"]);
    folder.kerase("info --precision bf16").failed(2, &["--plan"]);
    folder.kerase("info --plan --model model.safetensors --chans 8").failed(2, &["--model"]);
    folder.kerase("info --plan --matrix 8 8 --pools 6").failed(2, &["8 × 8", "4 pools"]);
    folder.kerase("info --plan --coils 0").failed(2, &["--coils 0"]);
}

#[test]
fn info_describes_builds_weights_and_sets() {
    let folder = Folder::new();
    folder.simulate();
    let weights = folder.weights("model.safetensors");
    let text = folder.kerase("info").succeeded();
    assert!(text.contains(env!("CARGO_PKG_VERSION")) && text.contains("GPU"), "{text}");
    let text = folder.kerase("info --model model.safetensors --data knee --json").succeeded();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["model"]["parameters"], weights.parameters.len());
    assert_eq!(json["model"]["architecture"]["cascades"], 2);
    assert_eq!(json["data"]["shapes"][0]["matrix"], serde_json::json!([72, 40]));
}

/// Records say which commit measured; where this is a checkout, that is known.
#[test]
fn a_build_knows_its_commit() {
    let git = std::process::Command::new("git")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["rev-parse", "--show-prefix", "--short=12", "HEAD"])
        .output();
    let said = git.map(|output| String::from_utf8(output.stdout).unwrap()).unwrap_or_default();
    let commit = Folder::new().kerase("info --json").succeeded();
    let commit: serde_json::Value = serde_json::from_str(&commit).unwrap();
    let commit = &commit["build"]["commit"];
    // What it was told, it believes.
    if let Some(given) = std::env::var_os("KERASE_COMMIT").filter(|given| !given.is_empty()) {
        return assert_eq!(commit.as_str(), given.to_str());
    }
    match said.lines().collect::<Vec<_>>()[..] {
        ["", head] => assert_eq!(commit.as_str().unwrap().trim_end_matches('+'), head),
        _ => assert!(commit.is_null(), "no checkout, but {commit}"),
    }
}
