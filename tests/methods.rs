//! Unlearning methods from other papers than Xue et al.: what their steps are made of, put together by hand from the
//! engine's parts in double precision; what they leave alone; that a stop changes no bit; what they refuse.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use kerase::backend::LossWeights;
use kerase::batch::{Batch, MaskSeeding, Reference, Sampler, Sampling};
use kerase::cpu::Cpu;
use kerase::crop::center_crop;
use kerase::data::fraction::FractionOf;
use kerase::data::loader::LoaderOptions;
use kerase::data::mask::MaskKind;
use kerase::data::set::VolumeSet;
use kerase::data::volume::SliceId;
use kerase::engine::{Engine, Objective};
use kerase::error::Result;
use kerase::model::{Architecture, Weights};
use kerase::ranks::ALONE;
use kerase::run::optimisation::{Loss, Optimisation};
use kerase::run::plateau::PlateauSettings;
use kerase::run::state::Checkpoint;
use kerase::run::{Outcome, PlannedStep, Role, Schedule, Session, Start};
use kerase::unlearn::method::Teacher;
use kerase::unlearn::mixing::Mixing;
use kerase::unlearn::record::Record;
use kerase::unlearn::schedule::UnlearnEpochs;
use kerase::unlearn::{
    Hyperparameters, Knob, METHODS, Method, OptimizerState, Recipe, Strength, UnlearnConfig, Unlearning,
};
use run_support::{SAMPLING, Sets};
use support::Folder;

const NETWORK: Architecture = Architecture { cascades: 3, chans: 2, pools: 1, sens_chans: 2, sens_pools: 1 };
const LOSS: LossWeights = LossWeights { ssim: 1.0, l1: 1e-5 };
const SEED: u64 = 5;

fn sampling() -> Sampling {
    Sampling {
        mask: MaskKind::EquispacedFraction,
        accelerations: vec![4],
        center_fractions: vec![0.16],
        mask_seed: MaskSeeding::Random,
        virtual_coils: None,
    }
}

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

/// A folder with 6 slices to retain and 3 to forget, and `model.safetensors`, which has learnt nothing: what steps are
/// made of does not depend on it.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.sets();
    let parameters = NETWORK.initial_parameters(1);
    let weights = Weights { architecture: NETWORK, parameters, metadata: Default::default() };
    weights.write(folder.path("model.safetensors")).unwrap();
    folder
}

/// A run in the order of the sets, without a clip, from Adam's beginning.
fn config(folder: &Folder, name: &str) -> UnlearnConfig {
    UnlearnConfig {
        method: name.into(),
        recipe: Recipe::Code,
        model: folder.path("model.safetensors"),
        retain: vec![folder.path("brain")],
        forget: vec![folder.path("knee")],
        retain_fraction: 1.0,
        fraction_of: FractionOf::Slices,
        forget_weight: 1.0,
        noise: 1e-5,
        gamma: 0.0,
        hyperparameters: Hyperparameters::NONE,
        optimizer_state: OptimizerState::Fresh,
        tests: vec![],
        measure: false,
        sampling: sampling(),
        optimisation: Optimisation {
            loss: Loss::SsimL1,
            lr: 1e-3,
            clip: None,
            batch: 1,
            epochs: Some(1),
            max_steps: None,
            checkpoint_every: None,
            low_memory: false,
            precision: Default::default(),
            shuffle: false,
            seed: SEED,
            plateau: PlateauSettings { factor: 0.1, patience: 1 },
        },
    }
}

#[test]
fn knobs_are_called_as_settings_have_them() {
    let hyperparameters = Hyperparameters {
        alpha: Some(1.0),
        ascent_epochs: Some(1),
        beta: Some(1.0),
        lambda: Some(1.0),
        last_cascades: Some(1),
        saliency: Some(1.0),
    };
    let settings = UnlearnConfig { hyperparameters, ..config(&Folder::new(), "scrub") };
    let settings = toml::Table::try_from(settings).unwrap();
    assert!(Knob::ALWAYS.iter().all(|knob| settings.contains_key(knob.key())), "{settings}");
    let others: BTreeSet<&str> = hyperparameters.knobs().map(Knob::key).collect();
    let table = settings["hyperparameters"].as_table().unwrap();
    assert_eq!(table.keys().map(String::as_str).collect::<BTreeSet<_>>(), others, "{settings}");
    assert_eq!(Knob::AscentEpochs.to_string(), "--ascent-epochs");
}

