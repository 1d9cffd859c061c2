//! Whole studies, in miniature: what they leave, that they can be cut short anywhere, and what they refuse.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kerase::batch::Sampling;
use kerase::data::mask::MaskKind;
use kerase::device::DeviceChoice;
use kerase::experiment::results::Kinds;
use kerase::experiment::settings::Fractions;
use kerase::experiment::{Graph, Settings};
use kerase::model::Architecture;
use kerase::precision::Precision;
use kerase::unlearn::METHODS;
use rand::{RngExt, SeedableRng};
use run_support::Sets;
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
            fields.retain(|name, _| !["seconds", "threads"].contains(&name.as_str()));
            fields.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}

fn named<'r>(results: &'r Value, label: &str) -> Vec<&'r Value> {
    results["runs"].as_array().unwrap().iter().filter(|run| run["label"] == label).collect()
}

/// The paper's masks, where nobody says.
#[test]
fn sampling_has_defaults() {
    let (before, rest) = STUDY.split_once("[sampling]").unwrap();
    let (_, after) = rest.split_once("[training]").unwrap();
    let settings = Settings::parse(&format!("{before}[training]{after}")).unwrap();
    assert_eq!(
        (&settings.sampling.accelerations[..], &settings.sampling.center_fractions[..]),
        (&[8][..], &[0.04][..])
    );
}

#[test]
fn network_and_sampling_may_be_given_in_part() {
    let (before, rest) = STUDY.split_once("[network]").unwrap();
    let (_, after) = rest.split_once("[training]").unwrap();
    let with = |tables: &str| Settings::parse(&format!("{before}{tables}\n[training]{after}"));
    let settings =
        with("[network]\ncascades = 2\n[sampling]\naccelerations = [4, 8]\nmask = \"random\"").unwrap();
    assert_eq!(settings.network, Architecture { cascades: 2, ..Architecture::default() });
    let sampling = Sampling {
        mask: MaskKind::Random,
        accelerations: vec![4, 8],
        center_fractions: vec![0.08, 0.04],
        ..Sampling::default()
    };
    assert_eq!(settings.sampling, sampling);
    for (tables, parts) in [
        ("[network]\ncascade = 2", ["unknown field `cascade`", "did you mean `cascades`?"]),
        ("[sampling]\naccelerations = [\"four\"]", ["four", "u32"]),
        (
            "[sampling]\naccelerations = [4]\ncenter_fractions = [0.1, 0.2]",
            ["2 center fractions", "1 accelerations"],
        ),
    ] {
        let message = with(tables).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    for label in ["G", "oracle"] {
        let (first, rest) = STUDY.split_once("[[methods]]").unwrap();
        let message = Settings::parse(&format!("{first}[[methods]]\nlabel = \"{label}\"{rest}"))
            .unwrap_err()
            .to_string();
        assert!(message.contains(label) && message.contains("another label"), "{message}");
    }
}

/// Every key of every table stands in docs/study-file.md.
#[test]
fn the_file_of_a_study_is_documented() {
    let text = include_str!("../docs/study-file.md");
    let all = Settings {
        device: Some(DeviceChoice::Cpu),
        precision: Some(Precision::Fp32),
        fractions: Some(Fractions { methods: vec!["ft".into()], fractions: vec![0.5] }),
        ..Settings::parse(STUDY).unwrap()
    };
    let mut keys = Vec::new();
    gather_keys(&toml::Value::try_from(all).unwrap(), &mut keys);
    let optional =
        ["lr", "virtual_coils", "retain_validation", "kinds", "keep_best", "label", "forget_weight", "noise"];
    keys.extend(optional.map(String::from));
    let names: Vec<String> =
        METHODS.iter().flat_map(|method| method.defaults.knobs()).map(|knob| knob.key().into()).collect();
    for key in keys.iter().chain(&names) {
        assert!(text.contains(&format!("`{key}`")), "`{key}` is not in docs/study-file.md");
    }
}

fn gather_keys(value: &toml::Value, keys: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
            // Tables have headings, and what a set is simulated from stands in an example.
            if !value.is_table()
                && !["simulate", "subjects"].contains(&key.as_str())
                && !value.as_array().is_some_and(|of| of.iter().any(toml::Value::is_table))
            {
                keys.push(key.clone());
            }
            gather_keys(value, keys);
        }),
        toml::Value::Array(values) => values.iter().for_each(|value| gather_keys(value, keys)),
        _ => {}
    }
}

