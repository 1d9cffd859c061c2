//! The loop of a run: load, accumulate, update, log, save.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::backend::{Backend, LabelNoise, LossWeights, Update};
use crate::batch::{Sampler, image_shape};
use crate::data::loader::LoaderOptions;
use crate::data::set::VolumeSet;
use crate::engine::{Engine, Objective, Results};
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::progress::Progress;
use crate::run::feed::Feed;
use crate::run::metrics_log::{Line, MetricsLog};
use crate::run::plateau::PlateauSettings;
use crate::run::schedule::{PlannedStep, Role, Schedule, TargetNoise, Term};
use crate::run::state::{Checkpoint, RunState};
use crate::run::{RunDirectory, check, directory};

/// Adam's constants, PyTorch's defaults.
pub(crate) const BETA1: f64 = 0.9;
pub(crate) const BETA2: f64 = 0.999;
pub(crate) const EPS: f64 = 1e-8;

/// What a validation measured: means over volumes.
#[derive(Clone, Copy, Debug)]
pub struct Validation {
    pub volumes: usize,
    pub psnr: f64,
    pub ssim: f64,
    pub nmse: f64,
}

/// Everything about a run that does not change while it lasts.
pub struct Run<'r> {
    pub directory: &'r directory::RunDirectory,
    pub set: Arc<VolumeSet>,
    pub sampler: Sampler,
    pub schedule: &'r dyn Schedule,
    pub loss: LossWeights,
    pub clip: Option<f64>,
    pub plateau: PlateauSettings,
    pub epochs: Option<u64>,
    pub max_steps: Option<u64>,
    /// Steps between checkpoints within an epoch.
    pub checkpoint_every: Option<u64>,
    pub seed: u64,
    pub loader: LoaderOptions,
    /// Says that the run is to finish its step, save and return.
    pub stop: &'r AtomicBool,
    /// Digest of what the run begins with: the data, and weights that are not its own.
    pub origin: String,
    /// What the progress bar says.
    pub title: &'static str,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// Stopped on request; it can be resumed.
    Stopped,
}

/// Measures a network after an epoch, which the state has not closed yet.
pub type Validate<'v, B> = dyn FnMut(&mut Engine<'_, B>, &RunState) -> Result<Option<Validation>> + 'v;