/// Runs in double precision, for at most so many steps; what it saved and recorded.
fn run_to(out: PathBuf, mut config: UnlearnConfig, steps: u64) -> Result<(Checkpoint, Record)> {
    config.optimisation.max_steps = Some(steps);
    let start = if out.exists() { Start::Resume } else { Start::New };
    let stop = AtomicBool::new(false);
    let unlearning = Unlearning { config, by: None, session: Session::alone(&out, start, &stop) };
    let (_, record) = unlearning.run(&Cpu::<f64>::default())?;
    let len = NETWORK.layout().0.len();
    Ok((Checkpoint::read(&out.join("state.safetensors"), len).unwrap(), record))
}

fn original(folder: &Folder) -> Vec<f32> {
    Weights::read(folder.path("model.safetensors")).unwrap().parameters
}

/// A slice as the first epoch shows it.
fn shown(set: &VolumeSet, (volume, slice): SliceId) -> (Batch, Reference) {
    let file = &set.volumes()[volume];
    let data = file.read_slice(slice).unwrap();
    let mask = Sampler::new(&sampling(), SEED).unwrap().mask(file, slice, 0).unwrap();
    let reference = Reference {
        size: file.target.unwrap(),
        images: data.target.unwrap(),
        max_value: vec![file.max.unwrap()],
    };
    (Batch::new(file, [(data.kspace, mask)]), reference)
}

/// ∇J of a network over one slice, with an image for a target where one is given.
fn gradient(parameters: &[f32], set: &VolumeSet, slice: SliceId, target: Option<Vec<f32>>) -> Vec<f64> {
    let ops = Cpu::<f64>::default();
    let mut engine = Engine::for_training(&ops, NETWORK, parameters).unwrap();
    let (batch, mut reference) = shown(set, slice);
    if let Some(images) = target {
        reference.images = center_crop(&images, set.volumes()[slice.0].matrix, reference.size);
    }
    engine.accumulate(&batch, &reference, LOSS, Objective::DESCENT).unwrap();
    engine.gradient().unwrap()
}

fn sum(terms: &[(f64, &[f64])]) -> Vec<f64> {
    (0..terms[0].1.len()).map(|i| terms.iter().map(|(weight, values)| weight * values[i]).sum()).collect()
}

fn near(found: &[f64], expected: &[f64], share: f64, what: &str) {
    let scale = expected.iter().fold(0f64, |most, x| most.max(x.abs()));
    assert!(scale > 0.0, "{what}: nothing to compare");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs();
        assert!(
            apart <= share * scale,
            "{what}, parameter {i}: {found} instead of {expected}, scale {scale}"
        );
    }
}

/// The gradient that Adam's first step took: its first moment is a tenth of it.
fn first_gradient(checkpoint: &Checkpoint) -> Vec<f64> {
    checkpoint.exp_avg.iter().map(|&m| f64::from(m) / 0.1).collect()
}

fn sets(folder: &Folder) -> [VolumeSet; 2] {
    ["brain", "knee"].map(|name| VolumeSet::open(folder.path(name)).unwrap())
}

fn strength(method: &Method, recipe: Recipe) -> Strength {
    let hyperparameters = method.defaults;
    Strength { recipe, forget_weight: 1.0, noise: 0.0, gamma: 0.5, hyperparameters }
}

/// Over all slices, in the order of the sets.
fn epochs(folder: &Folder, method: Method, recipe: Recipe) -> UnlearnEpochs {
    let [retain, forget] = sets(folder);
    let in_order = Optimisation { seed: SEED, shuffle: false, batch: 1, ..Optimisation::default() };
    UnlearnEpochs::new(method, strength(&method, recipe), [&retain, &forget], &in_order)
}

fn steps(folder: &Folder, name: &str, epoch: u64) -> Vec<PlannedStep> {
    epochs(folder, method(name), Recipe::Code).epoch(epoch)
}