#[test]
fn sets_of_one_kind_are_called_by_what_becomes_of_them() {
    let one_kind = STUDY
        .replace("\"knee\", subjects = [1, 1]", "\"brain\", subjects = [3, 3]")
        .replace("\"knee\", subjects = [11, 11]", "\"brain\", subjects = [13, 13]");
    let Kinds { retain, forget } = Settings::parse(&one_kind).unwrap().sets.kinds();
    assert_eq!([retain, forget], ["retain", "forget"]);
    let named = one_kind.replace("[sets]", "[sets]\nkinds = { retain = \"others\", forget = \"patient 3\" }");
    let Kinds { retain, forget } = Settings::parse(&named).unwrap().sets.kinds();
    assert_eq!([retain, forget], ["others", "patient 3"]);
}

#[test]
fn a_study_has_every_run_measured_after_every_epoch_and_is_not_repeated() {
    let folder = Folder::new();
    folder.study("study.toml", STUDY);
    let said = folder.kerase("experiment study.toml").succeeded();
    assert!(said.contains("finished: results in study/results.json"), "{said}");
    let results = folder.results("study");
    assert_eq!(results["title"], "A study for tests");
    assert_eq!(
        results["kinds"],
        serde_json::json!({ "retain": "brain", "forget": "knee" }),
        "what is simulated"
    );
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
        assert!(folder.path(&path).with_extension("html").exists(), "{path}");
    }
    assert!(folder.path("study/tables/evidence.csv").exists());
    let page = String::from_utf8(folder.read("study/report.html")).unwrap();
    assert!(page.contains("Evidence of forgetting") && page.contains("figure-distance"));

    let before = folder.runs("study");
    let again = folder.kerase("experiment study.toml").succeeded();
    assert!(!again.contains(" of "), "nothing is done again: {again}");
    let left = folder.kerase("experiment study.toml --dry-run").succeeded();
    assert!(left.contains(" parts, all of them done"), "{left}");
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
    let started = Instant::now();
    folder.kerase("experiment study.toml --out undisturbed").succeeded();
    // Ten of these are half as long as the study.
    let longest = started.elapsed().as_millis() as u64 / 10;
    for (out, jobs) in [("disturbed", "1"), ("shared", "2")] {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        for kill in 0..10 {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kerase"));
            command.current_dir(folder.path(""));
            command.args(["experiment", "study.toml", "--out", out, "--jobs", jobs]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(random.random_range(0..longest)));
            assert!(child.try_wait().unwrap().is_none(), "the study ended before kill {kill}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        folder.kerase(&format!("experiment study.toml --out {out}")).succeeded();
        assert_eq!(folder.results(out)["runs"], folder.results("undisturbed")["runs"]);
        assert_eq!(folder.results(out)["audits"], folder.results("undisturbed")["audits"]);
    }
}

/// A study whose networks are chosen by volumes that no table is about.
fn with_validation() -> String {
    let sets = "forget_test = { simulate = \"knee\", subjects = [11, 11] }";
    let validation = "retain_validation = { simulate = \"brain\", subjects = [21, 22] }\n\
                      forget_validation = { simulate = \"knee\", subjects = [21, 21] }";
    let text = STUDY.replace(sets, &format!("{sets}\n{validation}"));
    // A step so long that the last epoch is not the best.
    text.replace("epochs = 3", "epochs = 6\nlr = 0.1\nkeep_best = \"psnr\"")
}

#[test]
fn networks_are_those_of_the_best_epochs() {
    let folder = Folder::new();
    folder.study("study.toml", &with_validation());
    let planned = folder.kerase("experiment study.toml --dry-run").succeeded();
    let line = planned.lines().find(|line| line.contains("original, seed 1  ")).unwrap();
    // 6 epochs of 6 slices to learn, and of 6 slices to choose by.
    let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[..3], ["original, seed 1", "36", "36"], "{line}");
    folder.kerase("experiment study.toml").succeeded();
    let results = folder.results("study");
    let mut early = 0;
    for (label, volumes) in [("G", 3), ("oracle", 2)] {
        for run in named(&results, label) {
            let directory = format!("study/{}", run["directory"].as_str().unwrap());
            let validations = folder.lines(&directory, "validation");
            assert_eq!(validations.len(), 6);
            assert!(
                validations.iter().all(|v| v["volumes"] == volumes),
                "{label} is chosen by {validations:?}"
            );
            let psnr = |v: &Value| v["psnr"].as_f64().unwrap();
            let best = validations.iter().max_by(|a, b| psnr(a).total_cmp(&psnr(b))).unwrap();
            let kept = run["kept_epoch"].as_u64().unwrap();
            assert_eq!(kept - 1, best["epoch"].as_u64().unwrap(), "{label}");
            early += usize::from(kept < 6);

            // What the tables say of it.
            let evaluate = format!(
                "evaluate --model {directory}/best/model.safetensors --data {} --mask equispaced_fraction \
                 --acceleration 4 --center-fraction 0.16 --out metrics.json --overwrite",
                folder
                    .list("study/data")
                    .iter()
                    .find(|set| set.starts_with("retain_test"))
                    .map(|set| { format!("bta=study/data/{set}") })
                    .unwrap()
            );
            folder.kerase(&evaluate).succeeded();
            let metrics = folder.json("metrics.json").to_string();
            for volume in run["epochs"][0]["measured"]["bta"].as_array().unwrap() {
                let psnr = volume["scores"]["psnr"].to_string();
                assert!(metrics.contains(&psnr), "{label}: {psnr} is not in {metrics}");
            }
        }
    }
    assert!(early > 0, "the best was always the last: this tests nothing");
    // Methods begin with the network that was kept, and what has it in its name is what audits are about.
    let run = format!("study/{}", named(&results, "ft")[0]["directory"].as_str().unwrap());
    let config = String::from_utf8(folder.read(&format!("{run}/config.toml"))).unwrap();
    assert!(
        config.lines().any(|line| line.starts_with("model = ") && line.ends_with("best/model.safetensors\""))
    );
    for audit in results["audits"].as_array().unwrap() {
        let record = folder.json(&format!("study/{}", audit["audit"].as_str().unwrap()));
        for network in ["before", "oracle"] {
            let path = record["weights"][network]["path"].as_str().unwrap();
            assert!(path.ends_with("best/model.safetensors"), "{network}: {path}");
        }
        folder.kerase(&format!("verify study/{}", audit["audit"].as_str().unwrap())).succeeded();
    }
    let page = String::from_utf8(folder.read("study/report.html")).unwrap();
    assert!(page.contains("epoch kept") && page.contains("the best on the validation sets"));

    // Without the choice other trainings, and nothing of it.
    folder.study("study.toml", STUDY);
    folder.kerase("experiment study.toml --out without").succeeded();
    assert!(named(&folder.results("without"), "G").iter().all(|run| run.get("kept_epoch").is_none()));
    let page = String::from_utf8(folder.read("without/report.html")).unwrap();
    assert!(!page.contains("epoch kept"));
}

