//! Training a network on a set of volumes.

mod config;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::backend::Backend;
use crate::batch::Sampler;
use crate::crop::center_crop;
use crate::data::cache::CacheBudget;
use crate::data::digest::fingerprint;
use crate::data::order::epoch_order;
use crate::data::overlap::{check_disjoint, common_volumes};
use crate::data::set::{VolumeSet, own_masks_summary};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{VolumeResult, check_targets, evaluate_together, own_slices, summary};
use crate::memory::check_host;
use crate::metrics::ScoreSummary;
use crate::model::{VarNet, Weights};
use crate::progress::{Progress, say, warn};
use crate::reconstruct::{make_rooms, reconstruct_set};
use crate::run::usable::measurable;
use crate::run::validation::Validation;
use crate::run::{
    Best, Outcome, Picture, PlannedStep, Role, Run, RunDirectory, RunState, Schedule, Session, Term,
};

pub use config::TrainConfig;

/// Every slice once an epoch, in seeded order.
struct Epochs<'s> {
    set: &'s VolumeSet,
    seed: u64,
    shuffle: bool,
    batch: usize,
}

impl Schedule for Epochs<'_> {
    fn epoch(&self, epoch: u64) -> Vec<PlannedStep> {
        let order = epoch_order(self.set, self.seed, epoch, self.shuffle, self.batch);
        let step = |batch| PlannedStep { terms: vec![Term::new(Role::Retain, batch)], l1: 0.0 };
        order.into_iter().map(step).collect()
    }
}

/// What a finished training says of itself: summary.json.
#[derive(Debug, Serialize)]
struct Summary {
    finished: bool,
    steps: u64,
    epochs: u64,
    seconds: f64,
    seconds_per_step: f64,
    parameters: usize,
    volumes: usize,
    slices: usize,
    lr: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<ScoreSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best: Option<Best>,
    kerase: &'static str,
}

/// Where a network is to be trained, and how far a run may go before it asks.
pub struct Training<'t> {
    pub config: TrainConfig,
    pub session: Session<'t>,
}

impl Training<'_> {
    /// Trains, or continues to train, and leaves weights, state, log and summary in `out`.
    ///
    /// # Errors
    /// Bad settings or data before anything is written; later what [`Run::go`] returns.
    pub fn run<B: Backend>(&self, ops: &B) -> Result<Outcome> {
        let config = &self.config;
        config.check()?;
        let directory = RunDirectory::check(self.session.out, self.session.start)?;
        let sampler = Sampler::new(&config.sampling, config.optimisation.seed)?;
        let set = open_all(&config.data, "--data")?
            .ok_or_else(|| Error::input("--data is missing: name a directory of volumes"))?;
        let validation = open_all(&config.validation, "--validation")?;
        if let Some(validation) = &validation {
            check_targets(validation)?;
            warn_of_learnt(&set, validation)?;
        }
        if let Some(summary) = own_masks_summary([&set].into_iter().chain(&validation)) {
            say(&summary);
        }
        let cache = CacheBudget::new(self.session.loader.cache);
        let cached = |set: VolumeSet| Ok(Arc::new(sampler.compressed(set)?.cached(&cache)));
        let set = cached(set)?;
        let validation = validation.map(cached).transpose()?;
        // A run that was stopped before its first checkpoint is resumed from the beginning.
        let restored = directory.saved(self.session.start)?;
        let initial = || match &config.init {
            Some(path) if !restored => {
                directory.refuse_own_weights(path, "--init")?;
                initial_weights(path, config)
            }
            _ => initial_parameters(config),
        };
        let mut engine = Engine::for_training_with(ops, config.network, initial)?
            .recomputing(config.optimisation.low_memory);
        let mut state =
            if restored { directory.restore(&mut engine)? } else { RunState::new(config.optimisation.lr) };

        let o = &config.optimisation;
        let schedule = Epochs { set: &set, seed: o.seed, shuffle: o.shuffle, batch: o.batch };
        let run = Run {
            directory: &directory,
            session: &self.session,
            set: set.clone(),
            sampler,
            schedule: &schedule,
            optimisation: o,
            origin: fingerprint(&set),
            title: "training",
        };
        let fixed = Sampler::fixed(&config.sampling)?;
        if let Some(validation) = &validation {
            measurable(validation, engine.net())?;
            make_rooms(&mut engine, validation)?;
        }
        run.check(&mut engine, &mut state)?;
        let _lock = run.take(&config.with_absolute_paths(), &mut engine, &state, &validation)?;
        let measure = |engine: &mut Engine<'_, B>| -> Result<Option<(ScoreSummary, Option<Picture>)>> {
            let Some(validation) = &validation else { return Ok(None) };
            let mut progress = Progress::new(own_slices(self.session.ranks, validation) as u64, "validating");
            let results =
                evaluate_together(self.session.ranks, engine, validation, &fixed, || progress.step(""))?;
            progress.finish();
            let picture = match self.session.shown && self.session.ranks.is_first() {
                true => picture(engine, validation, &fixed, &results[0])?,
                false => None,
            };
            Ok(summary(&results).map(|summary| (summary, picture)))
        };
        let mut last = None;
        let outcome = run.go(&mut engine, &mut state, &mut |engine, state| {
            let Some((s, picture)) = measure(engine)? else { return Ok(ControlFlow::Continue(None)) };
            last = Some(s);
            let [psnr, ssim, nmse] = [s.psnr, s.ssim, s.nmse].map(|spread| spread.mean);
            if self.session.ranks.is_first() && !config.keep_best.is_none() {
                let (by, epoch, step) = (config.keep_best, state.epoch, state.step);
                let complete = state.step_in_epoch == schedule.epoch(epoch).len();
                let measured = Best { by, epoch, step, psnr, ssim, nmse };
                self.session.ranks.excused(|| directory.keep_best(&measured, complete))?;
            }
            let volumes = validation.as_ref().map_or(0, |set| set.volumes().len());
            Ok(ControlFlow::Continue(Some(Validation { volumes, psnr, ssim, nmse, picture })))
        })?;
        if outcome == Outcome::Finished && last.is_none() {
            // Killed after its last step, before its summary.
            last = measure(&mut engine)?.map(|(summary, _)| summary);
        }
        if !self.session.ranks.is_first() {
            return Ok(outcome);
        }
        let best = if config.keep_best.is_none() { None } else { directory.best()? };
        if let Some(best) = best.as_ref().filter(|best| state.finished && best.step < state.step) {
            say(&format!(
                "best on the validation set was epoch {} (step {}), by {} {:.4}: its network is in {}",
                best.epoch + 1,
                best.step,
                best.by.name(),
                best.score(),
                directory.best_folder().display()
            ));
        }
        directory.write_json(
            "summary.json",
            &Summary {
                finished: state.finished,
                steps: state.step,
                epochs: state.epoch,
                seconds: state.seconds,
                seconds_per_step: state.seconds / state.step.max(1) as f64,
                parameters: engine.net().layout.len(),
                volumes: set.volumes().len(),
                slices: set.slice_count(),
                lr: state.plateau.lr,
                validation: last,
                best,
                kerase: env!("CARGO_PKG_VERSION"),
            },
        )?;
        Ok(outcome)
    }
}

