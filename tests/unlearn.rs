//! Unlearning runs: which slices each method takes and what it does with them, the record it leaves, and what it
//! refuses.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use kerase::backend::{Backend, LabelNoise, Memory, NoiseSource, Purpose};
use kerase::cpu::Cpu;
use kerase::data::loader::LoaderOptions;
use kerase::data::set::VolumeSet;
use kerase::data::volume::SliceId;
use kerase::data::write::write_volume;
use kerase::model::Weights;
use kerase::ranks::ALONE;
use kerase::run::optimisation::{Loss, Optimisation};
use kerase::run::plateau::PlateauSettings;
use kerase::run::{Outcome, PlannedStep, Role, RunDirectory, Schedule, Session, Start};
use kerase::simulate::Anatomy;
use kerase::unlearn::schedule::UnlearnEpochs;
use kerase::unlearn::{Hyperparameters, METHODS, Method, Recipe, Strength, UnlearnConfig, Unlearning};
use num_complex::Complex32;
use run_support::{NETWORK, NETWORK_OPTIONS, Oddity, SAMPLING, Sets, signal_after, volume, write_odd};
use sha2::{Digest, Sha256};
use support::Folder;

/// A folder with sets and, in `trained`, a network that has learnt both organs for a while.
fn trained(epochs: usize) -> Folder {
    let folder = Folder::new();
    folder.sets();
    let line = format!(
        "train --data brain --data knee --out trained {NETWORK_OPTIONS} {SAMPLING} --epochs {epochs} --lr 3e-3"
    );
    folder.kerase(&line).succeeded();
    folder
}

fn unlearn(method: &str, run: &str, options: &str) -> String {
    format!(
        "unlearn --method {method} --model trained/model.safetensors --retain brain --forget knee --out {run} {SAMPLING} \
         {options}"
    )
}

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

const CODE: Strength = Strength {
    recipe: Recipe::Code,
    forget_weight: 1.0,
    noise: 0.25,
    gamma: 0.5,
    hyperparameters: Hyperparameters::NONE,
};
const TEXT: Strength = Strength { recipe: Recipe::Text, ..CODE };

/// How steps of so many slices are drawn.
fn shuffled(batch: usize) -> Optimisation {
    Optimisation { seed: 1, shuffle: true, batch, ..Optimisation::default() }
}

/// The methods that have two recipes; the others are in tests/methods.rs.
fn with_recipes() -> impl Iterator<Item = Method> {
    METHODS.into_iter().filter(|found| found.recipe)
}

/// Those of the options that a method takes.
fn taken(found: &Method, options: &[(&str, &str)]) -> String {
    let knobs: Vec<String> = found.all_knobs().iter().map(ToString::to_string).collect();
    let taken = options.iter().filter(|(option, _)| knobs.iter().any(|knob| knob == option));
    taken.map(|(option, value)| format!("{option} {value} ")).collect()
}

fn times_seen(steps: &[PlannedStep], role: Role) -> BTreeMap<SliceId, usize> {
    let mut seen = BTreeMap::new();
    for term in steps.iter().flat_map(|step| &step.terms).filter(|term| term.role == role) {
        for &slice in &term.batch {
            *seen.entry(slice).or_insert(0) += 1;
        }
    }
    seen
}

/// Every slice of the volumes from `first` on, 3 of each.
fn all_slices(first: usize, volumes: usize) -> Vec<SliceId> {
    (first..first + volumes).flat_map(|volume| (0..3).map(move |slice| (volume, slice))).collect()
}

#[test]
fn every_method_takes_the_slices_it_should() {
    let folder = Folder::new();
    folder.sets();
    let retain = VolumeSet::open(folder.path("brain")).unwrap();
    let forget = VolumeSet::open(folder.path("knee")).unwrap();
    for found in with_recipes() {
        for strength in [CODE, TEXT] {
            for batch in [1, 2] {
                let epochs = UnlearnEpochs::new(found, strength, [&retain, &forget], &shuffled(batch));
                let steps = epochs.epoch(0);
                assert_eq!(steps, epochs.epoch(0), "a function of the epoch");
                assert_ne!(steps, epochs.epoch(1), "{}: another order in another epoch", found.name);
                let retained = times_seen(&steps, Role::Retain);
                let forgotten = times_seen(&steps, Role::Forget);
                let paired =
                    found.uses_retain_set() && found.uses_forget_set() && strength.recipe == Recipe::Text;

                let first_forget = if found.uses_retain_set() { 2 } else { 0 };
                let expected = if found.uses_retain_set() { all_slices(0, 2) } else { vec![] };
                assert_eq!(retained.keys().copied().collect::<Vec<_>>(), expected, "{}", found.name);
                let expected = if found.uses_forget_set() { all_slices(first_forget, 1) } else { vec![] };
                assert_eq!(forgotten.keys().copied().collect::<Vec<_>>(), expected, "{}", found.name);
                // 6 retain and 3 forget slices.
                assert!(retained.values().all(|&times| times == 1), "{}", found.name);
                if paired {
                    for step in &steps {
                        let roles: Vec<Role> = step.terms.iter().map(|term| term.role).collect();
                        assert_eq!(roles, [Role::Forget, Role::Retain]);
                    }
                    if batch == 1 {
                        assert_eq!(steps.len(), 6);
                        assert!(forgotten.values().all(|&times| times == 2), "the smaller set goes round");
                    }
                } else {
                    assert!(steps.iter().all(|step| step.terms.len() == 1));
                    assert!(forgotten.values().all(|&times| times == 1), "{}", found.name);
                }
                for step in &steps {
                    let forgets = step.terms.iter().any(|term| term.role == Role::Forget);
                    let l1 = if forgets && found.name.starts_with("ga-l1") { 0.5 } else { 0.0 };
                    assert_eq!(step.l1, l1, "γ in steps that forget, in no other");
                    for term in &step.terms {
                        assert!(term.batch.len() <= batch);
                    }
                }
            }
        }
    }
    // The larger set may be the forget set.
    let epochs = UnlearnEpochs::new(method("nl-ft"), TEXT, [&forget, &retain], &shuffled(1));
    let steps = epochs.epoch(3);
    assert_eq!(steps.len(), 6);
    assert!(times_seen(&steps, Role::Retain).values().all(|&times| times == 2));
    assert_eq!(times_seen(&steps, Role::Forget).len(), 6);

    // One stream: the two sets are mixed, not one after the other.
    let epochs = UnlearnEpochs::new(method("ga-ft"), CODE, [&retain, &forget], &shuffled(1));
    let orders: Vec<Vec<Role>> = (0..8)
        .map(|epoch| epochs.epoch(epoch).iter().map(|step| step.terms[0].role).collect::<Vec<_>>())
        .collect();
    let changes = |roles: &Vec<Role>| roles.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(orders.iter().any(|roles| changes(roles) > 2), "{orders:?}");
}

