//! The best network of a training, which it keeps beside its last: that it is the best, the same bits however often the
//! training was stopped and wherever it was killed, and that it can be used as any other.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::path::Path;

use kerase::simulate::Anatomy;
use num_complex::Complex32;
use run_support::{NETWORK_OPTIONS, Oddity, SAMPLING, Sets, volume, write_odd};
use serde_json::Value;
use support::Folder;

/// So fast that networks get better and worse again. By SSIM the best is that of the fourth of six epochs, by the other
/// measures that of the third.
const RATE: &str = "--validation test --lr 0.3";

fn train(run: &str, options: &str) -> String {
    format!("train --data brain --out {run} {NETWORK_OPTIONS} {SAMPLING} {options}")
}

fn copy(folder: &Folder, from: &str, to: &str) {
    let [from, to] = [from, to].map(|name| folder.path(name));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn the_best_is_what_evaluate_finds_best() {
    let folder = Folder::new();
    folder.sets();
    let mut scores = Vec::new();
    for epoch in 1..=6 {
        let steps = 6 * epoch;
        folder
            .kerase(&train(&format!("at{epoch}"), &format!("{RATE} --keep-best none --max-steps {steps}")))
            .succeeded();
        assert!(!folder.path(&format!("at{epoch}/best")).exists());
        let line =
            format!("evaluate --model at{epoch}/model.safetensors --data test {SAMPLING} --out {epoch}.json");
        folder.kerase(&line).succeeded();
        scores.push(folder.json(&format!("{epoch}.json"))["summary"][0]["scores"].clone());
    }
    let mut chosen = Vec::new();
    for (measure, option, sign) in
        [("psnr", "--keep-best psnr", 1.0), ("ssim", "", 1.0), ("nmse", "--keep-best nmse", -1.0)]
    {
        let value = |epoch: usize| sign * scores[epoch][measure]["mean"].as_f64().unwrap();
        let best = (0..6).max_by(|&a, &b| value(a).total_cmp(&value(b))).unwrap();
        let said = folder.kerase(&train(measure, &format!("{RATE} --epochs 6 {option}")));
        let line = format!("epoch {} (step {}), by {}", best + 1, 6 * (best + 1), measure.to_uppercase());
        assert!(said.stderr.contains(&line) && said.stderr.contains(&format!("{measure}/best")), "{line}");
        said.succeeded();

        let kept = folder.best(measure).unwrap();
        let mut at = folder.state(&format!("at{}", best + 1));
        assert!(kept.model == folder.read(&format!("at{}/model.safetensors", best + 1)), "{measure}");
        // Before the epoch was closed.
        assert_eq!((kept.state.state.epoch, kept.state.state.step_in_epoch), (best as u64, 6));
        at.state = kept.state.state.clone();
        assert_eq!(kept.state, at);
        let config = folder.read(&format!("{measure}/config.toml"));
        assert_eq!(folder.read(&format!("{measure}/best/config.toml")), config);
        assert!(String::from_utf8(config).unwrap().contains(&format!("keep_best = \"{measure}\"")));

        assert_eq!(kept.said["by"], measure);
        assert_eq!([&kept.said["epoch"], &kept.said["step"]], [best, 6 * (best + 1)]);
        for score in ["psnr", "ssim", "nmse"] {
            assert_eq!(kept.said[score], scores[best][score]["mean"]);
        }
        let summary = folder.json(&format!("{measure}/summary.json"));
        assert_eq!(summary["best"], kept.said);
        assert_eq!(summary["validation"], scores[5]);
        chosen.push(best);
    }
    assert_eq!(chosen, [2, 3, 2], "measures differ, and the last is not the best, or this would show less");

    let ended = folder.kerase(&train("last", &format!("{RATE} --max-steps 24")));
    assert!(!ended.stderr.contains("best on the validation set"), "it is the last: {}", ended.stderr);
    assert_eq!(folder.best("last").unwrap().said["epoch"], 3);
}

/// An end within an epoch is measured, and may be the best; but not for the run that goes on.
#[test]
fn a_run_in_parts_keeps_the_same_network() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("whole", &format!("{RATE} --epochs 6"))).succeeded();
    let whole = folder.lasting("whole");
    folder.kerase(&train("parts", &format!("{RATE} --max-steps 1"))).succeeded();
    let (mut within, mut replaced) = (0, 0);
    for most in 1..=36 {
        folder.kerase(&format!("train --resume --out parts --max-steps {most}")).succeeded();
        let best = folder.best("parts").unwrap().said;
        let validation = folder.json("parts/summary.json")["validation"]["ssim"]["mean"].as_f64();
        assert!(best["ssim"].as_f64() >= validation, "{most}: {best}");
        if !best["step"].as_u64().unwrap().is_multiple_of(6) {
            assert_eq!(best["step"], most);
            within += 1;
            replaced += usize::from(most > 6);
        }
        // Killed after its end and before its summary.
        if most % 5 == 0 {
            let before = folder.lasting("parts");
            std::fs::remove_file(folder.path("parts/summary.json")).unwrap();
            folder.kerase("train --resume --out parts").succeeded();
            assert_eq!(folder.lasting("parts"), before, "{most}");
            assert_eq!(folder.json("parts/summary.json")["best"], best);
        }
    }
    assert!(within > replaced && replaced > 0, "{within} {replaced}: nothing was shown");
    assert_eq!(folder.lasting("parts"), whole);
    assert!(!folder.list("parts").iter().any(|name| name.contains(".best")), "{:?}", folder.list("parts"));
}