/// What `kerase experiment --dry-run` says of time is what a run then does.
#[test]
fn work_that_is_counted_is_the_work_that_is_done() {
    let folder = folder();
    let slices = sets(&folder).map(|set| set.slice_count());
    for method in METHODS {
        for recipe in [Recipe::Code, Recipe::Text] {
            let schedule = epochs(&folder, method, recipe);
            let strength = strength(&method, recipe);
            let used = [method.uses_retain_set(), method.uses_forget_set()];
            let [retain, forget] = [0, 1].map(|set| if used[set] { slices[set] } else { 0 });
            let what = format!("{} {recipe:?}", method.name);
            assert_eq!(schedule.preparation().len(), method.surveyed([retain, forget]), "{what}");
            for epoch in 0..3 {
                let count = |mixing: fn(&_) -> Mixing| mixing(&strength).count(epoch, [retain, forget]);
                let ([retain, forget], steps) = method.steps.map_or(([0; 2], 0), count);
                let planned = schedule.epoch(epoch);
                let terms =
                    |of| planned.iter().flat_map(|step| &step.terms).filter(|term| term.role == of).count();
                let found = (planned.len(), terms(Role::Retain), terms(Role::Forget));
                let counted = |role, batches| method.count_terms(role, &strength) * batches;
                let counted = (steps, counted(Role::Retain, retain), counted(Role::Forget, forget));
                assert_eq!(found, counted, "{what}, epoch {epoch}");
                if epoch == 0 {
                    // Memory is taken for those that it names.
                    let terms = planned.iter().flat_map(|step| &step.terms);
                    let taught: BTreeSet<usize> = terms.filter_map(|term| term.teacher).collect();
                    let named = method.teachers.iter().map(|&teacher: &Teacher| teacher as usize);
                    assert_eq!(taught, named.collect(), "{what}");
                }
            }
        }
    }
}

fn unlearn(name: &str, out: &str, options: &str) -> String {
    format!(
        "unlearn --method {name} --model model.safetensors --retain brain --forget knee --out {out} {SAMPLING} {options}"
    )
}

#[test]
fn neggrad_plus_weighs_descent_and_ascent_in_every_step() {
    let folder = folder();
    let planned = steps(&folder, "neggrad+", 0);
    assert_eq!(planned.len(), 6, "the smaller set goes round");
    for step in &planned {
        let terms: Vec<_> = step.terms.iter().map(|term| (term.role, term.weight)).collect();
        assert_eq!(terms, [(Role::Forget, 0.95 - 1.0), (Role::Retain, 0.95)]);
        assert!(step.l1 == 0.0 && step.terms.iter().all(|term| term.noise.is_none()));
    }

    let [retain, forget] = sets(&folder);
    let [up, down] = [&forget, &retain].map(|set| gradient(&original(&folder), set, (0, 0), None));
    for beta in [0.95, 0.3] {
        let hyperparameters = Hyperparameters { beta: Some(beta), ..Hyperparameters::NONE };
        let settings = UnlearnConfig { hyperparameters, ..config(&folder, "neggrad+") };
        let (state, record) = run_to(folder.path(&format!("run{beta}")), settings, 1).unwrap();
        near(&first_gradient(&state), &sum(&[(beta, &down), (beta - 1.0, &up)]), 1e-6, "β");
        assert!(record.objective.contains(&format!("β = {beta}")), "{}", record.objective);
    }
    // β = 0.95 where nobody says otherwise, and in the settings that are kept.
    let (default, _) = run_to(folder.path("default"), config(&folder, "neggrad+"), 1).unwrap();
    let (given, _) = run_to(folder.path("run0.95"), config(&folder, "neggrad+"), 1).unwrap();
    assert_eq!(default.parameters, given.parameters);
    let kept = String::from_utf8(folder.read("default/config.toml")).unwrap();
    assert!(kept.contains("[hyperparameters]\nbeta = 0.95"), "{kept}");
}