impl Run<'_> {
    /// Runs from `state` to the end, or to a stop. Weights and state are saved after every epoch and at the end.
    ///
    /// # Errors
    /// What the data, the network or the disk refuse, and [`Error::NotFinite`] where a loss or gradient is NaN or
    /// infinite: the last checkpoint then stays as it is.
    pub fn go<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        validate: &mut Validate<'_, B>,
    ) -> Result<Outcome> {
        let mut log = MetricsLog::open(&self.directory.metrics(), state)?;
        state.finished = false;
        while !state.reaches(self.epochs, self.max_steps) {
            let started = Instant::now();
            let steps = self.schedule.epoch(state.epoch);
            let stopped = self.epoch(engine, state, &steps, &mut log)?;
            // Before the epoch is closed: a validation may take long, and be cut short. A run that is resumed here
            // closes the epoch first.
            self.save(engine, state, &log)?;
            if stopped {
                return Ok(Outcome::Stopped);
            }
            let (step, epoch) = (state.step, state.epoch);
            let complete = state.step_in_epoch == steps.len();
            if complete {
                let mean_loss = state.epoch_loss / steps.len() as f64;
                state.plateau.epoch(self.plateau, mean_loss);
                let seconds = started.elapsed().as_secs_f64();
                log.write(&Line::Epoch { step, epoch, mean_loss, lr: state.plateau.lr, seconds })?;
            }
            // Also where max_steps ends a run within an epoch.
            if let Some(Validation { volumes, psnr, ssim, nmse }) = validate(engine, state)? {
                log.write(&Line::Validation { step, epoch, volumes, psnr, ssim, nmse })?;
            }
            if complete {
                state.epoch += 1;
                state.step_in_epoch = 0;
                state.epoch_loss = 0.0;
            }
        }
        state.finished = true;
        self.save(engine, state, &log)?;
        Ok(Outcome::Finished)
    }

    /// Refuses data that cannot be learnt from, a resumed run whose data have changed, and batches for which the device
    /// has no memory. Nothing is written before.
    ///
    /// # Errors
    /// As said, naming the first volume.
    pub fn check<B: Backend>(&self, engine: &mut Engine<'_, B>, state: &mut RunState) -> Result<()> {
        check::learnable(&self.set, engine.net(), self.loss)?;
        if state.origin.is_empty() {
            state.origin.clone_from(&self.origin);
        }
        if state.origin != self.origin {
            return Err(Error::input(format!(
                "{}: the data or the weights that this run began with have changed since (volumes, their order, \
                 slices, sizes or max); bring them back, or start again with --overwrite",
                self.directory.path().display()
            )));
        }
        let steps = self.schedule.epoch(state.epoch);
        let first = self.schedule.preparation();
        self.make_rooms(engine, first.iter().chain(steps.iter().flat_map(|step| &step.terms)))
    }

    /// Takes the memory for every shape of batch, that of the first term last.
    fn make_rooms<'t, B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        terms: impl Iterator<Item = &'t Term>,
    ) -> Result<()> {
        let mut made = BTreeSet::new();
        for term in terms.collect::<Vec<_>>().into_iter().rev() {
            let (volume, _) = term.batch[0];
            if made.insert((self.set.shape(volume), term.batch.len())) {
                let file = &self.set.volumes()[volume];
                let task = engine.learning_task(check::target(file)?);
                engine
                    .make_room(image_shape(file, term.batch.len()), task)
                    .map_err(|error| error.of_file(&file.path))?;
            }
        }
        Ok(())
    }

    /// Gathers the gradient of each term at the weights that the engine has, without a step; `look` is called after each
    /// and may take it. True where a stop was asked for, and not all were looked at.
    ///
    /// # Errors
    /// What the data or the device refuse, and [`Error::NotFinite`] where a loss is NaN or infinite.
    pub fn survey<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        terms: &[Term],
        look: &mut dyn FnMut(&mut Engine<'_, B>, &Term),
    ) -> Result<bool> {
        let batches = terms.iter().map(|term| term.batch.clone()).collect();
        let mut feed = Feed::start(&self.set, &self.sampler, state.epoch, batches, self.loader);
        let mut progress =
            Progress::new(terms.len() as u64, &format!("{}, before the first step", self.title));
        for term in terms {
            if self.stop.load(Ordering::Relaxed) {
                progress.finish();
                return Ok(true);
            }
            feed.arrive(engine)?;
            engine.submit(self.loss, self.objective(state, term))?;
            look(engine, term);
            feed.put_next(engine);
            let Results { losses, seconds, .. } = engine.results()?;
            if let Some(bad) = losses.iter().find(|value| !value.loss.is_finite()) {
                let (volume, slice) = term.batch[0];
                let place =
                    format!("{} slice {slice}, before the first step", self.set.volumes()[volume].name);
                return Err(not_finite(&format!("the loss is {}", bad.loss), &place));
            }
            state.seconds += seconds;
            progress.step("");
        }
        progress.finish();
        Ok(false)
    }

    /// The rest of an epoch. True where a stop was asked for.
    fn epoch<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        steps: &[PlannedStep],
        log: &mut MetricsLog,
    ) -> Result<bool> {
        let left = &steps[state.step_in_epoch..];
        let batches = left.iter().flat_map(|step| step.terms.iter().map(|term| term.batch.clone())).collect();
        let mut feed = Feed::start(&self.set, &self.sampler, state.epoch, batches, self.loader);
        let of = self.epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
        let title = format!("{}, epoch {}{of}", self.title, state.epoch + 1);
        let mut progress = Progress::new(left.len() as u64, &title);
        for step in left {
            if self.stop.load(Ordering::Relaxed) || state.reaches(self.epochs, self.max_steps) {
                break;
            }
            let line = self.step(engine, state, step, &mut feed)?;
            if let Line::Step { loss, grad_norm, .. } = &line {
                progress.step(&format!("loss {loss:.4}, gradient {grad_norm:.3}"));
            }
            log.write(&line)?;
            if self.checkpoint_every.is_some_and(|every| state.step.is_multiple_of(every)) {
                self.save(engine, state, log)?;
            }
        }
        progress.finish();
        Ok(self.stop.load(Ordering::Relaxed))
    }

    fn step<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        step: &PlannedStep,
        feed: &mut Feed,
    ) -> Result<Line> {
        let lr = state.plateau.lr;
        for (number, term) in step.terms.iter().enumerate() {
            feed.arrive(engine)?;
            engine.submit(self.loss, self.objective(state, term))?;
            if number + 1 == step.terms.len() {
                engine.submit_update(Update {
                    lr,
                    beta1: BETA1,
                    beta2: BETA2,
                    eps: EPS,
                    step: state.adam_step + 1,
                    clip: self.clip,
                    l1: step.l1,
                });
            }
            // While the device is at work: maybe that of the next step.
            feed.put_next(engine);
        }
        let Results { losses, grad_norm, seconds } = engine.results()?;
        let (mut loss, mut by_role) = (0.0, [None, None]);
        for (term, value) in step.terms.iter().zip(losses) {
            loss += term.weight * value.loss;
            *by_role[(term.role == Role::Forget) as usize].get_or_insert(0.0) += value.loss;
        }
        let batches = step.terms.iter().flat_map(|term| &term.batch);
        let (volumes, slices): (Vec<String>, Vec<usize>) =
            batches.map(|&(volume, slice)| (self.set.volumes()[volume].name.clone(), slice)).unzip();
        let wrong =
            [("loss", loss), ("gradient's norm", grad_norm)].into_iter().find(|(_, x)| !x.is_finite());
        if let Some((what, value)) = wrong {
            let named: Vec<_> = volumes.iter().zip(&slices).map(|(v, s)| format!("{v} slice {s}")).collect();
            let place = format!("step {}, {}", state.step + 1, named.join(", "));
            return Err(not_finite(&format!("the {what} is {value}"), &place));
        }
        state.step += 1;
        state.adam_step += 1;
        state.step_in_epoch += 1;
        state.epoch_loss += loss;
        state.seconds += seconds;
        let [retain_loss, forget_loss] = by_role;
        Ok(Line::Step {
            step: state.step,
            epoch: state.epoch,
            loss,
            // A run over one set has nothing to tell apart.
            retain_loss: retain_loss.filter(|_| forget_loss.is_some()),
            forget_loss,
            lr,
            grad_norm,
            seconds,
            volume: volumes.into(),
            slice: slices.into(),
        })
    }

    fn objective(&self, state: &RunState, term: &Term) -> Objective {
        let (volume, slice) = term.batch[0];
        let noise = term.noise.map(|TargetNoise { lambda, absolute }| LabelNoise {
            lambda,
            absolute,
            key: self.seed,
            stream: noise_stream(state.epoch, &self.set.volumes()[volume].name, slice),
        });
        Objective { weight: term.weight, teacher: term.teacher, noise }
    }

    fn save<B: Backend>(&self, engine: &mut Engine<'_, B>, state: &RunState, log: &MetricsLog) -> Result<()> {
        let parameters = engine.parameters();
        if let Some(bad) = parameters.iter().find(|x| !x.is_finite()) {
            return Err(not_finite(&format!("a parameter is {bad}"), &format!("step {}", state.step)));
        }
        let [exp_avg, exp_avg_sq] = engine.moments();
        let weights = Weights {
            architecture: engine.architecture(),
            parameters: parameters.clone(),
            metadata: [("format".to_string(), "pt".to_string())].into(),
        };
        log.sync()?;
        // The state last: a resume must not find it ahead of the weights that a user sees.
        weights.write(self.directory.model())?;
        Checkpoint { state: state.clone(), parameters, exp_avg, exp_avg_sq }.write(&self.directory.state())
    }
}