#[test]
fn weights_and_noise_are_those_of_the_recipe() {
    let folder = Folder::new();
    folder.sets();
    let retain = VolumeSet::open(folder.path("brain")).unwrap();
    let forget = VolumeSet::open(folder.path("knee")).unwrap();
    for (name, text, code, noisy) in [
        ("ga", -1.0, -1.0, false),
        ("ga-ft", -1.0, -1.0, false),
        ("ga-l1", -1.0, -2.0, false),
        ("ga-l1-ft", -1.0, -2.0, false),
        ("nl", 1.0, 1.0, true),
        ("nl-ft", 1.0, 1.0, true),
    ] {
        for (recipe, weight) in [(Recipe::Text, text), (Recipe::Code, code)] {
            let strength = Strength { recipe, forget_weight: 0.25, ..CODE };
            let epochs = UnlearnEpochs::new(method(name), strength, [&retain, &forget], &shuffled(1));
            for term in epochs.epoch(0).iter().flat_map(|step| &step.terms) {
                if term.role == Role::Retain {
                    assert_eq!((term.weight, term.noise), (1.0, None), "{name}");
                    continue;
                }
                assert_eq!(term.weight, 0.25 * weight, "{name} {recipe:?}");
                assert_eq!(term.noise.is_some(), noisy);
                if let Some(noise) = term.noise {
                    assert_eq!((noise.lambda, noise.absolute), (0.25, recipe == Recipe::Code));
                }
            }
        }
    }
    // The deviation that was asked for, on the scale of fastMRI's images.
    let ops = Cpu::<f32>::default();
    let len = 20_000;
    for (absolute, mean, deviation) in [(false, 0.0, 1e-5), (true, 0.797_884_6e-5, 0.602_81e-5)] {
        let mut target = ops.zeros(Purpose::Input, len);
        ops.run(LabelNoise {
            noise: NoiseSource { lambda: 1e-5, absolute, key: 1, stream: 2 },
            first: 0,
            len,
            target: &mut target,
        });
        let mut values = vec![0.0; len];
        ops.download(&target, &mut values);
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let found = values.iter().sum::<f64>() / len as f64;
        let spread = (values.iter().map(|v| (v - found).powi(2)).sum::<f64>() / len as f64).sqrt();
        assert!((found - mean).abs() < 3e-7 && (spread - deviation).abs() < 2e-7, "{found} {spread}");
    }
}

/// After one step of a fresh Adam without a clip, its first moment is a tenth of the gradient: what a step was made of
/// can be read there.
#[test]
fn a_step_has_the_gradient_of_its_objective() {
    let folder = trained(1);
    let step = |name: &str, recipe: &str, options: &str| {
        let run = format!("{name}-{recipe}-{}", options.replace(' ', ""));
        let fixed = "--optimizer-state fresh --clip inf --max-steps 1 --no-shuffle --no-measure";
        folder.kerase(&unlearn(name, &run, &format!("--recipe {recipe} {fixed} {options}"))).succeeded();
        folder.state(&run)
    };
    let start = Weights::read(folder.path("trained/model.safetensors")).unwrap().parameters;
    // Without noise, that of descent on the first forget slice.
    let descent = step("nl", "text", "--noise 0");
    let ascent = step("ga", "text", "");
    assert!(descent.exp_avg.iter().any(|&m| m != 0.0));
    for (i, &m) in descent.exp_avg.iter().enumerate() {
        assert_eq!(ascent.exp_avg[i], -m, "parameter {i}");
        assert_eq!(ascent.exp_avg_sq[i], descent.exp_avg_sq[i]);
        let (up, down) = (ascent.parameters[i] - start[i], descent.parameters[i] - start[i]);
        assert!((up + down).abs() <= 1e-6 * (1.0 + start[i].abs()), "parameter {i}: {up} against {down}");
    }

    let near = |found: &[f32], expected: &dyn Fn(usize) -> f64, what: &str| {
        let scale = found.iter().fold(0f64, |most, &x| most.max(f64::from(x).abs()));
        for (i, &x) in found.iter().enumerate() {
            let expected = expected(i);
            assert!(
                (f64::from(x) - expected).abs() <= 1e-6 * scale,
                "{what}, parameter {i}: {x} instead of {expected}"
            );
        }
    };
    let gradient = |i: usize| f64::from(descent.exp_avg[i]) / 0.1;
    let sign = |i: usize| f64::from(i8::from(start[i] > 0.0) - i8::from(start[i] < 0.0));
    for (recipe, weight, gamma) in [("text", -1.0, 1e-2), ("code", -2.0, 1e-3)] {
        let l1 = step("ga-l1", recipe, &format!("--gamma {gamma}"));
        near(&l1.exp_avg, &|i| 0.1 * (weight * gradient(i) + gamma * sign(i)), recipe);
    }
    let weighted = step("ga", "code", "--forget-weight 0.25");
    near(&weighted.exp_avg, &|i| -0.025 * gradient(i), "forget weight");

    // A pair is the sum of both.
    let retained = step("ft", "text", "--retain-fraction 1");
    let pair = step("ga-ft", "text", "--retain-fraction 1");
    near(&pair.exp_avg, &|i| f64::from(retained.exp_avg[i]) - 0.1 * gradient(i), "a pair");
    let stream = step("ga-ft", "code", "--retain-fraction 1");
    assert_eq!(stream.exp_avg, retained.exp_avg, "the stream's first slice alone");
}