#[test]
fn what_a_method_does_not_take_is_refused() {
    let folder = folder();
    let fresh = "--optimizer-state fresh";
    for (name, option, parts) in [
        ("neggrad+", "--beta 1.5", &["--beta 1.5", "from 0 to 1"][..]),
        ("neggrad+", "--beta nan", &["--beta NaN"]),
        ("neggrad+", "--recipe text", &["--recipe has no effect with --method neggrad+", "--beta"]),
        ("neggrad+", "--forget-weight 2", &["--forget-weight has no effect"]),
        ("neggrad+", "--noise 1", &["--noise has no effect"]),
        ("ssd", "--alpha nan", &["--alpha NaN", "or inf"]),
        ("ssd", "--lambda inf", &["--lambda inf", "from 0"]),
        ("ssd", "--epochs 3", &["ssd takes no steps", "--seed"]),
        ("ssd", "--lr 1", &["ssd takes no steps"]),
        ("scrub", "--alpha inf", &["--alpha inf"]),
        ("scrub", "--lambda 1", &["--lambda has no effect with --method scrub", "--ascent-epochs"]),
        ("salun", "--saliency 0", &["--saliency 0", "above 0"]),
        ("bad-teacher", "--recipe code", &["--recipe has no effect", "--retain-fraction"]),
        ("cf-k", "--last-cascades 0", &["--last-cascades 0", "from 1"]),
        ("retrain", "--alpha 1", &["--alpha has no effect with --method retrain"]),
        ("ga", "--beta 0.5", &["--beta has no effect with --method ga, which takes --forget-weight"]),
    ] {
        let more = if name == "ssd" { "" } else { fresh };
        folder.kerase(&unlearn(name, "new", &format!("{option} {more}"))).failed(2, parts);
    }
    for (name, part) in
        [("ssd", "takes no steps"), ("eu-k", "--optimizer-state resume"), ("retrain", "leave it out")]
    {
        let line = unlearn(name, "new", "--optimizer-state resume");
        folder.kerase(&line).failed(2, &[name, part]);
    }
    assert!(!folder.path("new").exists());
}

/// The gradient of a step, from what Adam's first moment was before and after it, and the weights before it.
fn gradient_of_step(out: PathBuf, config: &UnlearnConfig, step: u64) -> (Vec<f32>, Vec<f64>) {
    let (before, _) = run_to(out.clone(), config.clone(), step - 1).unwrap();
    let (after, _) = run_to(out, config.clone(), step).unwrap();
    let moments = after.exp_avg.iter().zip(&before.exp_avg);
    let gradient = moments.map(|(&now, &then)| (f64::from(now) - 0.9 * f64::from(then)) / 0.1).collect();
    (before.parameters, gradient)
}

/// A network's image of a slice as the first epoch shows it.
fn image(parameters: &[f32], set: &VolumeSet, slice: SliceId) -> Vec<f32> {
    let ops = Cpu::<f64>::default();
    Engine::new(&ops, NETWORK, parameters).unwrap().reconstruct(&shown(set, slice).0).unwrap()
}

#[test]
fn a_bad_teacher_is_followed_on_what_is_to_be_forgotten() {
    let folder = folder();
    for step in steps(&folder, "bad-teacher", 0) {
        assert_eq!(step.terms.len(), 1);
        let term = &step.terms[0];
        assert_eq!((term.weight, term.noise, step.l1), (1.0, None, 0.0));
        assert_eq!(term.teacher, Some(usize::from(term.role == Role::Forget)));
    }
    let [retain, forget] = sets(&folder);
    let settings = config(&folder, "bad-teacher");
    // The sixth step is the last on the retain set; by then the student is no longer what it was.
    let (student, found) = gradient_of_step(folder.path("retain"), &settings, 6);
    let target = image(&original(&folder), &retain, (1, 2));
    near(&found, &gradient(&student, &retain, (1, 2), Some(target)), 1e-3, "towards the original");
    let (student, found) = gradient_of_step(folder.path("forget"), &settings, 7);
    let target = image(&NETWORK.initial_parameters(SEED), &forget, (0, 0));
    near(&found, &gradient(&student, &forget, (0, 0), Some(target)), 1e-4, "towards the incompetent");
}

#[test]
fn scrub_goes_away_from_the_original_then_back_to_it_and_the_truth() {
    let folder = folder();
    for (epoch, ascents) in [(0, 3), (1, 3), (2, 0), (7, 0)] {
        let planned = steps(&folder, "scrub", epoch);
        assert_eq!(planned.len(), ascents + 6);
        for (i, step) in planned.iter().enumerate() {
            let terms: Vec<_> =
                step.terms.iter().map(|term| (term.role, term.teacher, term.weight)).collect();
            if i < ascents {
                assert_eq!(terms, [(Role::Forget, Some(0), -1.0)]);
            } else {
                assert_eq!(terms, [(Role::Retain, Some(0), 0.001), (Role::Retain, None, 0.5)]);
                assert_eq!(step.terms[0].batch, step.terms[1].batch);
            }
        }
    }
    let [retain, forget] = sets(&folder);
    let settings = UnlearnConfig {
        gamma: 0.7,
        hyperparameters: Hyperparameters { alpha: Some(0.4), ..Hyperparameters::NONE },
        ..config(&folder, "scrub")
    };
    let teacher = original(&folder);
    let (student, found) = gradient_of_step(folder.path("max"), &settings, 3);
    let away = gradient(&student, &forget, (0, 2), Some(image(&teacher, &forget, (0, 2))));
    near(&found, &sum(&[(-1.0, &away)]), 1e-3, "a max-step");
    let (student, found) = gradient_of_step(folder.path("min"), &settings, 4);
    let back = gradient(&student, &retain, (0, 0), Some(image(&teacher, &retain, (0, 0))));
    let truth = gradient(&student, &retain, (0, 0), None);
    near(&found, &sum(&[(0.4, &back), (0.7, &truth)]), 1e-4, "a min-step");
}

