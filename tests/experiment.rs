//! Whole studies, in miniature: what they leave, that they can be cut short anywhere, and what they refuse.

#[path = "cli_support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use serde_json::Value;
use support::Folder;

const STUDY: &str = r#"
title = "A study for tests"
seeds = [1, 2]

[sets]
retain = { simulate = "brain", subjects = [1, 2] }
forget = { simulate = "knee", subjects = [1, 1] }
retain_test = { simulate = "brain", subjects = [11, 12] }
forget_test = { simulate = "knee", subjects = [11, 11] }

[simulate]
matrix = [32, 24]
recon = [24, 24]
coils = 2
slices = 2

[network]
cascades = 1
chans = 2
pools = 1
sens_chans = 2
sens_pools = 1

[sampling]
mask = "equispaced_fraction"
accelerations = [4]
center_fractions = [0.16]
mask_seed = "random"

[training]
epochs = 3

[unlearning]
epochs = 2
fraction = 0.5

[audit]
relearn_steps = 3

[[methods]]
method = "ft"

[[methods]]
method = "nl-ft"
noise = 1e-4

[[methods]]
method = "ga-l1"
label = "ascent"

[fractions]
methods = ["ft"]
fractions = [0.5, 1.0]
"#;

trait Studies {
    fn study(&self, name: &str, text: &str);
    fn results(&self, out: &str) -> Value;
    fn runs(&self, out: &str) -> BTreeSet<String>;
}

impl Studies for Folder {
    fn study(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Without what differs from time to time.
    fn results(&self, out: &str) -> Value {
        let mut results = self.json(&format!("{out}/results.json"));
        without_times(&mut results);
        results
    }

    fn runs(&self, out: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.path(out).join("runs")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "seconds" && name != "machine");
            fields.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}

fn named<'r>(results: &'r Value, label: &str) -> Vec<&'r Value> {
    results["runs"].as_array().unwrap().iter().filter(|run| run["label"] == label).collect()
}

#[test]
fn a_study_has_every_run_measured_after_every_epoch_and_is_not_repeated() {
    let folder = Folder::new();
    folder.study("study.toml", STUDY);
    let said = folder.kerase("experiment study.toml").succeeded();
    assert!(said.contains("finished: results in study/results.json"), "{said}");
    let results = folder.results("study");
    assert_eq!(results["title"], "A study for tests");
    for (label, runs, epochs) in
        [("G", 2, 1), ("oracle", 2, 1), ("ft", 4, 2), ("nl-ft", 2, 2), ("ascent", 2, 2)]
    {
        let runs_of = named(&results, label);
        assert_eq!(runs_of.len(), runs, "{label}");
        for run in runs_of {
            let measured = run["epochs"].as_array().unwrap();
            assert_eq!(measured.len(), epochs, "{label}");
            // Unlearning goes on counting where training ended.
            assert_eq!(measured.last().unwrap()["epoch"], 3 + if epochs == 2 { 2 } else { 0 });
            for epoch in measured {
                let sets = ["bta", "kta", "ua"].map(|set| epoch["measured"][set].as_array().unwrap().len());
                assert_eq!(sets, [2, 1, 1], "{label}");
            }
            assert!(!run["loss"].as_array().unwrap().is_empty());
        }
    }
    let seeds: Vec<_> = named(&results, "nl-ft").iter().map(|run| run["seed"].clone()).collect();
    assert_eq!(seeds, [1, 2]);
    let pictures = results["pictures"].as_array().unwrap();
    assert!(pictures.len() >= 4);
    for picture in pictures {
        let labels: Vec<_> =
            picture["images"].as_array().unwrap().iter().map(|image| image[0].clone()).collect();
        assert_eq!(labels, ["G", "oracle", "ft", "nl-ft", "ascent"]);
        let size = folder.read(&format!("study/{}", picture["target"].as_str().unwrap())).len();
        assert_eq!(size, 24 * 24 * 4);
    }

    let audits = results["audits"].as_array().unwrap();
    let audited: Vec<_> = audits.iter().map(|audit| (&audit["label"], &audit["seed"])).collect();
    assert_eq!(audited.len(), 6, "every compared run, and none of the sweep: {audited:?}");
    for audit in audits {
        let path = format!("study/{}", audit["audit"].as_str().unwrap());
        assert!(audit["membership"]["oracle"]["auc"].is_f64(), "{audit}");
        assert_eq!(audit["relearning"]["most_steps"], 3);
        folder.kerase(&format!("verify {path}")).succeeded();
    }
    assert!(folder.path("study/tables/evidence.csv").exists());
    let page = String::from_utf8(folder.read("study/report.html")).unwrap();
    assert!(page.contains("Evidence of forgetting") && page.contains("figure-distance"));

    let before = folder.runs("study");
    let again = folder.kerase("experiment study.toml").succeeded();
    assert!(!again.contains(" of "), "nothing is done again: {again}");
    assert_eq!(folder.results("study"), results);

    // Another λ: the runs of one method, and no other.
    folder.study("study.toml", &STUDY.replace("noise = 1e-4", "noise = 2e-4"));
    folder.kerase("experiment study.toml").succeeded();
    let new: Vec<String> = folder.runs("study").difference(&before).cloned().collect();
    assert_eq!(new.len(), 2, "{new:?}");
    assert!(new.iter().all(|run| run.starts_with("nl-ft-50pct-seed")), "{new:?}");
    assert_eq!(named(&folder.results("study"), "ft"), named(&results, "ft"));
    assert_ne!(named(&folder.results("study"), "nl-ft"), named(&results, "nl-ft"));
    let of_ft = |results: &Value| -> Vec<Value> {
        results["audits"].as_array().unwrap().iter().filter(|audit| audit["label"] == "ft").cloned().collect()
    };
    assert_eq!(of_ft(&folder.results("study")), of_ft(&results));

    // Without audits the runs stay as they are.
    let without = STUDY.replace("relearn_steps = 3", "enabled = false");
    folder.study("study.toml", &without.replace("noise = 1e-4", "noise = 2e-4"));
    folder.kerase("experiment study.toml").succeeded();
    assert!(folder.results("study").get("audits").is_none());
}