/// The end of the fourth epoch, whose network is better than those before, with a run killed at each point where that is
/// kept.
#[test]
fn a_kill_while_the_best_is_replaced_changes_no_bit() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("ended", &format!("{RATE} --max-steps 24"))).succeeded();
    folder.kerase(&train("whole", &format!("{RATE} --epochs 6"))).succeeded();
    folder.kerase(&train("killed", &format!("{RATE} --max-steps 18"))).succeeded();
    let (ended, whole) = (folder.lasting("ended"), folder.lasting("whole"));

    // Saved, not yet measured.
    let name = "test/file_brain_AXT2_200_0000003.h5";
    std::fs::rename(folder.path(name), folder.path("away.h5")).unwrap();
    let mut bad = volume(Anatomy::Brain, 3, 3, 24);
    bad.kspace[7] = Complex32::new(f32::NAN, 0.0);
    write_odd(&folder.path(name), &bad, Oddity::default());
    folder.kerase("train --resume --out killed --max-steps 24").failed(2, &[name, "slice 0"]);
    std::fs::rename(folder.path("away.h5"), folder.path(name)).unwrap();
    assert_eq!(folder.state("killed").state.step, 24);
    assert_eq!(folder.best("killed").unwrap().said["step"], 18);

    let old = |to: &str| copy(&folder, "killed/best", to);
    let new = |to: &str| copy(&folder, "ended/best", to);
    let remove = |name: String| std::fs::remove_file(folder.path(&name)).unwrap();
    type State<'s> = (&'s str, &'s dyn Fn(&str));
    let states: [State; 8] = [
        ("before", &|run| old(&format!("{run}/best"))),
        ("copying", &|run| {
            old(&format!("{run}/best"));
            new(&format!("{run}/.best-next"));
            remove(format!("{run}/.best-next/best.json"));
            remove(format!("{run}/.best-next/model.safetensors"));
            std::fs::write(folder.path(&format!("{run}/.best-next/.kerase-a1.partial")), "half").unwrap();
        }),
        ("copied", &|run| {
            old(&format!("{run}/best"));
            new(&format!("{run}/.best-next"));
        }),
        ("between", &|run| {
            old(&format!("{run}/.best-before"));
            new(&format!("{run}/.best-next"));
            // There is none for this moment, which whoever asks for it is told.
            folder
                .kerase(&format!("evaluate --model {run}/best/model.safetensors --data test {SAMPLING}"))
                .failed(2, &["best/model.safetensors", "No such file"]);
        }),
        ("renamed", &|run| {
            old(&format!("{run}/.best-before"));
            new(&format!("{run}/best"));
        }),
        ("removing", &|run| {
            old(&format!("{run}/.best-before"));
            remove(format!("{run}/.best-before/best.json"));
            remove(format!("{run}/.best-before/config.toml"));
            new(&format!("{run}/best"));
        }),
        ("after", &|run| new(&format!("{run}/best"))),
        // What lies in the way was removed halfway, on the way back to what was best before.
        ("back", &|run| {
            old(&format!("{run}/.best-before"));
            new(&format!("{run}/best"));
            remove(format!("{run}/best/best.json"));
        }),
    ];
    for (state, arrange) in states {
        for (goal, expected) in [("--max-steps 24", &ended), ("--epochs 6 --max-steps 1000", &whole)] {
            let run = format!("{state}{}", goal.len());
            copy(&folder, "killed", &run);
            arrange(&run);
            let said = folder.kerase(&format!("train --resume --out {run} {goal}"));
            assert!(!said.stderr.contains("warning"), "{state}: {}", said.stderr);
            said.succeeded();
            assert_eq!(folder.lasting(&run), *expected, "{state}, {goal}");
            assert!(!folder.list(&run).iter().any(|name| name.contains(".best")), "{state}, {goal}");
        }
    }

    // Nothing is left to measure: what was best before is brought back all the same.
    copy(&folder, "killed", "shorter");
    old("shorter/.best-before");
    folder.kerase("train --resume --out shorter --epochs 3 --max-steps 1000").succeeded();
    assert_eq!(folder.best("shorter").unwrap().said["step"], 18);

    // It is not the program that takes it away: what was better than all to come is not there any more.
    copy(&folder, "killed", "lost");
    let said = folder.kerase("train --resume --out lost --epochs 5");
    assert!(said.stderr.contains("warning: lost/best does not hold the best network of the 3 epochs before"));
    assert_eq!(folder.best("lost").unwrap().said["epoch"], 3);
    copy(&folder, "killed", "broken");
    old("broken/best");
    std::fs::write(folder.path("broken/best/best.json"), "{\"by\":").unwrap();
    folder.kerase("train --resume --out broken").failed(2, &["broken/best/best.json", "remove broken/best"]);
}