/// The mean of the squared gradients of slices.
fn importance(parameters: &[f32], set: &VolumeSet) -> Vec<f64> {
    let slices = set.slices();
    let squares: Vec<Vec<f64>> = slices
        .iter()
        .map(|&slice| gradient(parameters, set, slice, None).iter().map(|g| g * g).collect())
        .collect();
    let weight = 1.0 / slices.len() as f64;
    sum(&squares.iter().map(|squares| (weight, squares.as_slice())).collect::<Vec<_>>())
}

#[test]
fn ssd_dampens_what_matters_to_the_forget_set_and_nothing_else() {
    let folder = folder();
    let before = original(&folder);
    let [retain, forget] = sets(&folder);
    let f = importance(&before, &forget);
    let ssd = |out: &str, alpha: f64, lambda: f64, fraction: f64| {
        let hyperparameters =
            Hyperparameters { alpha: Some(alpha), lambda: Some(lambda), ..Hyperparameters::NONE };
        let mut settings =
            UnlearnConfig { hyperparameters, retain_fraction: fraction, ..config(&folder, "ssd") };
        // Whatever the batch of the steps that there are not.
        settings.optimisation.batch = 2;
        let out = folder.path(out);
        let stop = AtomicBool::new(false);
        let (start, loader) = (Start::New, LoaderOptions::default());
        let unlearning = Unlearning {
            config: settings,
            by: None,
            session: Session { out: &out, start, loader, shown: false, ranks: &ALONE, stop: &stop },
        };
        let (_, record) = unlearning.run(&Cpu::<f64>::default()).unwrap();
        (Weights::read(out.join("model.safetensors")).unwrap().parameters, record)
    };
    // The whole retain set weighs 6 of 9 slices, whatever part of it is looked at.
    for (out, fraction) in [("all", 1.0), ("half", 0.5)] {
        let part = retain.fraction(fraction, FractionOf::Slices, SEED).unwrap();
        let d = sum(&[(3.0 / 9.0, &f), (6.0 / 9.0, &importance(&before, &part))]);
        let (after, record) = ssd(out, 1.3, 0.6, fraction);
        let mut selected = 0;
        for i in 0..before.len() {
            if f[i] > 1.3 * d[i] {
                selected += 1;
                let expected = f64::from(before[i]) * (0.6 * d[i] / f[i]).min(1.0);
                let apart = (f64::from(after[i]) - expected).abs();
                assert!(apart <= 1e-6 * expected.abs(), "parameter {i}: {} instead of {expected}", after[i]);
            } else {
                assert_eq!(after[i].to_bits(), before[i].to_bits(), "parameter {i}");
            }
        }
        assert!(selected > 20 && selected < before.len() - 20, "{selected} of {}", before.len());
        assert_eq!((record.weights_selected, record.weights), (Some(selected), before.len()));
        assert_eq!((record.steps, record.epochs, record.finished), (0, 1, true));
        assert!(record.warnings.is_empty(), "{:?}", record.warnings);
    }
    // Three slices of nine: from α = 3 on there is nothing to select.
    for (out, alpha) in [("three", 3.001), ("infinite", f64::INFINITY)] {
        let (after, record) = ssd(out, alpha, 1.0, 1.0);
        assert_eq!(after, before);
        assert!(
            record.warnings[0].contains("3 of 9 slices, and an α of 3.000 or more"),
            "{:?}",
            record.warnings
        );
    }
}

