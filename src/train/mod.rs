//! Training a network on a set of volumes.

mod config;
mod initial;
mod sets;
mod summary;
mod validating;

use std::ops::ControlFlow;

use crate::backend::Backend;
use crate::batch::Sampler;
use crate::data::digest::fingerprint;
use crate::data::order::epoch_order;
use crate::data::set::VolumeSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::reconstruct::make_rooms;
use crate::run::usable::measurable;
use crate::run::{Outcome, PlannedStep, Role, Run, RunDirectory, RunState, Schedule, Session, Term};
use initial::{initial, initial_parameters};
use sets::Sets;
use summary::write_summary;
use validating::Validating;

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
        let Self { config, session } = self;
        config.check()?;
        let directory = RunDirectory::check(session.out, session.start)?;
        let sampler = Sampler::new(&config.sampling, config.optimisation.seed)?;
        let sets = Sets::open(config, &sampler, session.loader.cache)?;
        // A run that was stopped before its first checkpoint is resumed from the beginning.
        let restored = directory.saved(session.start)?;
        let parameters = || match restored {
            true => initial_parameters(config),
            false => initial(config, &directory),
        };
        let mut engine = Engine::for_training_with(ops, config.network, parameters)?
            .recomputing(config.optimisation.low_memory);
        let mut state =
            if restored { directory.restore(&mut engine)? } else { RunState::new(config.optimisation.lr) };

        let o = &config.optimisation;
        let schedule = Epochs { set: &sets.learnt, seed: o.seed, shuffle: o.shuffle, batch: o.batch };
        let run = Run {
            directory: &directory,
            session,
            set: sets.learnt.clone(),
            sampler,
            schedule: &schedule,
            optimisation: o,
            origin: fingerprint(&sets.learnt),
            settings: config.of_steps(),
            title: "training",
        };
        let fixed = Sampler::fixed(&config.sampling)?;
        let validating = sets.validation.as_ref().map(|set| Validating {
            set,
            sampler: fixed,
            keep_best: config.keep_best,
            directory: &directory,
            session,
        });
        if let Some(Validating { set, .. }) = &validating {
            measurable(set, engine.net())?;
            make_rooms(&mut engine, set)?;
        }
        run.check(&mut engine, &mut state)?;
        let _lock = run.take(&config.with_absolute_paths(), &mut engine, &state, &sets.validation)?;
        let mut last = None;
        let outcome = run.go(&mut engine, &mut state, &mut |engine, state| {
            let Some(validating) = &validating else { return Ok(ControlFlow::Continue(None)) };
            let measured = validating.after_epoch(engine, state, &schedule)?;
            Ok(ControlFlow::Continue(measured.map(|(scores, validation)| {
                last = Some(scores);
                validation
            })))
        })?;
        if let (Outcome::Finished, None, Some(validating)) = (outcome, last, &validating) {
            // Killed after its last step, before its summary.
            last = validating.scores(&mut engine)?;
        }
        if session.ranks.is_first() {
            let best = if config.keep_best.is_none() { None } else { directory.best()? };
            write_summary(&directory, &state, &sets.learnt, engine.net().layout.len(), last, best)?;
        }
        Ok(outcome)
    }
}