impl RunDirectory {
    /// Brings an engine and a state to where the run was when it last saved.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn restore<B: Backend>(&self, engine: &mut Engine<'_, B>) -> Result<RunState> {
        let parameters = engine.net().layout.len();
        let checkpoint = Checkpoint::read(&self.state(), parameters)?;
        engine.set_parameters(&checkpoint.parameters);
        engine.set_moments([&checkpoint.exp_avg, &checkpoint.exp_avg_sq]);
        Ok(checkpoint.state)
    }
}

pub(crate) fn not_finite(what: &str, place: &str) -> Error {
    Error::NotFinite(format!(
        "{what} at {place}: the run stops, and what it saved before is kept; lower --lr or --clip, or look at that \
         slice"
    ))
}

/// The noise generator's stream for a slice in an epoch: no two slices or epochs share noise, and neither the order
/// of steps nor the number of ranks changes it.
fn noise_stream(epoch: u64, volume: &str, slice: usize) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"kerase label noise");
    hash.update(epoch.to_le_bytes());
    hash.update((slice as u64).to_le_bytes());
    hash.update(volume.as_bytes());
    u64::from_le_bytes(hash.finalize()[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_epochs_slices_or_volumes_share_noise() {
        let streams = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a", 256)];
        let streams: std::collections::BTreeSet<u64> =
            streams.into_iter().map(|(epoch, volume, slice)| noise_stream(epoch, volume, slice)).collect();
        assert_eq!(streams.len(), 5);
        assert_eq!(noise_stream(1, "a", 2), noise_stream(1, "a", 2));
    }
}