#[test]
fn ssd_can_be_stopped_and_has_no_steps() {
    let folder = folder();
    folder.kerase(&unlearn("ssd", "whole", "--alpha 1.3 --no-measure --threads 2")).succeeded();
    let said = folder.kerase("unlearn --resume --out whole").succeeded();
    assert!(said.contains("finished already (0 steps, 1 epochs)"), "{said}");
    folder.kerase("unlearn --resume --out whole --epochs 2").failed(2, &["ssd takes no steps", "--epochs"]);

    // Stopped within its pass over the data, and killed after it, before its record.
    let hyperparameters = Hyperparameters { alpha: Some(1.3), ..Hyperparameters::NONE };
    let mut settings = UnlearnConfig { hyperparameters, retain_fraction: 0.1, ..config(&folder, "ssd") };
    settings.optimisation.seed = 42;
    let out = folder.path("stopped");
    let stop = AtomicBool::new(true);
    let loader = LoaderOptions::default();
    let unlearning = Unlearning {
        config: settings,
        by: None,
        session: Session { out: &out, start: Start::New, loader, shown: false, ranks: &ALONE, stop: &stop },
    };
    let (outcome, record) = unlearning.run(&Cpu::<f32>::default()).unwrap();
    assert_eq!((outcome, record.finished, record.weights_selected), (Outcome::Stopped, false, None));
    assert!(!out.join("state.safetensors").exists());
    folder.kerase("unlearn --resume --out stopped --threads 1").succeeded();
    let model = |run: &str| folder.read(&format!("{run}/model.safetensors"));
    assert_eq!(model("stopped"), model("whole"));
    std::fs::remove_file(out.join("unlearning.json")).unwrap();
    folder.kerase("unlearn --resume --out stopped").succeeded();
    assert_eq!(model("stopped"), model("whole"));
    let selected = |run: &str| folder.json(&format!("{run}/unlearning.json"))["weights_selected"].clone();
    assert_eq!(selected("stopped"), selected("whole"));
}

#[test]
fn salun_changes_salient_weights_alone() {
    let folder = folder();
    let before = original(&folder);
    let [retain, forget] = sets(&folder);
    let of_slices: Vec<_> = forget.slices().iter().map(|&s| gradient(&before, &forget, s, None)).collect();
    let whole = sum(&of_slices.iter().map(|gradient| (1.0, gradient.as_slice())).collect::<Vec<_>>());
    for share in [0.5, 0.1] {
        let mut sizes: Vec<f64> = whole.iter().map(|g| g.abs()).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        let count = (share * sizes.len() as f64).round_ties_even() as usize;
        let salient: Vec<bool> = whole.iter().map(|g| g.abs() >= sizes[count - 1]).collect();

        let hyperparameters = Hyperparameters { saliency: Some(share), ..Hyperparameters::NONE };
        let settings = UnlearnConfig { hyperparameters, ..config(&folder, "salun") };
        let out = folder.path(&format!("run{share}"));
        let (state, record) = run_to(out.clone(), settings.clone(), 1).unwrap();
        assert_eq!(record.weights_selected, Some(count));
        assert!(
            record.objective.contains(&format!("share of salient weights = {share}")),
            "{}",
            record.objective
        );
        let first = gradient(&before, &retain, (0, 0), None);
        let masked: Vec<f64> = first.iter().zip(&salient).map(|(g, s)| if *s { *g } else { 0.0 }).collect();
        near(&first_gradient(&state), &masked, 1e-6, "the first step");
        let log = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let norm = masked.iter().map(|g| g * g).sum::<f64>().sqrt();
        let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        assert!((line["grad_norm"].as_f64().unwrap() / norm - 1.0).abs() < 1e-9, "{line} {norm}");

        let (state, _) = run_to(out, settings, 9).unwrap();
        let changed = (0..before.len()).filter(|&i| {
            let same = state.parameters[i].to_bits() == before[i].to_bits();
            assert!(
                salient[i] || same && state.exp_avg[i] == 0.0 && state.exp_avg_sq[i] == 0.0,
                "parameter {i}"
            );
            !same
        });
        assert!(changed.count() > count * 9 / 10);
    }
}