/// A rate at which no weight moves.
#[test]
fn of_equal_networks_the_first_is_kept() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("run", "--validation test --lr 1e-30 --epochs 3")).succeeded();
    let validations = folder.lines("run", "validation");
    assert!(validations.iter().all(|line| line["ssim"] == validations[0]["ssim"]), "{validations:?}");
    assert_eq!(folder.best("run").unwrap().said["epoch"], 0);
}

#[test]
fn what_is_kept_is_chosen_once() {
    let folder = Folder::new();
    folder.sets();
    folder
        .kerase(&train("run", "--keep-best psnr --epochs 1"))
        .failed(2, &["--keep-best psnr", "name one with --validation"]);
    assert!(!folder.path("run").exists());
    folder.kerase(&train("run", "--keep-best none --epochs 1")).succeeded();
    assert!(!folder.path("run/best").exists());
    folder.kerase(&train("run", &format!("{RATE} --keep-best l1"))).failed(2, &["l1", "psnr", "nmse"]);

    let begun = train("run", &format!("{RATE} --max-steps 7"));
    folder.kerase(&format!("{begun} --overwrite --keep-best psnr")).succeeded();
    for measure in ["ssim", "psnr", "none"] {
        folder
            .kerase(&format!("train --resume --out run --max-steps 8 --keep-best {measure}"))
            .failed(2, &["--resume goes on with the settings"]);
    }
    let auto = begun.replace("--max-steps 7", "--max-steps 8 --resume auto");
    folder.kerase(&format!("{auto} --keep-best nmse")).failed(2, &["run began with another keep_best"]);
    folder.kerase(&auto).succeeded();
    assert_eq!(folder.best("run").unwrap().said["by"], "psnr");

    // A run that was begun before there was a choice goes on without one.
    folder.kerase(&format!("{begun} --overwrite --keep-best none")).succeeded();
    let config = String::from_utf8(folder.read("run/config.toml")).unwrap();
    assert!(!config.contains("keep_best"), "{config}");
    folder.kerase(&auto).succeeded();
    folder.kerase("train --resume --out run --max-steps 12").succeeded();
    assert!(!folder.path("run/best").exists());
    assert_eq!(folder.json("run/summary.json")["best"], Value::Null);
}

