//! An unlearning request carried out: from weights and two sets to weights and a record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::batch::{Sampler, Sampling};
use crate::config::Optimisation;
use crate::data::cache::Room;
use crate::data::digest::digests;
use crate::data::loader::LoaderOptions;
use crate::data::overlap::{check_disjoint, volumes_of_same_patients};
use crate::data::set::{FractionOf, VolumeSet};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{check_targets, evaluate_together_until, own_slices, summary};
use crate::metrics::ScoreSummary;
use crate::model::Weights;
use crate::paths::absolute;
use crate::progress::Progress;
use crate::provenance::{Provenance, VERSION};
use crate::ranks::Ranks;
use crate::reconstruct::make_rooms;
use crate::run::check::{fingerprint, measurable};
use crate::run::state::Checkpoint;
use crate::run::steps::Validate;
use crate::run::{Outcome, Run, RunDirectory, RunState, Start};
use crate::sha256;
use crate::tensorboard::EventFile;
use crate::unlearn::hyperparameters::{Hyperparameters, filled};
use crate::unlearn::last_cascades;
use crate::unlearn::measured::Kept;
use crate::unlearn::method::{Anew, Forgetting, Method, OptimizerState, Recipe};
use crate::unlearn::preparation::{Preparation, Reached};
use crate::unlearn::record::{BeforeAfter, NOTE, Record};
use crate::unlearn::schedule::{Strength, UnlearnEpochs};

/// A set to measure before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSet {
    pub name: String,
    pub path: PathBuf,
}

/// `kerase unlearn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlearnConfig {
    pub method: String,
    pub recipe: Recipe,
    pub model: PathBuf,
    pub retain: PathBuf,
    pub forget: PathBuf,
    pub retain_fraction: f64,
    pub fraction_of: FractionOf,
    pub forget_weight: f64,
    /// λ.
    pub noise: f64,
    /// γ.
    pub gamma: f64,
    /// Those that the method has; where one is missing, its default.
    #[serde(default, skip_serializing_if = "Hyperparameters::is_none")]
    pub hyperparameters: Hyperparameters,
    pub optimizer_state: OptimizerState,
    /// Measured before and after, beside the forget set.
    pub tests: Vec<NamedSet>,
    pub measure: bool,
    pub sampling: Sampling,
    pub optimisation: Optimisation,
}

/// Where and how a request is carried out.
pub struct Unlearning<'t> {
    pub config: UnlearnConfig,
    pub out: &'t Path,
    pub start: Start,
    pub loader: LoaderOptions,
    /// Whether TensorBoard is to see the run.
    pub shown: bool,
    /// Who computes, for the record.
    pub by: Option<Provenance>,
    /// Who shares the work: all of them run this alike.
    pub ranks: &'t Ranks,
    pub stop: &'t AtomicBool,
}

impl UnlearnConfig {
    /// The part of the retain set that is trained on.
    fn retain_part(&self, retain: &VolumeSet) -> Result<VolumeSet> {
        retain
            .fraction(self.retain_fraction, self.fraction_of, self.optimisation.seed)
            .map_err(|error| error.of("--retain-fraction"))
    }