#[test]
fn a_mask_outlives_a_kill() {
    let folder = folder();
    let options = "--optimizer-state fresh --no-measure --epochs 1 --retain-fraction 0.7 --saliency 0.3";
    folder.kerase(&unlearn("salun", "whole", options)).succeeded();
    let lasting = |run: &str| ["model", "mask"].map(|name| folder.read(&format!("{run}/{name}.safetensors")));
    // Killed before its first checkpoint: the mask is there already.
    folder.kerase(&unlearn("salun", "early", &format!("{options} --max-steps 1"))).succeeded();
    for name in ["state.safetensors", "model.safetensors", "metrics.jsonl", "unlearning.json"] {
        std::fs::remove_file(folder.path(&format!("early/{name}"))).unwrap();
    }
    let mask = folder.read("early/mask.safetensors");
    folder.kerase("unlearn --resume --out early --max-steps 100").succeeded();
    assert_eq!(folder.read("early/mask.safetensors"), mask, "read, not made again");
    assert_eq!(lasting("early")[0], lasting("whole")[0]);
    // It is of the data that it was made from.
    folder.kerase(&unlearn("salun", "changed", &format!("{options} --max-steps 1"))).succeeded();
    for name in ["state.safetensors", "model.safetensors", "metrics.jsonl", "unlearning.json"] {
        std::fs::remove_file(folder.path(&format!("changed/{name}"))).unwrap();
    }
    let forget = folder.path("knee").join(&sets(&folder)[1].volumes()[0].name);
    let kept = std::fs::read(&forget).unwrap();
    let mut other = kept.clone();
    let middle = other.len() / 2;
    other[middle..middle + 4096].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&forget, other).unwrap();
    folder
        .kerase("unlearn --resume --out changed --max-steps 100")
        .failed(2, &["changed", "have changed since"]);
    std::fs::write(&forget, kept).unwrap();
    // And before its mask.
    folder.kerase(&unlearn("salun", "earlier", &format!("{options} --max-steps 1"))).succeeded();
    for name in
        ["mask.safetensors", "state.safetensors", "model.safetensors", "metrics.jsonl", "unlearning.json"]
    {
        std::fs::remove_file(folder.path(&format!("earlier/{name}"))).unwrap();
    }
    folder.kerase("unlearn --resume --out earlier --max-steps 100").succeeded();
    assert_eq!(lasting("earlier")[0], lasting("whole")[0]);
    // That of another run would train other weights.
    let mut other = folder.read("whole/mask.safetensors");
    let origin = br#""kerase.origin":""#;
    let at = other.windows(origin.len()).position(|window| window == origin).unwrap() + origin.len();
    other[at] = if other[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(folder.path("whole/mask.safetensors"), other).unwrap();
    folder
        .kerase("unlearn --resume --out whole --epochs 2")
        .failed(2, &["whole/mask.safetensors", "another run"]);
    // Without it a run that has begun cannot go on.
    std::fs::remove_file(folder.path("whole/mask.safetensors")).unwrap();
    folder.kerase("unlearn --resume --out whole --epochs 2").failed(2, &["whole/mask.safetensors"]);
}

#[test]
fn the_last_cascades_alone_are_trained_from_where_they_are_or_anew() {
    let folder = folder();
    let before = original(&folder);
    let [retain, _] = sets(&folder);
    let (layout, _) = NETWORK.layout();
    let random = NETWORK.initial_parameters(SEED);
    for k in 1..=3 {
        let is_last =
            |name: &str| (3 - k..3).any(|cascade| name.starts_with(&format!("cascades.{cascade}.")));
        let mut last = vec![false; before.len()];
        layout.parameters.iter().filter(|p| is_last(&p.name)).for_each(|p| last[p.span.range()].fill(true));
        for name in ["cf-k", "eu-k"] {
            let start: Vec<f32> = (0..before.len())
                .map(|i| if last[i] && name == "eu-k" { random[i] } else { before[i] })
                .collect();
            let hyperparameters = Hyperparameters { last_cascades: Some(k), ..Hyperparameters::NONE };
            let settings = UnlearnConfig { hyperparameters, ..config(&folder, name) };
            let out = folder.path(&format!("{name}{k}"));
            let (state, record) = run_to(out.clone(), settings.clone(), 1).unwrap();
            assert_eq!(record.weights_selected, Some(last.iter().filter(|flag| **flag).count()));
            let whole = gradient(&start, &retain, (0, 0), None);
            let masked: Vec<f64> = whole.iter().zip(&last).map(|(g, l)| if *l { *g } else { 0.0 }).collect();
            near(&first_gradient(&state), &masked, 1e-6, &format!("{name} with k = {k}"));
            let (state, _) = run_to(out, settings, 6).unwrap();
            for i in 0..before.len() {
                let same = state.parameters[i].to_bits() == before[i].to_bits();
                assert!(last[i] || same, "{name}: parameter {i} is frozen");
            }
            assert!((0..before.len()).any(|i| state.parameters[i] != before[i]));
        }
    }
    for name in ["cf-k", "eu-k"] {
        let line = unlearn(name, "new", "--last-cascades 4 --optimizer-state fresh");
        folder.kerase(&line).failed(2, &["--last-cascades 4", "has 3"]);
    }
}