#[test]
fn label_noise_is_the_same_on_every_rerun_and_of_the_kind_asked_for() {
    let folder = trained(1);
    for (run, options) in [
        ("a", "--recipe text --noise 1e-2"),
        ("again", "--recipe text --noise 1e-2"),
        ("absolute", "--recipe code --noise 1e-2"),
        ("none", "--recipe text --noise 0"),
        ("seed", "--recipe text --noise 1e-2 --seed 1"),
    ] {
        folder
            .kerase(&unlearn("nl", run, &format!("{options} --epochs 2 --no-measure --loss l1")))
            .succeeded();
    }
    assert_eq!(folder.lasting("a"), folder.lasting("again"));
    let loss = |run: &str| folder.lines(run, "step")[0]["loss"].as_f64().unwrap();
    assert!(loss("a") > loss("none"), "targets with noise are further away");
    assert_ne!(loss("a"), loss("absolute"));
    for other in ["absolute", "none", "seed"] {
        assert_ne!(folder.read("a/model.safetensors"), folder.read(&format!("{other}/model.safetensors")));
    }
}

#[test]
fn stopped_and_resumed_every_method_gives_the_same_bits() {
    let folder = trained(1);
    for found in with_recipes() {
        for recipe in ["text", "code"] {
            let name = found.name;
            let more = taken(&found, &[("--retain-fraction", "0.7"), ("--noise", "1e-3")]);
            let options = format!("--recipe {recipe} --epochs 2 {more}");
            let whole = format!("{name}-{recipe}");
            folder.kerase(&unlearn(name, &whole, &options)).succeeded();
            let parts = format!("{whole}-parts");
            folder.kerase(&unlearn(name, &parts, &format!("{options} --max-steps 1"))).succeeded();
            for most in [2, 3, 4, 100] {
                folder.kerase(&format!("unlearn --resume --out {parts} --max-steps {most}")).succeeded();
            }
            assert_eq!(folder.lasting(&parts), folder.lasting(&whole), "{whole}");
            let [mut one, mut other] =
                [&parts, &whole].map(|run| folder.json(&format!("{run}/unlearning.json")));
            for record in [&mut one, &mut other] {
                record.as_object_mut().unwrap().remove("seconds");
            }
            assert_eq!(one, other);
            let names: Vec<_> =
                folder.lines(&whole, "step").iter().map(|l| l["volume"].to_string()).collect();
            assert_eq!(names.iter().any(|name| name.contains("brain")), found.uses_retain_set());
            assert_eq!(names.iter().any(|name| name.contains("file1")), found.uses_forget_set());
        }
    }
}

#[cfg(unix)]
#[test]
fn signals_and_kills_change_no_bit() {
    let folder = trained(1);
    let options = "--retain-fraction 1 --epochs 25";
    folder.kerase(&unlearn("nl-ft", "whole", options)).succeeded();
    for (signal, code) in [("-INT", Some(130)), ("-TERM", Some(0)), ("-KILL", None)] {
        let run = format!("run{signal}");
        let child = folder.start(&unlearn("nl-ft", &run, &format!("{options} --checkpoint-every 1")));
        let status = signal_after(child, &folder.path(&run).join("metrics.jsonl"), 12, signal);
        assert_eq!(status.code(), code);
        if code.is_some() {
            let record = folder.json(&format!("{run}/unlearning.json"));
            assert_eq!(record["finished"], false);
            assert!(record["metrics"][0]["after"].is_null());
        }
        folder.kerase(&format!("unlearn --resume --out {run}")).succeeded();
        assert_eq!(folder.lasting(&run), folder.lasting("whole"), "{signal}");
        assert_eq!(folder.json(&format!("{run}/unlearning.json"))["finished"], true);
    }
    // Over, and so are all further attempts; without its record, that is what is left to do.
    let record = folder.read("run-INT/unlearning.json");
    let said = folder.kerase("unlearn --resume --out run-INT").succeeded();
    assert!(said.contains("finished already (225 steps, 25 epochs)"), "{said}");
    assert_eq!(folder.read("run-INT/unlearning.json"), record);
    std::fs::remove_file(folder.path("run-INT/unlearning.json")).unwrap();
    folder.kerase("unlearn --resume --out run-INT").succeeded();
    assert_eq!(folder.read("run-INT/unlearning.json"), record);
}