#[test]
fn a_choice_of_networks_needs_its_sets() {
    let folder = Folder::new();
    let refused = |text: &str, parts: &[&str]| {
        folder.study("bad.toml", text);
        folder.kerase("experiment bad.toml").failed(2, parts);
        assert!(!folder.path("bad").exists(), "nothing is written");
    };
    let whole = with_validation();
    let without = |line: &str| {
        let lines: Vec<&str> = whole.lines().filter(|other| !other.starts_with(line)).collect();
        lines.join("\n")
    };
    refused(&without("keep_best"), &["sets.retain_validation has no effect without training.keep_best"]);
    refused(&without("retain_validation"), &["training.keep_best = \"psnr\" needs sets.retain_validation"]);
    refused(
        &without("retain_validation").replace("keep_best = \"psnr\"", ""),
        &["sets.forget_validation needs sets.retain_validation"],
    );
    refused(&whole.replace("psnr", "loss"), &["unknown variant `loss`", "psnr"]);
    refused(&whole.replace("[21, 22]", "[12, 21]"), &["retain_validation", "retain_test", "in common"]);
    // One kind of volumes is enough.
    folder.study("one.toml", &without("forget_validation"));
    folder.kerase("experiment one.toml --dry-run").succeeded();
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
fn rows_that_are_one_run_are_computed_once() {
    let folder = Folder::new();
    let full = "[[methods]]\nmethod = \"ft\"\nlabel = \"full-ft\"\nfraction = 1.0\n\n[fractions]";
    folder.study(
        "study.toml",
        &STUDY.replace("[fractions]", full).replace("[1, 2]\n\n[sets]", "[1]\n\n[sets]"),
    );
    folder.kerase("experiment study.toml").succeeded();
    let results = folder.results("study");
    let all_of_it = |label: &str| -> Value {
        let runs = named(&results, label);
        runs.into_iter().find(|run| run["fraction"] == 1.0).cloned().unwrap()
    };
    let (swept, compared) = (all_of_it("ft"), all_of_it("full-ft"));
    assert_eq!((&swept["compared"], &compared["compared"]), (&false.into(), &true.into()));
    assert_eq!(swept["directory"], compared["directory"]);
    assert_eq!(swept["epochs"], compared["epochs"]);
    assert_eq!(folder.runs("study").iter().filter(|run| run.starts_with("ft-100pct")).count(), 1);
    let audited = results["audits"].as_array().unwrap().iter().map(|audit| audit["label"].as_str().unwrap());
    assert_eq!(audited.collect::<Vec<_>>(), ["ft", "nl-ft", "ascent", "full-ft"]);

    // Another name for it, and settings that it does not depend on: nothing is done again.
    let before = folder.runs("study");
    let renamed = STUDY.replace("label = \"ascent\"", "label = \"descent\"");
    let renamed = renamed
        .replace("[1, 2]\n\n[sets]", "[1]\n\n[sets]")
        .replace("epochs = 3", "epochs = 3\nlow_memory = true");
    folder.study("study.toml", &renamed.replace("fractions = [0.5, 1.0]", "fractions = [0.5]"));
    folder.kerase("experiment study.toml").succeeded();
    assert_eq!(folder.runs("study"), before);
    assert_eq!(named(&folder.results("study"), "descent").len(), 1);
}

#[test]
fn a_method_that_diverges_at_once_is_a_result() {
    let folder = Folder::new();
    folder.study("study.toml", &STUDY.replace("label = \"ascent\"", "label = \"ascent\"\ngamma = 1e38"));
    folder.kerase("experiment study.toml").succeeded();
    let results = folder.results("study");
    for run in named(&results, "ascent") {
        assert_eq!(run["epochs"].as_array().unwrap().len(), 1, "{run}");
        assert!(run["epochs"][0]["measured"].is_null() && !run["warnings"].as_array().unwrap().is_empty());
    }
    for picture in results["pictures"].as_array().unwrap() {
        let labels: Vec<_> = picture["images"].as_array().unwrap().iter().map(|image| &image[0]).collect();
        assert_eq!(labels, ["G", "oracle", "ft", "nl-ft"]);
    }
    let audits = results["audits"].as_array().unwrap();
    let flags =
        audits.iter().filter(|audit| audit["label"] == "ascent").map(|audit| &audit["flags"][0]["kind"]);
    assert_eq!(flags.collect::<Vec<_>>(), ["diverged", "diverged"]);
    let page = String::from_utf8(folder.read("study/report.html")).unwrap();
    assert!(page.contains("diverged"));
}

#[test]
fn audits_see_what_the_study_measures() {
    let folder = Folder::new();
    let virtual_coils = STUDY.replace("mask_seed = \"random\"", "mask_seed = \"random\"\nvirtual_coils = 1");
    folder.study("study.toml", &virtual_coils);
    folder.kerase("experiment study.toml").succeeded();
    let results = folder.results("study");
    let run = named(&results, "ft").into_iter().find(|run| run["compared"] == true).unwrap();
    let measured = &run["epochs"].as_array().unwrap().last().unwrap()["measured"];
    let audit = results["audits"].as_array().unwrap().iter();
    let audit =
        audit.into_iter().find(|audit| (&audit["label"], &audit["seed"]) == (&run["label"], &run["seed"]));
    let record = folder.json(&format!("study/{}", audit.unwrap()["audit"].as_str().unwrap()));
    for (set, measure) in [("forget", "ua"), ("unseen", "kta"), ("retain_test", "bta")] {
        let of_set = record["sets"].as_array().unwrap().iter().find(|found| found["set"] == set).unwrap();
        let volumes = of_set["scores"]["after"]["volumes"].as_array().unwrap();
        let scores: Vec<_> = volumes.iter().map(|volume| &volume["scores"]).collect();
        let expected: Vec<_> = measured[measure].as_array().unwrap().iter().map(|v| &v["scores"]).collect();
        assert_eq!(scores, expected, "{set}");
    }
}

#[test]
fn an_audit_of_other_settings_is_made_again() {
    let folder = Folder::new();
    let study = STUDY.replace("[1, 2]\n\n[sets]", "[1]\n\n[sets]");
    for steps in [3, 2, 3] {
        folder.study("study.toml", &study.replace("relearn_steps = 3", &format!("relearn_steps = {steps}")));
        folder.kerase("experiment study.toml").succeeded();
        for audit in folder.results("study")["audits"].as_array().unwrap() {
            assert_eq!(audit["relearning"]["most_steps"], steps);
        }
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let folder = Folder::new();
    // More than there are slices.
    folder.study("large.toml", &STUDY.replace("[training]", "[training]\nbatch = 30000"));
    folder.kerase("experiment large.toml --dry-run").succeeded();
    folder.study("study.toml", STUDY);
    let said = folder.kerase("experiment study.toml --dry-run").succeeded();
    // 6 slices in all, 3 epochs; half of 4 retain slices and 2 forget slices, 2 epochs, each measured on 8 slices.
    for (part, steps, slices) in [
        ("original, seed 1", "18", "0"),
        ("oracle, seed 2, measured", "0", "8"),
        ("nl-ft, 50 % of the retain set, seed 2", "8", "16"),
    ] {
        let line = said.lines().find(|line| line.split("  ").any(|cell| cell.trim() == part));
        let line = line.unwrap_or_else(|| panic!("'{part}' has no line in: {said}"));
        let cells = line.replace(part, "");
        assert_eq!(cells.split_whitespace().take(2).collect::<Vec<_>>(), [steps, slices], "{line}");
        assert!(line.trim_end().ends_with('s'), "it takes no time: {line}");
    }
    let number_before = |unit: &str| -> f64 {
        let end = said.find(unit).unwrap_or_else(|| panic!("no {unit} in: {said}"));
        said[..end].split_whitespace().next_back().unwrap().parse().unwrap()
    };
    assert!(number_before("ms a step") > 0.0 && number_before("ms a slice") > 0.0, "{said}");
    // 2 · 32 · 24 pixels of coil images, and little else.
    assert!((0.1..10.0).contains(&number_before("MiB")), "{said}");
    assert!(!folder.path("study").exists());
}

#[test]
fn the_experiments_that_come_with_it_can_be_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let out = Folder::new();
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let settings = Settings::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The paper's sets are the user's.
        if settings.simulate.is_some() {
            let graph = Graph::plan(&settings, &out.path("out"), Precision::Fp32).unwrap();
            assert!(graph.nodes.iter().any(|node| node.work.steps > 0), "{}", path.display());
        }
        read += 1;
    }
    assert_eq!(read, 3);
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
        &["unknown variant `liver`, expected `brain` or `knee`"],
    );
    refused(&STUDY.replace("subjects = [1, 2] }", "subject = [1, 2] }"), &["did you mean `subjects`?"]);
    refused(&STUDY.replace("{ simulate = \"brain\", subjects = [1, 2] }", "7"), &["a path, or { simulate ="]);
    refused(&STUDY.replace("fractions = [0.5, 1.0]", "fractions = [0.5, 0.5]"), &["0.5 is listed twice"]);
    refused(&STUDY.replace("noise = 1e-4", "gamma = 1e-4"), &["nl-ft", "gamma has no effect"]);
    refused(
        &STUDY.replace(
            "method = \"nl-ft\"\nnoise = 1e-4",
            "method = \"cf-k\"\nhyperparameters = { last_cascades = 2 }",
        ),
        &["method cf-k", "the network has 1"],
    );
    refused(&STUDY.replace("pools = 1", "pools = 6"), &["too small for 6 pools"]);
    refused(
        &STUDY.replace("mask = \"equispaced_fraction\"", "mask = \"radial\""),
        &["unknown mask 'radial'"],
    );
    refused(&format!("device = \"gpu\"\n{STUDY}"), &["unknown device 'gpu'"]);
    refused(&format!("precision = \"tf32\"\ndevice = \"cpu\"\n{STUDY}"), &["the CPU computes in fp32 only"]);
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
fn results_that_are_no_experiments_are_kept() {
    let folder = Folder::new();
    folder.study("study.toml", STUDY);
    std::fs::create_dir_all(folder.path("study/runs/of another kind")).unwrap();
    std::fs::write(folder.path("study/notes.txt"), "x").unwrap();
    folder.kerase("experiment study.toml --dry-run").succeeded();
    for name in ["results.json", "report.html"] {
        std::fs::write(folder.path("study").join(name), "somebody's").unwrap();
        for options in ["", "--dry-run"] {
            let line = format!("experiment study.toml {options}");
            folder.kerase(&line).failed(2, &[&format!("study has a {name}"), "another --out"]);
        }
        assert_eq!(folder.read(&format!("study/{name}")), b"somebody's");
        std::fs::remove_file(folder.path("study").join(name)).unwrap();
    }
    assert_eq!(folder.list("study"), ["notes.txt", "runs", "runs/of another kind"]);
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
