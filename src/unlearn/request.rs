//! An unlearning request carried out: from weights and two sets to weights and a record.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::backend::Backend;
use crate::batch::Sampler;
use crate::data::cache::CacheBudget;
use crate::data::digest::{digests, fingerprint};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::ScoreSummary;
use crate::model::Weights;
use crate::progress::warn;
use crate::provenance::Provenance;
use crate::reconstruct::make_rooms;
use crate::run::usable::measurable;
use crate::run::validation::Validate;
use crate::run::{Outcome, Run, RunDirectory, RunState, Session, Start};
use crate::sha256;
use crate::tensorboard::EventFile;
use crate::unlearn::beginning::initial_state;
use crate::unlearn::config::UnlearnConfig;
use crate::unlearn::measured::{BeforeAfter, Measurements};
use crate::unlearn::method::Method;
use crate::unlearn::preparation::{Preparation, Reached};
use crate::unlearn::record::{Findings, Record};
use crate::unlearn::schedule::UnlearnEpochs;
use crate::unlearn::sets::Sets;

/// Where and how a request is carried out.
pub struct Unlearning<'t> {
    pub config: UnlearnConfig,
    /// Who computes, for the record.
    pub by: Option<Provenance>,
    pub session: Session<'t>,
}

impl Unlearning<'_> {
    /// Unlearns and leaves weights, state, log and `unlearning.json` in `out`.
    ///
    /// # Errors
    /// Bad settings or data before anything is written; later what [`Run::go`] returns.
    pub fn run<B: Backend>(&self, ops: &B) -> Result<(Outcome, Record)> {
        self.run_measuring(ops, &mut |_, _| Ok(ControlFlow::Continue(None)))
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
        let (method, config) = &self.config.filled()?;
        let o = &config.optimisation;
        let directory = RunDirectory::check(self.session.out, self.session.start)?;
        if self.session.start != Start::Resume {
            directory.refuse_own_weights(&config.model, "--model")?;
        }
        let weights = Weights::read(&config.model)?;
        let sampler = Sampler::new(&config.sampling, o.seed)?;
        let fixed = Sampler::fixed(&config.sampling)?;
        let sets = Sets::open(config, method, &sampler)?;
        if self.session.shown {
            sets.warnings().iter().for_each(|warning| warn(warning));
        }

        let mut engine =
            Engine::for_training(ops, weights.architecture, &weights.parameters)?.recomputing(o.low_memory);
        let (mut state, mut preparation) = self.begin(&mut engine, (method, config), &weights, &directory)?;
        let schedule = UnlearnEpochs::new(*method, config.strength(), [&sets.used, &sets.forget], o);
        let run = Run {
            directory: &directory,
            session: &self.session,
            set: Arc::new(schedule.set().clone().cached(&CacheBudget::new(self.session.loader.cache))),
            sampler,
            schedule: &schedule,
            optimisation: o,
            origin: format!(
                "{} {} {}",
                fingerprint(schedule.set()),
                fingerprint(&sets.forget),
                sha256::of_parameters(&weights.parameters)
            ),
            settings: config.of_steps(),
            title: "unlearning",
        };
        let mut original =
            if config.measure { Some(original(ops, &weights, &sets, &mut engine)?) } else { None };
        run.check(&mut engine, &mut state)?;
        // Hashing reads the whole forget set: a volume that cannot be read stops the request before it changes
        // anything.
        let forgotten = if self.session.ranks.is_first() { digests(&sets.forget)? } else { Vec::new() };
        let settings = config.with_absolute_paths();
        let _lock = run.take(&settings, &mut engine, &state, sets.measured.iter().map(|(_, set)| set))?;
        let mut measurements = Measurements::new(
            &sets.measured,
            config.measure,
            fixed,
            (&directory, self.session.start),
            self.session.ranks,
            self.session.stop,
        )?;

        let before = match &mut original {
            Some(original) => measurements.take(original, "before")?,
            None => Some(measurements.nothing()),
        };
        drop(original);
        let ready =
            before.is_some() && preparation.carry_out(&run, &mut engine, &mut state, sets.forget_share())?;
        let outcome = match ready {
            true => run.go(&mut engine, &mut state, after_epoch)?,
            false => Outcome::Stopped,
        };
        let (after, diverged) = match outcome {
            Outcome::Stopped => (None, None),
            Outcome::Finished => measurements.take_of_result(&mut engine)?,
        };
        let outcome = if after.is_some() { outcome } else { Outcome::Stopped };
        let [before, after] = [before, after].map(|scores| scores.unwrap_or_else(|| measurements.nothing()));

        let record = Record::of(
            (method, config),
            &sets,
            Findings {
                by: self.by.clone(),
                outcome,
                state: &state,
                forgotten,
                weights: [&weights.parameters, &engine.parameters()?],
                trained: preparation.trained(),
                scores: [before, after],
                diverged,
            },
        );
        if self.session.ranks.is_first() {
            if self.session.shown {
                show_scores(&directory, state.step, &record.metrics)?;
            }
            directory.write_json("unlearning.json", &record)?;
        }
        Ok((outcome, record))
    }

    /// The state to go on from, which the engine is brought to, and what the method needs before its first step.
    fn begin<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        (method, config): (&Method, &UnlearnConfig),
        weights: &Weights,
        directory: &RunDirectory,
    ) -> Result<(RunState, Preparation<B::Buffer>)> {
        let reached = Reached::of(directory, self.session.start)?;
        let mut state = match reached {
            Reached::Saved => directory.restore(engine)?,
            _ => initial_state(engine, method, config)?,
        };
        let (preparation, origin) = Preparation::new(
            engine,
            method,
            config.hyperparameters,
            &weights.parameters,
            config.optimisation.seed,
            (directory, reached),
        )?;
        match (reached, origin) {
            // What was found out is of what the run began with: its check compares them.
            (Reached::Prepared, origin) => state.origin = origin.unwrap_or_default(),
            (Reached::Saved, Some(of_mask)) if of_mask != state.origin => {
                return Err(Error::input(format!(
                    "{} is of another run than the state beside it: bring back the run's own, or start again with --overwrite",
                    directory.mask().display()
                )));
            }
            _ => {}
        }
        Ok((state, preparation))
    }
}

/// The network that the run started from, also where it is resumed, with rooms for what is measured of it, and of the network
/// that unlearns.
fn original<'o, B: Backend>(
    ops: &'o B,
    weights: &Weights,
    sets: &Sets,
    engine: &mut Engine<'_, B>,
) -> Result<Engine<'o, B>> {
    let mut original = Engine::new(ops, weights.architecture, &weights.parameters)?;
    for (_, set) in &sets.measured {
        measurable(set, engine.net())?;
        make_rooms(engine, set)?;
        make_rooms(&mut original, set)?;
    }
    Ok(original)
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