/// The middle slice of a volume, as the network reconstructs it.
fn picture<B: Backend>(
    engine: &mut Engine<'_, B>,
    set: &VolumeSet,
    sampler: &Sampler,
    of: &VolumeResult,
) -> Result<Option<Picture>> {
    let middle = of.slices.len() / 2;
    let slice = of.slices[middle];
    let one = Arc::new(set.only(&[(&of.volume, slice)])?);
    let mut picture = None;
    reconstruct_set(engine, &one, sampler, |shown| {
        if let (Some(target), Some(size)) = (&shown.target, shown.file.target) {
            picture = Some(Picture {
                name: format!("{}, slice {slice}", of.volume),
                shape: of.size,
                target: center_crop(target, size, of.size),
                image: center_crop(&shown.image, shown.file.matrix, of.size),
                scores: of.scores.slices[middle],
            });
        }
        Ok(())
    })?;
    Ok(picture)
}

/// Several sets as one; none where there are none.
fn open_all(paths: &[PathBuf], option: &str) -> Result<Option<VolumeSet>> {
    let sets: Vec<VolumeSet> = paths.iter().map(VolumeSet::open).collect::<Result<_>>()?;
    for (i, set) in sets.iter().enumerate() {
        for other in &sets[..i] {
            check_disjoint(other, set, [option, &format!("another {option}")])?;
        }
    }
    Ok(sets.into_iter().reduce(VolumeSet::join))
}

/// Somebody may want to see how well a set is learnt, so it is no error.
fn warn_of_learnt(set: &VolumeSet, validation: &VolumeSet) -> Result<()> {
    let learnt = common_volumes(set, validation)?.len();
    if learnt > 0 {
        warn(&format!(
            "{learnt} of the {} volumes of --validation are learnt, too: what is measured of them says nothing of others",
            validation.volumes().len()
        ));
    }
    Ok(())
}

/// What a training begins with, where the host has memory for it.
fn initial_parameters(config: &TrainConfig) -> Result<Vec<f32>> {
    let bytes = size_of::<f32>() * VarNet::new(config.network)?.layout.len();
    check_host(
        bytes,
        &format!("the parameters of a VarNet of {}", config.network),
        "a smaller network needs less",
    )?;
    Ok(config.network.initial_parameters(config.optimisation.seed))
}

fn initial_weights(path: &Path, config: &TrainConfig) -> Result<Vec<f32>> {
    let weights = Weights::read(path)?;
    if weights.architecture != config.network {
        return Err(Error::input(format!(
            "{} holds a VarNet of {}, but the settings ask for {}: leave out the network's options to take the \
             file's, or the file",
            path.display(),
            weights.architecture,
            config.network
        )));
    }
    Ok(weights.parameters)
}
