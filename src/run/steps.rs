//! The loop of a run: load, accumulate, update, log, save.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::backend::{Backend, LabelNoise, LossWeights, Update};
use crate::batch::{Batch, Reference, Sampler};
use crate::data::fastmri::VolumeFile;
use crate::data::loader::{LoadedSlice, Loader, LoaderOptions};
use crate::data::set::VolumeSet;
use crate::engine::{Engine, Objective};
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::progress::Progress;
use crate::run::metrics_log::{Line, MetricsLog};
use crate::run::plateau::PlateauSettings;
use crate::run::schedule::{PlannedStep, Role, Schedule, TargetNoise, Term};
use crate::run::state::{Checkpoint, RunState};
use crate::run::{RunDirectory, directory};

/// Adam's constants, PyTorch's defaults.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

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
    pub epochs: u64,
    pub max_steps: Option<u64>,
    /// Steps between checkpoints within an epoch.
    pub checkpoint_every: Option<u64>,
    pub seed: u64,
    pub loader: LoaderOptions,
    /// Says that the run is to finish its step, save and return.
    pub stop: &'r AtomicBool,
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

/// Measures a network after an epoch.
pub type Validate<'v, B> = dyn FnMut(&mut Engine<'_, B>) -> Result<Option<Validation>> + 'v;

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
        let mut log = MetricsLog::open(&self.directory.metrics(), state.step)?;
        while state.epoch < self.epochs && !self.reached(state) {
            let started = Instant::now();
            let steps = self.schedule.epoch(state.epoch);
            let stopped = self.epoch(engine, state, &steps, &mut log)?;
            if stopped {
                self.save(engine, state)?;
                return Ok(Outcome::Stopped);
            }
            if state.step_in_epoch == steps.len() {
                let mean_loss = state.epoch_loss / steps.len().max(1) as f64;
                let (step, epoch) = (state.step, state.epoch);
                state.plateau.epoch(self.plateau, mean_loss);
                let seconds = started.elapsed().as_secs_f64();
                log.write(&Line::Epoch { step, epoch, mean_loss, lr: state.plateau.lr, seconds })?;
                if let Some(Validation { volumes, psnr, ssim, nmse }) = validate(engine)? {
                    log.write(&Line::Validation { step, epoch, volumes, psnr, ssim, nmse })?;
                }
                state.epoch += 1;
                state.step_in_epoch = 0;
                state.epoch_loss = 0.0;
            }
            state.finished = state.epoch >= self.epochs || self.reached(state);
            self.save(engine, state)?;
        }
        Ok(Outcome::Finished)
    }

    fn reached(&self, state: &RunState) -> bool {
        self.max_steps.is_some_and(|most| state.step >= most)
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
        let mut loader = Loader::start(self.set.clone(), batches, self.loader);
        let title = format!("{}, epoch {} of {}", self.title, state.epoch + 1, self.epochs);
        let mut progress = Progress::new(left.len() as u64, &title);
        for step in left {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(true);
            }
            if self.reached(state) {
                break;
            }
            let line = self.step(engine, state, step, &mut loader)?;
            if let Line::Step { loss, grad_norm, .. } = &line {
                progress.step(&format!("loss {loss:.4}, gradient {grad_norm:.3}"));
            }
            log.write(&line)?;
            if self.checkpoint_every.is_some_and(|every| state.step.is_multiple_of(every)) {
                self.save(engine, state)?;
            }
        }
        progress.finish();
        Ok(false)
    }

    fn step<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        step: &PlannedStep,
        loader: &mut Loader,
    ) -> Result<Line> {
        let started = Instant::now();
        let (mut loss, mut by_role) = (0.0, [None, None]);
        let (mut volumes, mut slices) = (Vec::new(), Vec::new());
        for term in &step.terms {
            let loaded = loader.next().expect("a batch for every term")?;
            let value = self.term(engine, state, term, &loaded)?;
            loss += term.weight * value;
            *by_role[(term.role == Role::Forget) as usize].get_or_insert(0.0) += value;
            for slice in &loaded {
                volumes.push(self.set.volumes()[slice.volume].name.clone());
                slices.push(slice.slice);
            }
        }
        let place = |volumes: &[String], slices: &[usize]| {
            let named: Vec<String> =
                volumes.iter().zip(slices).map(|(v, s)| format!("{v} slice {s}")).collect();
            format!("step {}, {}", state.step + 1, named.join(", "))
        };
        if !loss.is_finite() {
            return Err(not_finite(&format!("the loss is {loss}"), &place(&volumes, &slices)));
        }
        let lr = state.plateau.lr;
        let update = Update {
            lr,
            beta1: BETA1,
            beta2: BETA2,
            eps: EPS,
            step: state.adam_step + 1,
            clip: self.clip,
            l1: step.l1,
        };
        let grad_norm = engine.update(update);
        if !grad_norm.is_finite() {
            return Err(not_finite(
                &format!("the gradient's norm is {grad_norm}"),
                &place(&volumes, &slices),
            ));
        }
        let seconds = started.elapsed().as_secs_f64();
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

    /// Adds one term's gradient; returns its loss, without the term's weight.
    fn term<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &RunState,
        term: &Term,
        loaded: &[LoadedSlice],
    ) -> Result<f64> {
        let volume = |slice: &LoadedSlice| &self.set.volumes()[slice.volume];
        let first = volume(&loaded[0]);
        let masks: Result<Vec<_>> =
            loaded.iter().map(|slice| self.sampler.mask(volume(slice), slice.slice, state.epoch)).collect();
        let batch = Batch::new(first, loaded.iter().map(|slice| &slice.data).zip(masks?));
        let mut images = Vec::new();
        for slice in loaded {
            let target = slice.data.target.as_ref().ok_or_else(|| no_target(volume(slice)))?;
            images.extend_from_slice(target);
        }
        let reference = Reference {
            size: first.target.ok_or_else(|| no_target(first))?,
            images,
            max_value: loaded.iter().map(|slice| max_value(volume(slice))).collect::<Result<_>>()?,
        };
        let noise = term.noise.map(|TargetNoise { lambda, absolute }| LabelNoise {
            lambda,
            absolute,
            key: self.seed,
            stream: noise_stream(state.epoch, &first.name, loaded[0].slice),
        });
        let value =
            engine.accumulate(&batch, &reference, self.loss, Objective { weight: term.weight, noise })?;
        Ok(value.loss)
    }

    fn save<B: Backend>(&self, engine: &mut Engine<'_, B>, state: &RunState) -> Result<()> {
        let parameters = engine.parameters();
        let [exp_avg, exp_avg_sq] = engine.moments();
        let weights = Weights {
            architecture: engine.architecture(),
            parameters: parameters.clone(),
            metadata: [("format".to_string(), "pt".to_string())].into(),
        };
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

fn not_finite(what: &str, place: &str) -> Error {
    Error::NotFinite(format!(
        "{what} at {place}: the run stops, and its last checkpoint is kept; lower --lr or --clip, or look at that \
         slice"
    ))
}

fn no_target(volume: &VolumeFile) -> Error {
    Error::input(format!(
        "{}: there is no reconstruction_rss to learn from; training needs fully sampled volumes, not test files",
        volume.path.display()
    ))
}

/// A volume's data range in the loss.
fn max_value(volume: &VolumeFile) -> Result<f64> {
    match volume.max {
        Some(max) if max > 0.0 && max.is_finite() => Ok(max),
        Some(max) => Err(Error::input(format!(
            "{}: the attribute max is {max}; the loss needs the volume's largest value there",
            volume.path.display()
        ))),
        None => Err(Error::input(format!(
            "{}: the attribute max is missing; the loss needs the volume's largest value there",
            volume.path.display()
        ))),
    }
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