#[test]
fn retraining_is_training_on_the_retain_set() {
    let folder = folder();
    let network = "--cascades 3 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1";
    folder.kerase(&format!("train --data brain --out train {network} {SAMPLING} --epochs 2")).succeeded();
    folder.kerase(&unlearn("retrain", "retrain", "--epochs 2 --no-measure")).succeeded();
    assert_eq!(folder.read("retrain/model.safetensors"), folder.read("train/model.safetensors"));
    assert_eq!(folder.lines("retrain", "step").len(), 12);
    let kept = String::from_utf8(folder.read("retrain/config.toml")).unwrap();
    assert!(kept.contains("retain_fraction = 1.0") && kept.contains("patience = 10"), "{kept}");
}

#[test]
fn retraining_is_as_long_as_the_originals_training() {
    let folder = folder();
    let network = "--cascades 3 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1";
    let options = "--lr 2e-3 --lr-patience 4 --batch 2";
    folder
        .kerase(&format!("train --data brain --out oracle {network} {SAMPLING} {options} --epochs 2"))
        .succeeded();
    let original = format!("--data brain --data knee --out original {network} {SAMPLING}");
    folder.kerase(&format!("train {original} {options} --epochs 2")).succeeded();
    let of = |model: &str, out: &str| {
        format!("unlearn --model {model} --retain brain --forget knee --no-measure --out {out}")
    };
    folder.kerase(&format!("{} --method retrain", of("original", "retrained"))).succeeded();
    assert_eq!(folder.read("retrained/model.safetensors"), folder.read("oracle/model.safetensors"));

    // Other methods are as long as the paper's, at training's rate and batch. After them nobody knows how it was trained.
    folder
        .kerase(&format!("{} --method ft --optimizer-state fresh --max-steps 1", of("original", "tuned")))
        .succeeded();
    folder
        .kerase(&format!("{} --method ft --optimizer-state fresh --epochs 1", of("original", "again")))
        .succeeded();
    folder.kerase(&format!("{} --method retrain --max-steps 1", of("again", "unknown"))).succeeded();
    let optimisation = |run: &str| {
        let config: toml::Table =
            String::from_utf8(folder.read(&format!("{run}/config.toml"))).unwrap().parse().unwrap();
        config["optimisation"].clone()
    };
    let [tuned, unknown] = ["tuned", "unknown"].map(optimisation);
    assert_eq!((tuned["lr"].as_float(), tuned["batch"].as_integer()), (Some(2e-3), Some(2)));
    assert_eq!((unknown["lr"].as_float(), unknown["batch"].as_integer()), (Some(1e-3), Some(1)));
}

/// Each in parts, with another number of threads and with less memory.
#[test]
fn stops_threads_and_less_memory_change_no_bit() {
    let folder = folder();
    for (name, options) in [
        ("neggrad+", "--beta 0.7"),
        ("bad-teacher", ""),
        ("scrub", "--ascent-epochs 1 --alpha 0.5"),
        ("salun", "--noise 1e-3"),
        ("cf-k", "--last-cascades 2"),
        ("eu-k", "--batch 2"),
        ("retrain", ""),
    ] {
        let fixed = format!("--optimizer-state fresh --retain-fraction 0.7 {options} --epochs 2");
        let [whole, parts] = ["whole", "parts"].map(|part| format!("{name}-{part}"));
        folder.kerase(&unlearn(name, &whole, &format!("{fixed} --threads 2"))).succeeded();
        folder
            .kerase(&unlearn(name, &parts, &format!("{fixed} --threads 1 --low-memory --max-steps 1")))
            .succeeded();
        for most in [2, 3, 5, 100] {
            folder.kerase(&format!("unlearn --resume --out {parts} --max-steps {most}")).succeeded();
        }
        let lasting = |run: &str| {
            let mut lines = folder.lines(run, "");
            lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
            let mut record = folder.json(&format!("{run}/unlearning.json"));
            record.as_object_mut().unwrap().remove("seconds");
            (folder.read(&format!("{run}/model.safetensors")), lines, record)
        };
        assert_eq!(lasting(&parts), lasting(&whole), "{name}");
    }
}