#[test]
fn threads_and_low_memory_do_not_change_a_bit() {
    let folder = trained(1);
    for (run, computed) in
        [("on1", "--threads 1"), ("on2", "--threads 2"), ("low", "--threads 2 --low-memory")]
    {
        let options = format!("--epochs 2 --retain-fraction 0.5 --batch 2 --recipe text {computed}");
        folder.kerase(&unlearn("ga-l1-ft", run, &options)).succeeded();
    }
    assert_eq!(folder.lasting("on1"), folder.lasting("on2"));
    assert_eq!(folder.lasting("low"), folder.lasting("on2"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_record_can_be_checked_by_others() {
    let folder = trained(2);
    std::fs::write(folder.path("forget.txt"), "knee/file1000001.h5 slices=1..3\n").unwrap();
    let line = format!(
        "unlearn --method nl-ft --model trained/model.safetensors --retain brain --forget forget.txt --out run {SAMPLING} \
         --retain-fraction 0.5 --epochs 2 --test brain=test"
    );
    folder.kerase(&line).succeeded();
    let record = folder.json("run/unlearning.json");

    assert_eq!(record["forgotten_slices"], 2);
    assert_eq!([&record["retain_slices"], &record["retain_slices_used"]], [6, 3]);
    assert_eq!(record["retain_fraction"], 0.5);
    assert_eq!([&record["method"], &record["recipe"]], ["nl-ft", "code"]);
    assert_eq!([&record["steps"], &record["epochs"]], [10, 2]);
    assert_eq!(record["finished"], true);
    assert!(record["seconds"].as_f64().unwrap() > 0.0);

    let forgotten = record["forgotten"].as_array().unwrap();
    assert_eq!(forgotten.len(), 1);
    let path = folder.path("knee/file1000001.h5");
    assert_eq!(forgotten[0]["path"], path.to_str().unwrap(), "found again from every directory");
    assert_eq!(forgotten[0]["sha256"], hex(&Sha256::digest(folder.read("knee/file1000001.h5"))));
    // The slices' own hashes from what was simulated, without reading the file.
    let knee = volume(Anatomy::Knee, 1, 3, 24);
    let (of_kspace, of_target) = (knee.kspace.len() / 3, 256);
    for (entry, slice) in forgotten[0]["slices"].as_array().unwrap().iter().zip(1..3) {
        let mut hash = Sha256::new();
        for z in &knee.kspace[slice * of_kspace..][..of_kspace] {
            hash.update(z.re.to_le_bytes());
            hash.update(z.im.to_le_bytes());
        }
        for x in &knee.reconstruction_rss[slice * of_target..][..of_target] {
            hash.update(x.to_le_bytes());
        }
        assert_eq!(entry["slice"], slice);
        assert_eq!(entry["sha256"], hex(&hash.finalize()));
    }

    for (key, file) in [("weights_before_sha256", "trained"), ("weights_after_sha256", "run")] {
        let mut hash = Sha256::new();
        for x in Weights::read(folder.path(&format!("{file}/model.safetensors"))).unwrap().parameters {
            hash.update(x.to_le_bytes());
        }
        assert_eq!(record[key], hex(&hash.finalize()));
    }

    // What evaluate says of the same weights and sets.
    let metrics = record["metrics"].as_array().unwrap();
    for (entry, set, data) in [(&metrics[0], "forget", "forget.txt"), (&metrics[1], "brain", "test")] {
        assert_eq!(entry["set"], set);
        assert_eq!(entry["volumes"], 1);
        for (when, file) in [("before", "trained"), ("after", "run")] {
            let out = format!("{set}-{when}.json");
            let line =
                format!("evaluate --model {file}/model.safetensors --data {data} {SAMPLING} --out {out}");
            folder.kerase(&line).succeeded();
            assert_eq!(entry[when], folder.json(&out)["summary"][0]["scores"], "{set} {when}");
        }
    }

    // Which part of the retain set was used does not depend on the method.
    folder.kerase(&line.replace("nl-ft", "ft").replace("--out run", "--out ft")).succeeded();
    let slices = |run: &str| {
        let lines = folder.lines(run, "step");
        let brain = lines.iter().filter(|line| line["volume"].as_str().unwrap().contains("brain"));
        brain.map(|l| format!("{} {}", l["volume"], l["slice"])).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(slices("run"), slices("ft"));
    assert_eq!(slices("ft").len(), 3);
    assert_eq!(folder.json("ft/unlearning.json")["retain_slices_used"], 3);
}

#[test]
fn adam_goes_on_or_starts_anew() {
    let folder = trained(1);
    // A learning rate that training had come to, unlike the one it began with.
    let mut checkpoint = folder.state("trained");
    checkpoint.state.plateau.lr = 2e-4;
    checkpoint.write(&folder.path("trained/state.safetensors")).unwrap();
    let steps = checkpoint.state.adam_step;
    assert_eq!(steps, 9);

    let options = "--max-steps 1 --no-measure --noise 0 --clip inf --no-shuffle";
    folder.kerase(&unlearn("nl", "resumed", options)).succeeded();
    folder
        .kerase(&unlearn("nl", "fresh", &format!("{options} --optimizer-state fresh --lr 5e-4")))
        .succeeded();
    let (resumed, fresh) = (folder.state("resumed"), folder.state("fresh"));
    assert_eq!((resumed.state.step, resumed.state.adam_step), (1, steps + 1));
    assert_eq!((fresh.state.step, fresh.state.adam_step), (1, 1));
    assert_eq!(folder.lines("resumed", "step")[0]["lr"], 2e-4);
    assert_eq!(folder.lines("fresh", "step")[0]["lr"], 5e-4);
    // The moments by hand; the fresh ones give the gradient.
    let near = |found: f32, expected: f64, scale: f64| (f64::from(found) - expected).abs() <= 1e-6 * scale;
    let largest = |values: &[f32]| values.iter().fold(0f64, |most, &x| most.max(f64::from(x).abs()));
    let scales = [largest(&resumed.exp_avg), largest(&resumed.exp_avg_sq)];
    let [bias1, bias2] = [0.9f64, 0.999].map(|beta| 1.0 - beta.powi(steps as i32 + 1));
    for i in 0..fresh.exp_avg.len() {
        let gradient = f64::from(fresh.exp_avg[i]) / 0.1;
        let first = 0.9 * f64::from(checkpoint.exp_avg[i]) + 0.1 * gradient;
        let second = 0.999 * f64::from(checkpoint.exp_avg_sq[i]) + 0.001 * gradient * gradient;
        assert!(near(resumed.exp_avg[i], first, scales[0]), "parameter {i}");
        assert!(near(resumed.exp_avg_sq[i], second, scales[1]), "parameter {i}");
        let [first, second] = [resumed.exp_avg[i], resumed.exp_avg_sq[i]].map(f64::from);
        let step = 2e-4 / bias1 * first / ((second / bias2).sqrt() + 1e-8);
        let before = f64::from(checkpoint.parameters[i]);
        assert!(near(resumed.parameters[i], before - step, 1.0 + before.abs()), "parameter {i}");
    }

    // No state beside the weights, or that of others.
    folder.init("init.safetensors");
    let of = |model: &str| unlearn("nl", "new", "").replace("trained/model.safetensors", model);
    folder.kerase(&of("init.safetensors")).failed(2, &["state.safetensors", "--optimizer-state fresh"]);
    std::fs::copy(folder.path("trained/state.safetensors"), folder.path("state.safetensors")).unwrap();
    folder.kerase(&of("init.safetensors")).failed(2, &["other weights than init.safetensors"]);
    folder.kerase(&unlearn("nl", "new", "--lr 1e-4")).failed(2, &["--lr", "--optimizer-state fresh"]);
    assert!(!folder.path("new").exists());
}

#[test]
fn ascent_that_diverges_says_so() {
    let folder = trained(60);
    let options = "--optimizer-state fresh --lr 0.3 --epochs 20 --test brain=test";
    let said = folder.kerase(&unlearn("ga", "run", options)).succeeded();
    let record = folder.json("run/unlearning.json");
    let warnings = record["warnings"].as_array().unwrap();
    assert!(!warnings.is_empty(), "{record}");
    assert!(said.contains("warning: "), "{said}");
    assert_eq!(record["finished"], true);
    // Unlike a method that keeps what it should.
    folder.kerase(&unlearn("ft", "ft", "--retain-fraction 1 --epochs 1 --test brain=test")).succeeded();
    assert_eq!(folder.json("ft/unlearning.json")["warnings"], serde_json::json!([]));
}

#[test]
fn an_unlearning_goes_on_with_trainings_settings_also_where_they_are_gone_later() {
    let folder = Folder::new();
    folder.sets();
    let train = format!(
        "train --data brain --data knee --out trained {NETWORK_OPTIONS} {SAMPLING} --epochs 1 --loss l1 --clip inf \
         --lr-patience 3 --lr-factor 0.5"
    );
    folder.kerase(&train).succeeded();
    let line = |out: &str, options: &str| {
        format!(
            "unlearn --method nl --model trained --retain brain --forget knee --no-measure --out {out} {options}"
        )
    };
    let config = |run: &str| -> UnlearnConfig {
        toml::from_str(&String::from_utf8(folder.read(&format!("{run}/config.toml"))).unwrap()).unwrap()
    };
    folder.kerase(&line("run", "--max-steps 1 --resume auto")).succeeded();
    let UnlearnConfig { sampling, optimisation, .. } = config("run");
    let trained: kerase::train::TrainConfig =
        toml::from_str(&String::from_utf8(folder.read("trained/config.toml")).unwrap()).unwrap();
    assert_eq!(sampling, trained.sampling);
    let of = |o: &Optimisation| (o.loss, o.clip, o.plateau);
    assert_eq!(of(&optimisation), of(&trained.optimisation));
    folder
        .kerase(&line("fresh", "--max-steps 1 --optimizer-state fresh --lr-factor 0.2 --loss ssim"))
        .succeeded();
    let fresh = config("fresh").optimisation;
    assert_eq!((fresh.loss, fresh.clip), (Loss::Ssim, None));
    assert_eq!(fresh.plateau, PlateauSettings { factor: 0.2, patience: 1 });

    // The same command again is the same run, whatever has become of the settings beside the network.
    std::fs::rename(folder.path("trained/config.toml"), folder.path("elsewhere.toml")).unwrap();
    folder.kerase(&line("run", "--max-steps 2 --resume auto")).succeeded();
    assert_eq!(config("run").sampling, sampling);
    assert_eq!(of(&config("run").optimisation), of(&optimisation));
    folder
        .kerase(&line("run", "--max-steps 3 --resume auto --acceleration 3"))
        .failed(2, &["began with another sampling"]);
}

#[test]
fn label_noise_of_another_scale_than_the_targets_is_said_to_be() {
    let folder = trained(1);
    for (run, noise, warned) in [
        ("papers", "1e-5", None),
        ("none", "0", None),
        ("lost", "1e-9", Some("λ = 1e-9 hardly changes targets")),
        ("drowning", "1", Some("λ = 1e0 leaves nothing of targets")),
    ] {
        let line = unlearn("nl", run, &format!("--noise {noise} --max-steps 1 --no-measure"));
        let said = folder.shell(&format!("$KERASE {line} 2>&1")).succeeded();
        let warnings = folder.json(&format!("{run}/unlearning.json"))["warnings"].to_string();
        for text in [said, warnings] {
            assert_eq!(text.contains("label noise of"), warned.is_some(), "{run}: {text}");
            assert!(text.contains(warned.unwrap_or_default()), "{run}: {text}");
        }
    }
    // No other method has any.
    folder.kerase(&unlearn("ft", "ft", "--max-steps 1 --no-measure")).succeeded();
    assert_eq!(folder.json("ft/unlearning.json")["warnings"], serde_json::json!([]));
}

#[test]
fn what_was_never_learned_is_said_to_be() {
    let folder = trained(1);
    folder.add("unknown", Anatomy::Knee, 5..=6);
    let line = unlearn("ft", "run", "--epochs 1").replace("--forget knee", "--forget unknown");
    let said = folder.shell(&format!("$KERASE {line} 2>&1")).succeeded();
    let warning = "2 of 2 volumes of the forget set are not in the sets that the network was trained on";
    assert!(said.contains(warning), "{said}");
    let warnings = folder.json("run/unlearning.json")["warnings"].to_string();
    assert!(warnings.contains(warning), "{warnings}");
    // A network of which nothing is known may have learned anything.
    std::fs::create_dir(folder.path("bare")).unwrap();
    std::fs::copy(folder.path("trained/model.safetensors"), folder.path("bare/model.safetensors")).unwrap();
    let bare = line.replace("trained/model.safetensors", "bare").replace("--out run", "--out other");
    folder.kerase(&format!("{bare} --optimizer-state fresh")).succeeded();
    assert_eq!(folder.json("other/unlearning.json")["warnings"], serde_json::json!([]));
    // What cannot be read is said to be so.
    std::fs::write(folder.path("trained/config.toml"), "data = 7").unwrap();
    let line = line.replace("--out run", "--out new");
    let said = folder.shell(&format!("$KERASE {line} 2>&1")).succeeded();
    assert!(
        said.contains("trained/config.toml does not say what the network beside it was trained with"),
        "{said}"
    );
    assert_eq!(folder.json("new/unlearning.json")["warnings"], serde_json::json!([]));
}

#[test]
fn several_sets_are_joined() {
    let folder = trained(1);
    folder.add("brains", Anatomy::Brain, 3..=3);
    folder.add("knees", Anatomy::Knee, 2..=2);
    folder.add("unseen", Anatomy::Knee, 11..=11);
    folder.add("others", Anatomy::Knee, 12..=12);
    let list = |manifest: &str, sets: [&str; 2]| {
        let mut files: Vec<String> = Vec::new();
        for set in sets {
            let mut of_set: Vec<_> =
                std::fs::read_dir(folder.path(set)).unwrap().map(|entry| entry.unwrap().path()).collect();
            of_set.sort();
            files.extend(of_set.iter().map(|path| path.display().to_string()));
        }
        std::fs::write(folder.path(manifest), files.join("\n")).unwrap();
    };
    list("retain.txt", ["brain", "brains"]);
    list("forget.txt", ["knee", "knees"]);
    let line = unlearn("nl-ft", "listed", "--epochs 1 --retain-fraction 0.5");
    let listed =
        line.replace("--retain brain", "--retain retain.txt").replace("--forget knee", "--forget forget.txt");
    folder.kerase(&listed).succeeded();
    let given = format!("{line} --retain brains --forget knees").replace("--out listed", "--out given");
    folder.kerase(&given).succeeded();
    assert_eq!(folder.read("given/model.safetensors"), folder.read("listed/model.safetensors"));
    let forgotten = |run: &str| folder.json(&format!("{run}/unlearning.json"))["forgotten"].clone();
    assert_eq!(forgotten("given"), forgotten("listed"));
    assert_eq!(forgotten("given").as_array().unwrap().len(), 2);

    folder.kerase("audit --run given --unseen unseen --unseen others --relearn-steps 0").succeeded();
    let sets = &folder.json("given/audit.json")["sets"];
    let paths = |set: &serde_json::Value| set["paths"].as_array().unwrap().len();
    assert_eq!([&sets[0], &sets[1]].map(paths), [2, 2]);
    assert_eq!([&sets[0]["volumes"], &sets[1]["volumes"]], [2, 2]);
    folder.kerase("verify given").succeeded();

    let twice = format!("{given} --forget knees").replace("--out given", "--out twice");
    folder.kerase(&twice).failed(2, &["--forget (knees)", "another --forget (knees)", "the same file"]);
    assert!(!folder.path("twice").exists());
}

#[test]
fn requests_that_make_no_sense_are_refused_before_anything_is_written() {
    let folder = trained(1);
    std::fs::create_dir(folder.path("empty")).unwrap();
    std::fs::create_dir(folder.path("copies")).unwrap();
    let brain = "brain/file_brain_AXT2_200_0000002.h5";
    std::fs::copy(folder.path(brain), folder.path("copies/another_name.h5")).unwrap();
    std::fs::write(folder.path("both.txt"), format!("knee/file1000001.h5\n{brain}\n")).unwrap();
    std::fs::create_dir(folder.path("odd")).unwrap();
    let odd = Oddity { no_target: true, ..Oddity::default() };
    write_odd(&folder.path("odd/odd.h5"), &volume(Anatomy::Knee, 4, 2, 24), odd);
    let short = folder.read("trained/model.safetensors");
    std::fs::write(folder.path("short.safetensors"), &short[..short.len() / 2]).unwrap();

    let line = unlearn("nl-ft", "new", "");
    let forget = |set: &str| line.replace("--forget knee", &format!("--forget {set}"));
    folder.kerase(&forget("brain")).failed(2, &["retain", "forget", "the same file"]);
    folder.kerase(&forget("both.txt")).failed(2, &["both.txt", brain]);
    folder.kerase(&forget("copies")).failed(2, &["copies/another_name.h5", brain, "the same bytes"]);
    // A copy that has lost what usually tells volumes apart, and one whose `max` somebody has changed.
    let copy = || volume(Anatomy::Brain, 2, 3, 24);
    for (name, odd) in [
        ("bare", Oddity { no_target: true, max: Some(None) }),
        ("other", Oddity { max: Some(Some(7.0)), ..Oddity::default() }),
        ("bare-other", Oddity { no_target: true, max: Some(Some(7.0)) }),
    ] {
        std::fs::create_dir(folder.path(name)).unwrap();
        write_odd(&folder.path(&format!("{name}/copy.h5")), &copy(), odd);
        folder.kerase(&forget(name)).failed(2, &["copy.h5", brain, "the same k-space"]);
    }
    folder.kerase(&forget("empty")).failed(2, &["empty", "no *.h5 files"]);
    folder.kerase(&forget("odd")).failed(2, &["odd/odd.h5", "reconstruction_rss"]);
    folder
        .kerase(&format!("{} --no-measure", forget("odd")))
        .failed(2, &["odd/odd.h5", "reconstruction_rss"]);
    folder
        .kerase(&line.replace("trained/model", "short"))
        .failed(2, &["short.safetensors", "not a whole safetensors file"]);
    let penalised = line.replace("nl-ft", "ga-l1-ft");
    folder.kerase(&format!("{penalised} --gamma inf")).failed(2, &["--gamma inf"]);
    let unknown = line.replace("nl-ft", "osmosis");
    let names: Vec<&str> = METHODS.iter().map(|found| found.name).collect();
    folder.kerase(&unknown).failed(2, &[&["no method osmosis"], &names[..]].concat());
    for (options, parts) in [
        ("--no-measure --test brain=brain", &["--test has no effect", "--no-measure"][..]),
        ("--retain-fraction 0.01", &["--retain-fraction", "0.01", "none"][..]),
        ("--retain-fraction 0", &["--retain-fraction", "fraction 0"]),
        ("--retain-fraction nan", &["--retain-fraction", "NaN"]),
        ("--forget-weight=-1", &["--forget-weight -1"]),
        ("--noise nan", &["--noise NaN"]),
        ("--gamma 1", &["--gamma has no effect with --method nl-ft", "--noise"]),
        ("--beta 0.5", &["--beta has no effect with --method nl-ft"]),
        ("--lr 0 --optimizer-state fresh", &["--lr 0"]),
        ("--test forget=test", &["--test forget"]),
        (
            "--test a=test --test a=brain",
            &["--test test and --test brain are both called 'a'", "--test other=brain"],
        ),
        ("--test a=missing", &["missing", "No such file"]),
        ("--test a=odd", &["odd/odd.h5", "reconstruction_rss"]),
        ("--resume", &["--resume", "config.toml"]),
    ] {
        folder.kerase(&format!("{line} {options}")).failed(2, parts);
    }
    for option in ["--method nl-ft", "--model trained/model.safetensors", "--retain brain", "--forget knee"] {
        let name = option.split(' ').next().unwrap();
        folder.kerase(&line.replace(option, "")).failed(2, &[name, "is missing"]);
    }
    assert!(!folder.path("new").exists());

    // A retain set that is not trained on has no part.
    folder
        .kerase(&unlearn("ga", "few", "--retain-fraction 0.01"))
        .failed(2, &["--retain-fraction has no effect"]);
    folder.kerase(&unlearn("ga", "few", "--max-steps 1 --no-measure")).succeeded();

    // The weights that a run would replace.
    folder
        .kerase(&unlearn("nl", "trained", "--overwrite"))
        .failed(2, &["--model trained/model.safetensors", "choose another --out"]);
    folder.kerase(&unlearn("nl", "few", "")).failed(2, &["few already holds a run"]);
    folder.kerase("unlearn --resume --out few --method nl").failed(2, &["--resume"]);
    folder.kerase("unlearn --resume --out empty").failed(2, &["empty", "no run to resume"]);
    assert_eq!(folder.list("empty"), [""; 0]);

    // The forget set was exported anew: what the record says was forgotten would be what was not.
    let path = folder.path("knee/file1000001.h5");
    let kept = std::fs::read(&path).unwrap();
    let mut other = kept.clone();
    let middle = other.len() / 2;
    other[middle..middle + 4096].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&path, other).unwrap();
    folder.kerase("unlearn --resume --out few --max-steps 2").failed(2, &["few", "what files hold"]);
    std::fs::write(&path, kept).unwrap();
    // Nor is a network thrown away whose state is gone.
    std::fs::rename(folder.path("few/state.safetensors"), folder.path("state")).unwrap();
    folder.kerase("unlearn --resume --out few --max-steps 2").failed(2, &["few holds weights"]);
    std::fs::rename(folder.path("state"), folder.path("few/state.safetensors")).unwrap();

    // Resumed from other weights, which the record would have named wrongly.
    folder.init("trained/model.safetensors");
    folder.kerase("unlearn --resume --out few --max-steps 2").failed(2, &["few", "have changed since"]);
}

#[test]
fn bad_numbers_stop_unlearning_and_keep_its_last_checkpoint() {
    let folder = trained(1);
    let size = 2 * 32 * 24;
    let mut huge = volume(Anatomy::Knee, 4, 2, 24);
    huge.kspace[size..].fill(Complex32::new(f32::MAX, f32::MAX));
    write_volume(folder.path("knee/file1000009.h5"), &huge).unwrap();
    let options = "--no-measure --no-shuffle --checkpoint-every 1";
    folder.kerase(&unlearn("ga", "run", options)).failed(1, &["step 5", "file1000009.h5 slice 1"]);
    assert_eq!(folder.state("run").state.step, 4);
    assert!(!folder.path("run/unlearning.json").exists());
    let weights = Weights::read(folder.path("run/model.safetensors")).unwrap();
    assert_eq!(weights.architecture, NETWORK);

    // Refused when the forget set is hashed, before anything is written.
    let mut nan = volume(Anatomy::Knee, 5, 2, 24);
    nan.kspace[size + 5] = Complex32::new(f32::NAN, 0.0);
    write_odd(&folder.path("knee/file1000009.h5"), &nan, Oddity::default());
    folder.kerase(&unlearn("ft", "new", "--retain-fraction 1")).failed(2, &["file1000009.h5", "slice 1"]);
    assert!(!folder.path("new").exists());
}

/// While it measures before, and while it measures after: what was measured is kept, and the rest is made up for.
#[test]
fn a_request_that_is_stopped_while_it_measures_goes_on_from_there() {
    let folder = trained(1);
    let options = "--epochs 1 --test one=test --test two=brain";
    folder.kerase(&unlearn("nl-ft", "whole", options)).succeeded();
    folder.kerase(&unlearn("nl-ft", "parts", options)).succeeded();
    let config: UnlearnConfig =
        RunDirectory::check(&folder.path("parts"), Start::Resume).unwrap().settings("unlearn").unwrap();
    let stop = AtomicBool::new(true);
    let out = folder.path("parts");
    let go = |start: Start, raise: bool| {
        let (config, loader, shown) = (config.clone(), LoaderOptions::default(), false);
        let request = Unlearning {
            config,
            by: None,
            session: Session { out: &out, start, loader, shown, ranks: &ALONE, stop: &stop },
        };
        let (outcome, record) = request
            .run_measuring(&Cpu::<f32>::default(), &mut |_, _| {
                stop.store(raise, Ordering::Relaxed);
                Ok(ControlFlow::Continue(None))
            })
            .unwrap();
        assert_eq!(record.finished, outcome == Outcome::Finished);
        outcome
    };
    let measured = || folder.json("parts/scores.json").as_array().unwrap().len();
    // Sets of one volume are measured before anybody looks, of the third set one of two volumes.
    assert_eq!(go(Start::Overwrite, false), Outcome::Stopped);
    assert_eq!(measured(), 2);
    assert_eq!(folder.json("parts/unlearning.json")["finished"], false);
    // Once more, with nothing to measure but the third.
    assert_eq!(go(Start::Resume, false), Outcome::Stopped);
    assert_eq!((measured(), folder.json("parts/unlearning.json")["steps"].as_u64()), (2, Some(0)));
    stop.store(false, Ordering::Relaxed);
    // All steps are taken, and then it is stopped.
    assert_eq!(go(Start::Resume, true), Outcome::Stopped);
    assert_eq!(measured(), 3 + 2);
    let record = folder.json("parts/unlearning.json");
    assert_eq!(
        (&record["finished"], &record["metrics"][0]["after"]),
        (&false.into(), &serde_json::Value::Null)
    );
    assert!(folder.state("parts").state.finished);

    // It is not taken for finished, and no set is measured twice.
    let kept = String::from_utf8(folder.read("parts/scores.json")).unwrap();
    let first = &folder.json("whole/unlearning.json")["metrics"][0]["before"]["psnr"]["mean"];
    assert!(kept.contains(&first.to_string()));
    std::fs::write(folder.path("parts/scores.json"), kept.replace(&first.to_string(), "1.5")).unwrap();
    folder.kerase("unlearn --resume --out parts").succeeded();
    let [whole, parts] = ["whole", "parts"].map(|run| folder.json(&format!("{run}/unlearning.json")));
    assert_eq!(parts["finished"], true);
    assert_eq!(parts["metrics"][0]["before"]["psnr"]["mean"], 1.5);
    assert_eq!(parts["metrics"][2], whole["metrics"][2]);
    assert_eq!(parts["metrics"][1]["after"], whole["metrics"][1]["after"]);
    assert!(folder.kerase("unlearn --resume --out parts").succeeded().contains("finished already"));
    assert_eq!(folder.lasting("parts"), folder.lasting("whole"));
}

/// TensorBoard sees what a request was measured by.
#[test]
fn the_scores_of_a_request_are_shown() {
    let folder = trained(1);
    folder.kerase(&unlearn("ga", "run", "--max-steps 2 --test one=test")).succeeded();
    let files = folder.contents("run/tensorboard");
    let shown: Vec<u8> = files.into_values().flatten().collect();
    for name in ["measured psnr/forget", "measured ssim/one"] {
        let found = shown.windows(name.len()).filter(|bytes| *bytes == name.as_bytes()).count();
        assert_eq!(found, 2, "{name}: before and after");
    }
}