    /// These settings with the method's defaults for what is missing.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn with_defaults(&self) -> Result<Self> {
        Ok(self.filled()?.1)
    }

    /// The method, and these settings with its defaults for what is missing.
    fn filled(&self) -> Result<(Method, Self)> {
        let method = self.check()?;
        let hyperparameters = self.hyperparameters.or(method.defaults);
        Ok((method, Self { hyperparameters, ..self.clone() }))
    }

    /// # Errors
    /// Settings that the method cannot work with.
    pub fn check(&self) -> Result<Method> {
        let method: Method = self.method.parse()?;
        self.optimisation.check()?;
        self.hyperparameters.check(&method)?;
        if !method.has_steps() {
            let once = (Some(1), None) == (self.optimisation.epochs, self.optimisation.max_steps);
            if !once {
                return Err(Error::input(format!(
                    "--method {} takes no steps: --epochs and --max-steps have no effect with it",
                    method.name
                )));
            }
        }
        if self.optimizer_state == OptimizerState::Resume && !method.resumes_adam() {
            return Err(Error::input(format!(
                "--optimizer-state resume: --method {} has no weights whose training goes on; leave it out",
                method.name
            )));
        }
        for (name, value) in
            [("--forget-weight", self.forget_weight), ("--noise", self.noise), ("--gamma", self.gamma)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::input(format!("{name} {value}: expected a number from 0")));
            }
        }
        Ok(method)
    }

    /// As it is written to config.toml.
    pub fn with_absolute_paths(&self) -> Self {
        let test = |test: &NamedSet| NamedSet { name: test.name.clone(), path: absolute(&test.path) };
        Self {
            model: absolute(&self.model),
            retain: absolute(&self.retain),
            forget: absolute(&self.forget),
            tests: self.tests.iter().map(test).collect(),
            ..self.clone()
        }
    }

    /// The objective with its numbers.
    fn describe(&self, method: &Method) -> String {
        let Self { recipe, forget_weight, noise, gamma, .. } = self;
        let mut text = method.objective.to_string();
        if method.options().contains(&"--forget-weight") {
            text += &format!(" with forget weight {forget_weight}");
        }
        text += &self.hyperparameters.describe();
        match method.forgetting {
            Forgetting::AscentL1 => {
                let factor = recipe.ascent(true);
                text += &format!(", J(x_f) weighted {factor}, γ = {gamma}");
            }
            Forgetting::NoisyLabels => {
                let kind = if recipe.absolute_noise() { "|λ·n|" } else { "λ·n" };
                text += &format!(", noise {kind} with λ = {noise}");
            }
            Forgetting::Scrub => text += &format!(", γ = {gamma}"),
            Forgetting::None
            | Forgetting::Ascent
            | Forgetting::Balanced
            | Forgetting::BadTeacher
            | Forgetting::Dampening => {}
        }
        if method.recipe && method.retain && method.uses_forget_set() {
            text += match recipe {
                Recipe::Text => ", a forget and a retain slice in every step",
                Recipe::Code => ", single slices of both sets in one shuffled stream",
            };
        }
        text
    }
}