#[test]
fn a_new_run_takes_the_old_ones_best_away() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("run", &format!("{RATE} --epochs 6"))).succeeded();
    let before = folder.contents("run");

    // It is no run's directory, and no place to begin from where it would be removed first.
    for line in [
        train("run/best", "--overwrite --epochs 1"),
        "train --resume --out run/best --epochs 9".into(),
        format!(
            "unlearn --method nl --model run/model.safetensors --retain brain --forget knee --out run/best {SAMPLING}"
        ),
    ] {
        folder.kerase(&line).failed(2, &["run/best is where a run keeps its best network"]);
    }
    folder
        .kerase(&train("run", "--overwrite --init run/best/model.safetensors"))
        .failed(2, &["--init run/best/model.safetensors", "choose another --out"]);
    assert_eq!(folder.contents("run"), before);

    // Nothing but the best was left of a run.
    copy(&folder, "run/best", "left/best");
    folder.kerase(&train("left", "--epochs 1")).failed(2, &["left already holds a run", "best/model"]);

    std::fs::write(folder.path("run/best/notes.txt"), "mine").unwrap();
    copy(&folder, "run/best", "run/.best-before");
    copy(&folder, "run/best", "run/.best-next");
    folder.kerase(&train("run", "--overwrite --epochs 1")).succeeded();
    let left: Vec<String> = folder
        .list("run")
        .into_iter()
        .filter(|name| name.contains("best/") || name.contains(".best"))
        .collect();
    assert_eq!(left[..1], [".best-before"], "what others put there stays: {left:?}");
    assert!(left.iter().all(|name| !name.contains('/') || name.ends_with("notes.txt")), "{left:?}");
}

#[test]
fn the_best_network_is_used_as_any_other() {
    let folder = Folder::new();
    folder.sets();
    folder.kerase(&train("run", &format!("{RATE} --epochs 6"))).succeeded();
    let line = |out: &str, options: &str| {
        format!(
            "unlearn --method nl --model run/best/model.safetensors --retain brain --forget knee --no-measure \
             --max-steps 1 --out {out} {options}"
        )
    };
    folder.kerase(&line("unlearned", &format!("--optimizer-state resume {SAMPLING}"))).succeeded();
    assert_eq!(folder.state("unlearned").state.adam_step, 24 + 1);
    let said = folder.kerase(&line("other", "--acceleration 8 --center-fraction 0.08"));
    assert!(said.stderr.contains("run/best/config.toml: the network was trained with"), "{}", said.stderr);
    said.succeeded();
    // Where nothing is said it is what the network was trained with.
    let said = folder.kerase(&line("alike", ""));
    assert!(said.stderr.contains("as in training (run/best/config.toml): "), "{}", said.stderr);
    said.succeeded();
    let sampling = |run: &str| {
        let text = std::fs::read_to_string(folder.path(&format!("{run}/config.toml"))).unwrap();
        toml::from_str::<toml::Table>(&text).unwrap()["sampling"].clone()
    };
    assert_eq!(sampling("alike"), sampling("run"));

    // The state that training ended with.
    std::fs::copy(folder.path("run/state.safetensors"), folder.path("run/best/state.safetensors")).unwrap();
    folder
        .kerase(&line("mixed", SAMPLING))
        .failed(2, &["run/best/state.safetensors belongs to other weights", "--optimizer-state fresh"]);
    assert!(!Path::new(&folder.path("mixed")).exists());
}