#[test]
fn a_study_that_is_killed_again_and_again_finds_the_same() {
    let folder = Folder::new();
    folder.study("study.toml", STUDY);
    folder.kerase("experiment study.toml --out undisturbed").succeeded();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut killed = 0;
    while killed < 10 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kerase"));
        command.current_dir(folder.path("")).args(["experiment", "study.toml", "--out", "disturbed"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(20..400)));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    assert!(killed >= 3, "killed {killed} times only: the study is too short to show anything");
    folder.kerase("experiment study.toml --out disturbed").succeeded();
    assert_eq!(folder.results("disturbed")["runs"], folder.results("undisturbed")["runs"]);
    assert_eq!(folder.results("disturbed")["audits"], folder.results("undisturbed")["audits"]);
}

#[test]
fn processes_share_a_study() {
    let folder = Folder::new();
    folder.study("study.toml", STUDY);
    folder.kerase("experiment study.toml --out alone").succeeded();
    folder.kerase("experiment study.toml --out shared --jobs 3").succeeded();
    assert_eq!(folder.results("shared")["runs"], folder.results("alone")["runs"]);
    assert_eq!(folder.results("shared")["audits"], folder.results("alone")["audits"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let folder = Folder::new();
    folder.study("study.toml", STUDY);
    let said = folder.kerase("experiment study.toml --dry-run").succeeded();
    // 6 slices in all, 3 epochs; half of 4 retain slices and 2 forget slices, 2 epochs.
    for part in ["original, seed 1", "18", "nl-ft, 50 % of the retain set, seed 2", "8", "MiB"] {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
    assert!(!folder.path("study").exists());
}

#[test]
fn what_cannot_be_studied_is_refused_before_anything_starts() {
    let folder = Folder::new();
    folder.simulate();
    let refused = |text: &str, parts: &[&str]| {
        folder.study("bad.toml", text);
        folder.kerase("experiment bad.toml").failed(2, parts);
        assert!(!folder.path("bad").exists(), "nothing is written");
    };
    refused(&STUDY.replace("cascades", "cascade"), &["bad.toml", "did you mean `cascades`?"]);
    refused(&STUDY.replace("epochs = 3", "epoch = 3"), &["did you mean `epochs`?"]);
    refused(&STUDY.replace("relearn_steps", "relearn_step"), &["did you mean `relearn_steps`?"]);
    refused(&STUDY.replace("subjects = [11, 12]", "subjects = [2, 3]"), &["retain_test", "in common"]);
    refused(&STUDY.replace("fraction = 0.5", "fraction = 0.05"), &["of the 4 slices", "choose at least"]);
    refused(&STUDY.replace("fraction = 0.5", "fraction = 1.5"), &["1.5", "up to 1"]);
    refused(&STUDY.replace("\"nl-ft\"", "\"nl-tf\""), &["no method nl-tf", "nl-ft"]);
    refused(&STUDY.replace("seeds = [1, 2]", "seeds = [1, 1]"), &["1 is listed twice"]);
    refused(&STUDY.replace("label = \"ascent\"", "label = \"ft\""), &["called ft"]);
    refused(&STUDY.replace("{ simulate = \"brain\", subjects = [1, 2] }", "\"nowhere\""), &["nowhere"]);
    refused(
        &STUDY.replace("{ simulate = \"brain\", subjects = [1, 2] }", "{ simulate = \"liver\" }"),
        &["simulate"],
    );
    folder.study("list.txt", "brain/file_brain_AXT2_200_0000001.h5\nbrain/missing.h5\n");
    refused(&STUDY.replace("{ simulate = \"brain\", subjects = [1, 2] }", "\"list.txt\""), &["missing.h5"]);
    // The same volumes under two names.
    let sets = [
        ("{ simulate = \"brain\", subjects = [1, 2] }", "\"brain\""),
        ("{ simulate = \"brain\", subjects = [11, 12] }", "\"brain\""),
    ];
    let both = sets.iter().fold(STUDY.to_string(), |text, (from, to)| text.replace(from, to));
    refused(&both, &["retain", "retain_test", "the same file"]);
}

#[test]
fn what_another_version_left_is_not_gone_on_with() {
    let folder = Folder::new();
    folder.study("study.toml", STUDY);
    folder.kerase("experiment study.toml").succeeded();
    let run = folder.runs("study").into_iter().find(|run| run.starts_with("oracle")).unwrap();
    let label = folder.path("study/runs").join(run).join("node.json");
    let text = std::fs::read_to_string(&label).unwrap();
    std::fs::write(&label, text.replace(env!("CARGO_PKG_VERSION"), "0.0.1")).unwrap();
    folder.kerase("experiment study.toml").failed(2, &["kerase 0.0.1", "another --out"]);
}