impl Unlearning<'_> {
    /// Unlearns and leaves weights, state, log and `unlearning.json` in `out`.
    ///
    /// # Errors
    /// Bad settings or data before anything is written; later what [`Run::go`] returns.
    pub fn run<B: Backend>(&self, ops: &B) -> Result<(Outcome, Record)> {
        self.run_measuring(ops, &mut |_, _| Ok(None))
    }

    /// As [`Self::run`], with a measurement after each epoch.
    ///
    /// # Errors
    /// Those of [`Self::run`] and of the measurement.
    pub fn run_measuring<B: Backend>(
        &self,
        ops: &B,
        after_epoch: &mut Validate<'_, B>,
    ) -> Result<(Outcome, Record)> {
        let filled_in = self.config.filled()?;
        let (method, config) = &filled_in;
        let directory = RunDirectory::check(self.out, self.start)?;
        if self.start != Start::Resume {
            directory.refuse_own_weights(&config.model, "--model")?;
        }
        let weights = Weights::read(&config.model)?;
        let retain = VolumeSet::open(&config.retain)?;
        let forget = VolumeSet::open(&config.forget)?;
        check_disjoint(&retain, &forget, ["retain", "forget"])?;
        let of_patients = of_forgotten_patients(&retain, &forget);
        let sampler = Sampler::new(&config.sampling, config.optimisation.seed)?;
        let fixed = Sampler::fixed(&config.sampling)?;
        let retain = sampler.compressed(retain)?;
        let forget = sampler.compressed(forget)?;
        let used = match method.retain {
            true => config.retain_part(&retain)?,
            false => retain.clone(),
        };
        let mut measured = vec![("forget".to_string(), Arc::new(forget.clone()))];
        for NamedSet { name, path } in &config.tests {
            measured.push((name.clone(), Arc::new(sampler.compressed(VolumeSet::open(path)?)?)));
        }
        if config.measure {
            measured.iter().try_for_each(|(_, set)| check_targets(set))?;
        }

        let mut engine = Engine::for_training(ops, weights.architecture, &weights.parameters)?
            .recomputing(config.optimisation.low_memory);
        let reached = Reached::of(&directory, self.start)?;
        let mut state = match reached {
            Reached::Saved => directory.restore(&mut engine)?,
            _ => self.initial_state(&mut engine, &filled_in)?,
        };
        let (mut preparation, origin) = Preparation::new(
            &mut engine,
            method,
            config.hyperparameters,
            &weights.parameters,
            config.optimisation.seed,
            (&directory, reached),
        )?;
        if reached == Reached::Prepared {
            // What was found out is of what the run began with: the check below compares them.
            state.origin = origin.unwrap_or_default();
        }
        let o = &config.optimisation;
        let strength = Strength {
            recipe: config.recipe,
            forget_weight: config.forget_weight,
            noise: config.noise,
            gamma: config.gamma,
            hyperparameters: config.hyperparameters,
        };
        let schedule = UnlearnEpochs::new(*method, strength, &used, &forget, o.seed, o.shuffle, o.batch);
        let run = Run {
            directory: &directory,
            start: self.start,
            set: Arc::new(schedule.set().clone().cached(&Room::new(self.loader.cache))),
            sampler,
            schedule: &schedule,
            loss: o.loss.weights(),
            clip: o.clip,
            plateau: o.plateau,
            epochs: o.epochs,
            max_steps: o.max_steps,
            checkpoint_every: o.checkpoint_every,
            seed: o.seed,
            loader: self.loader,
            shown: self.shown,
            ranks: self.ranks,
            stop: self.stop,
            origin: format!(
                "{} {} {}",
                fingerprint(schedule.set()),
                fingerprint(&forget),
                sha256::of_parameters(&weights.parameters)
            ),
            title: "unlearning",
        };
        // Measured from the weights that the run started from, also where it is resumed.
        let mut original = Engine::new(ops, weights.architecture, &weights.parameters)?;
        if config.measure {
            for (_, set) in &measured {
                measurable(set, engine.net())?;
                make_rooms(&mut engine, set)?;
                make_rooms(&mut original, set)?;
            }
        }
        run.check(&mut engine, &mut state)?;
        // Hashing reads the whole forget set: a volume that cannot be read stops the request before it changes
        // anything.
        let forgotten = if self.ranks.is_first() { digests(&forget)? } else { Vec::new() };
        run.agree(&config.with_absolute_paths(), &mut engine, &state, measured.iter().map(|(_, set)| set))?;
        let prints: Vec<String> = measured.iter().map(|(_, set)| fingerprint(set)).collect();
        let mut kept = Kept::read(&directory, self.start, self.ranks)?;
        let take = || directory.take(self.start, &config.with_absolute_paths());
        let _lock = self.ranks.is_first().then(take).transpose()?;
        // None where a stop was asked for. What was measured by then is kept.
        let mut measure = |engine: &mut Engine<'_, B>, when: &str| -> Result<Option<Vec<_>>> {
            if !config.measure {
                return Ok(Some(vec![None; measured.len()]));
            }
            let weights = sha256::of_parameters(&engine.parameters()?);
            let known: Vec<_> =
                measured.iter().zip(&prints).map(|((name, _), data)| kept.of(name, data, &weights)).collect();
            let missing = measured.iter().zip(&known).filter(|(_, known)| known.is_none());
            let slices: usize = missing.map(|((_, set), _)| own_slices(self.ranks, set)).sum();
            let mut progress = Progress::new(slices as u64, &format!("measuring {when}"));
            let mut scores = Vec::new();
            for (((name, set), data), known) in measured.iter().zip(&prints).zip(known) {
                if let Some(known) = known {
                    scores.push(known);
                    continue;
                }
                let step = || progress.step("");
                let results =
                    evaluate_together_until(Some(self.stop), self.ranks, engine, set, &fixed, step)?;
                let Some(results) = results else { return Ok(None) };
                scores.push(summary(&results));
                kept.add(name, data, &weights, summary(&results))?;
            }
            progress.finish();
            Ok(Some(scores))
        };
        let before = measure(&mut original, "before")?;
        drop(original);
        let slices = [&forget, &retain].map(|set| set.slice_count() as f64);
        let forget_share = slices[0] / (slices[0] + slices[1]);
        let ready = before.is_some() && preparation.carry_out(&run, &mut engine, &mut state, forget_share)?;
        let mut outcome = match ready {
            true => run.go(&mut engine, &mut state, after_epoch)?,
            false => Outcome::Stopped,
        };

        let nothing = || vec![None; measured.len()];
        let (after, diverged) = match outcome {
            Outcome::Stopped => (None, None),
            Outcome::Finished => match measure(&mut engine, "after") {
                // The run is over, and this is what it led to: for the record, not an error.
                Err(Error::NotFinite(message)) => (Some(nothing()), Some(message)),
                scores => (scores?, None),
            },
        };
        if after.is_none() {
            outcome = Outcome::Stopped;
        }
        let (before, after) = (before.unwrap_or_else(nothing), after.unwrap_or_else(nothing));
        let metrics: Vec<BeforeAfter> = measured
            .iter()
            .zip(before.into_iter().zip(after))
            .map(|((name, set), (before, after))| BeforeAfter {
                set: name.clone(),
                volumes: set.volumes().len(),
                before,
                after,
            })
            .collect();
        let parameters = engine.parameters()?;
        let selected = preparation.trained().or_else(|| {
            // Those that were dampened, if any were.
            let bits = weights.parameters.iter().zip(&parameters);
            let changed = || bits.filter(|(before, after)| before.to_bits() != after.to_bits()).count();
            (!method.has_steps() && outcome == Outcome::Finished).then(changed)
        });
        let untouched = (!method.has_steps() && selected == Some(0)).then(|| {
            format!(
                "no weight was selected: the forget set is {} of {} slices, and an α of {:.3} or more selects none",
                forget.slice_count(),
                forget.slice_count() + retain.slice_count(),
                1.0 + retain.slice_count() as f64 / forget.slice_count() as f64
            )
        });
        let record = Record {
            kerase: VERSION,
            by: self.by.clone(),
            method: method.name,
            title: method.title,
            recipe: config.recipe,
            objective: config.describe(method),
            finished: outcome == Outcome::Finished,
            forgotten_slices: forget.slice_count(),
            forgotten,
            retain_slices: retain.slice_count(),
            retain_slices_used: if method.retain { used.slice_count() } else { 0 },
            retain_fraction: config.retain_fraction,
            optimizer_state: config.optimizer_state,
            steps: state.step,
            epochs: state.epoch,
            seconds: state.seconds,
            weights_before_sha256: sha256::of_parameters(&weights.parameters),
            weights_after_sha256: sha256::of_parameters(&parameters),
            weights: parameters.len(),
            weights_selected: selected,
            warnings: [diverged, untouched, of_patients]
                .into_iter()
                .flatten()
                .chain(warnings(method, &metrics))
                .collect(),
            metrics,
            note: NOTE,
        };
        if self.ranks.is_first() {
            if self.shown {
                show_scores(&directory, state.step, &record.metrics)?;
            }
            directory.write_json("unlearning.json", &record)?;
        }
        Ok((outcome, record))
    }

    /// The weights that the method begins with; and Adam's moments, the learning rate and what the plateau has counted where
    /// training left them, if they are asked for.
    fn initial_state<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        (method, config): &(Method, UnlearnConfig),
    ) -> Result<RunState> {
        if method.anew != Anew::Nothing {
            let mut parameters = engine.architecture().initial_parameters(config.optimisation.seed);
            if method.anew == Anew::LastCascades {
                let k = filled(config.hyperparameters.last_cascades);
                let anew = last_cascades::flags(engine.net(), k)?;
                let original = engine.parameters()?;
                let kept = parameters.iter_mut().zip(original).zip(anew).filter(|(_, anew)| !anew);
                kept.for_each(|((parameter, original), _)| *parameter = original);
            }
            engine.set_parameters(&parameters);
        }
        let fresh = RunState::new(config.optimisation.lr);
        if config.optimizer_state == OptimizerState::Fresh {
            return Ok(fresh);
        }
        let path = config.model.with_file_name("state.safetensors");
        if !path.exists() {
            return Err(Error::input(format!(
                "{} is missing: --optimizer-state resume takes Adam's moments from the file beside the weights; use \
                 --optimizer-state fresh for weights from elsewhere",
                path.display()
            )));
        }
        let checkpoint = Checkpoint::read(&path, engine.net().layout.len())?;
        if checkpoint.parameters != engine.parameters()? {
            return Err(Error::input(format!(
                "{} belongs to other weights than {}: use --optimizer-state fresh",
                path.display(),
                config.model.display()
            )));
        }
        engine.set_moments([&checkpoint.exp_avg, &checkpoint.exp_avg_sq]);
        let RunState { adam_step, plateau, .. } = checkpoint.state;
        Ok(RunState { adam_step, plateau, ..RunState::new(plateau.lr) })
    }
}

/// Shows TensorBoard the scores before and after a run of so many steps.
fn show_scores(directory: &RunDirectory, steps: u64, metrics: &[BeforeAfter]) -> Result<()> {
    let measured: Vec<(&str, [ScoreSummary; 2])> =
        metrics.iter().filter_map(|m| Some((&*m.set, [m.before?, m.after?]))).collect();
    if measured.is_empty() {
        return Ok(());
    }
    // Of what the run has shown nothing is void.
    let mut events = EventFile::create(&directory.tensorboard(), steps + 1)?;
    for (set, scores) in measured {
        for (step, ScoreSummary { psnr, ssim, nmse }) in [0, steps].into_iter().zip(scores) {
            let named = [("psnr", psnr), ("ssim", ssim), ("nmse", nmse)]
                .map(|(score, spread)| (format!("measured {score}/{set}"), spread.mean));
            let values = named.each_ref().map(|(name, value)| (&**name, *value));
            events.scalars(step, &values)?;
        }
    }
    events.flush()
}

/// Who asks to be forgotten may have been scanned more than once.
fn of_forgotten_patients(retain: &VolumeSet, forget: &VolumeSet) -> Option<String> {
    let count = volumes_of_same_patients(forget, retain);
    (count > 0).then(|| {
        format!(
            "{count} of {} volumes of the retain set are, by the patient that their files name, of somebody whom the \
             forget set has volumes of: they are not forgotten",
            retain.volumes().len()
        )
    })
}

/// Below this SSIM nothing of an image is left.
const RUINED: f64 = 0.3;

fn warnings(method: &Method, metrics: &[BeforeAfter]) -> Vec<String> {
    let ascent = matches!(method.forgetting, Forgetting::Ascent | Forgetting::AscentL1) && !method.retain;
    let reason = match ascent {
        true => {
            ". Ascent without retain data diverges to finite nonsense; a method with fine-tuning (…-ft) keeps the rest"
        }
        false => "",
    };
    let ruined = metrics.iter().filter_map(|m| {
        let (before, after) = (m.before.as_ref()?, m.after.as_ref()?);
        (after.ssim.mean < RUINED && before.ssim.mean >= RUINED).then(|| {
            format!(
                "the network no longer reconstructs the set {}: SSIM fell from {:.3} to {:.3}{reason}",
                m.set, before.ssim.mean, after.ssim.mean
            )
        })
    });
    ruined.collect()
}
