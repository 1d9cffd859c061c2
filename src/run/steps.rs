//! The loop of a run: load, accumulate, update, log, save.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::backend::{Backend, LabelNoise, LossWeights, Update};
use crate::batch::{Sampler, image_shape};
use crate::data::digest::parameters_sha256;
use crate::data::loader::LoaderOptions;
use crate::data::set::{SliceId, VolumeSet};
use crate::engine::{Engine, Objective, Results};
use crate::error::{Error, Result};
use crate::metrics::Scores;
use crate::model::Weights;
use crate::progress::Progress;
use crate::ranks::{Ranks, Tag, tag};
use crate::run::board::{Board, Pace};
use crate::run::feed::Feed;
use crate::run::metrics_log::{Line, MetricsLog};
use crate::run::plateau::PlateauSettings;
use crate::run::schedule::{PlannedStep, Role, Schedule, TargetNoise, Term};
use crate::run::share::{self, Part};
use crate::run::state::{Checkpoint, RunState};
use crate::run::{RunDirectory, Start, check, directory};

/// Adam's constants, PyTorch's defaults.
pub(crate) const BETA1: f64 = 0.9;
pub(crate) const BETA2: f64 = 0.999;
pub(crate) const EPS: f64 = 1e-8;

/// What a validation measured: means over volumes.
#[derive(Clone, Debug)]
pub struct Validation {
    pub volumes: usize,
    pub psnr: f64,
    pub ssim: f64,
    pub nmse: f64,
    /// A slice to look at.
    pub picture: Option<Picture>,
}

/// A slice, and what the network makes of it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// "file1000001.h5, slice 17".
    pub name: String,
    pub shape: [usize; 2],
    pub target: Vec<f32>,
    pub image: Vec<f32>,
    pub scores: Scores,
}

/// Everything about a run that does not change while it lasts.
pub struct Run<'r> {
    pub directory: &'r directory::RunDirectory,
    pub start: Start,
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
    /// Whether TensorBoard is to see the run.
    pub shown: bool,
    /// Who shares the work. All of them plan the same; the first writes.
    pub ranks: &'r Ranks,
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
        let mut log = match self.ranks.is_first() {
            true => MetricsLog::open(&self.directory.metrics(), state)?,
            false => MetricsLog::none(),
        };
        let mut board = match self.shown && self.ranks.is_first() {
            true => Board::open(self.directory, state, self.schedule.epoch(state.epoch).len())?,
            false => Board::none(),
        };
        state.finished = false;
        while !state.reaches(self.epochs, self.max_steps) {
            let started = Instant::now();
            let steps = self.schedule.epoch(state.epoch);
            let stopped = self.epoch(engine, state, &steps, &mut log, &mut board)?;
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
                let line = Line::Epoch { step, epoch, mean_loss, lr: state.plateau.lr, seconds };
                log.write(&line)?;
                board.show(&line, Pace::default())?;
            }
            // Also where max_steps ends a run within an epoch.
            if let Some(Validation { volumes, psnr, ssim, nmse, picture }) = validate(engine, state)? {
                let line = Line::Validation { step, epoch, volumes, psnr, ssim, nmse };
                log.write(&line)?;
                board.show(&line, Pace::default())?;
                if let Some(picture) = &picture {
                    board.picture(step, picture)?;
                }
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
        if let Some([what, remedy]) = check::idle_ranks(&self.set, &steps, self.ranks.size()) {
            // A run that goes on keeps its batch, on whatever there is to go on with.
            match self.start {
                Start::Resume if self.ranks.is_first() => {
                    eprintln!("warning: {what}: the run goes on with ranks that have nothing to do");
                }
                Start::Resume => {}
                Start::New | Start::Overwrite => return Err(Error::input(format!("{what}: {remedy}"))),
            }
        }
        let parts: Vec<Part> = steps.iter().flat_map(|step| self.parts(step)).collect();
        let batches =
            self.own_terms(&first).map(|term| &term.batch).chain(parts.iter().map(|part| &part.batch));
        self.make_rooms(engine, batches)
    }

    /// Makes sure that all ranks begin with the same: settings, data, sets that are only measured, weights, and steps that
    /// were taken before.
    ///
    /// # Errors
    /// [`Error::Input`] on all ranks, naming one and what it has different.
    pub fn agree<'s, B: Backend>(
        &self,
        settings: &impl Serialize,
        engine: &mut Engine<'_, B>,
        state: &RunState,
        measured: impl IntoIterator<Item = &'s Arc<VolumeSet>>,
    ) -> Result<()> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        self.ranks.at_step(state.step);
        let text = |value: &dyn Fn() -> serde_json::Result<String>| value().unwrap_or_default();
        self.ranks.agree(&[
            ("settings", text(&|| serde_json::to_string(settings))),
            ("data or first weights", self.origin.clone()),
            ("weights to begin with", parameters_sha256(&engine.parameters())),
            ("sets to measure", measured.into_iter().map(|set| check::fingerprint(set)).collect()),
            ("a saved state", text(&|| serde_json::to_string(&RunState { seconds: 0.0, ..state.clone() }))),
        ])
    }

    /// Takes the memory for every shape of batch, that of the first last.
    fn make_rooms<'t, B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        batches: impl Iterator<Item = &'t Vec<SliceId>>,
    ) -> Result<()> {
        let mut made = BTreeSet::new();
        for batch in batches.collect::<Vec<_>>().into_iter().rev() {
            let (volume, _) = batch[0];
            if made.insert((self.set.shape(volume), batch.len())) {
                let file = &self.set.volumes()[volume];
                let task = engine.learning_task(check::target(file)?);
                engine
                    .make_room(image_shape(file, batch.len()), task)
                    .map_err(|error| error.of_file(&file.path))?;
            }
        }
        Ok(())
    }

    /// What this rank computes of a step.
    fn parts(&self, step: &PlannedStep) -> Vec<Part> {
        share::parts(&step.terms, self.ranks.rank(), self.ranks.size())
    }

    /// The terms that this rank looks at, where each is looked at as a whole.
    fn own_terms<'t>(&self, terms: &'t [Term]) -> impl Iterator<Item = &'t Term> + use<'t> {
        terms.iter().skip(self.ranks.rank()).step_by(self.ranks.size())
    }

    /// Whether any rank was asked to stop.
    fn stopping(&self) -> Result<bool> {
        Ok(self.tell(tag("stop"), &[])?.1)
    }

    /// Adds up what the ranks say, in their order; with it, whether any of them was asked to stop.
    fn tell(&self, what: Tag, values: &[f64]) -> Result<(Vec<f64>, bool)> {
        let stop = self.stop.load(Ordering::Relaxed);
        if self.ranks.is_alone() {
            return Ok((values.to_vec(), stop));
        }
        let mut said = vec![f64::from(u8::from(stop))];
        said.extend_from_slice(values);
        let mut sums = vec![0.0; said.len()];
        for theirs in self.ranks.gather(what, bytemuck::cast_slice(&said))? {
            let theirs = theirs.as_chunks::<8>().0.iter().map(|&bytes| f64::from_ne_bytes(bytes));
            sums.iter_mut().zip(theirs).for_each(|(sum, value)| *sum += value);
        }
        let stop = sums.remove(0) > 0.0;
        Ok((sums, stop))
    }

    /// Gathers the gradient of each of this rank's terms at the weights that the engine has, without a step; `look` is
    /// called after each and may take it. True where a stop was asked for, and not all were looked at.
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
        let own: Vec<&Term> = self.own_terms(terms).collect();
        let batches = own.iter().map(|term| term.batch.clone()).collect();
        let mut feed = Feed::start(&self.set, &self.sampler, state.epoch, batches, self.loader);
        let mut progress = Progress::new(own.len() as u64, &format!("{}, before the first step", self.title));
        for term in own {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            feed.arrive(engine)?;
            let noise = self.noise(state, term, &term.batch);
            let objective =
                Objective { weight: term.weight, teacher: term.teacher, noise: &noise, last: false };
            engine.submit(self.loss, objective)?;
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
            self.ranks.tick();
        }
        progress.finish();
        self.stopping()
    }

    /// The rest of an epoch. True where a stop was asked for.
    fn epoch<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        steps: &[PlannedStep],
        log: &mut MetricsLog,
        board: &mut Board,
    ) -> Result<bool> {
        let left = &steps[state.step_in_epoch..];
        let batches = left.iter().flat_map(|step| self.parts(step)).map(|part| part.batch).collect();
        let mut feed = Feed::start(&self.set, &self.sampler, state.epoch, batches, self.loader);
        let of = self.epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
        let title = format!("{}, epoch {}{of}", self.title, state.epoch + 1);
        let mut progress = Progress::new(left.len() as u64, &title);
        let mut stopping = self.stopping()?;
        let (started, mut slices) = (Instant::now(), 0);
        for step in left {
            if stopping || state.reaches(self.epochs, self.max_steps) {
                break;
            }
            let line;
            let begun = Instant::now();
            (line, stopping) = self.step(engine, state, step, &mut feed)?;
            self.ranks.stepped(state.step, begun.elapsed());
            slices += share::slices(step);
            let elapsed = started.elapsed().as_secs_f64();
            let pace = Pace {
                slices_per_second: slices as f64 / elapsed,
                waiting: feed.waited().as_secs_f64() / elapsed,
                memory: engine.device_memory(),
            };
            if let Line::Step { loss, grad_norm, .. } = &line {
                progress.step(&format!("loss {loss:.4}, gradient {grad_norm:.3}, {pace}"));
            }
            log.write(&line)?;
            board.show(&line, pace)?;
            if self.checkpoint_every.is_some_and(|every| state.step.is_multiple_of(every)) {
                self.save(engine, state, log)?;
            }
        }
        progress.finish();
        Ok(stopping)
    }

    /// Returns what there is to log of it, and whether a stop was asked for.
    fn step<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        step: &PlannedStep,
        feed: &mut Feed,
    ) -> Result<(Line, bool)> {
        let lr = state.plateau.lr;
        let parts = self.parts(step);
        for (number, part) in parts.iter().enumerate() {
            let term = &step.terms[part.term];
            feed.arrive(engine)?;
            let noise = self.noise(state, term, &part.batch);
            let weight = term.weight * part.share;
            let last = number + 1 == parts.len();
            engine.submit(self.loss, Objective { weight, teacher: term.teacher, noise: &noise, last })?;
            self.ranks.tick();
            if !last {
                // While the device is at work.
                feed.put_next(engine);
            }
        }
        engine.sum_gradient(self.ranks)?;
        engine.submit_update(Update {
            lr,
            beta1: BETA1,
            beta2: BETA2,
            eps: EPS,
            step: state.adam_step + 1,
            clip: self.clip,
            l1: step.l1,
        });
        // That of the next step, while the device is at work on this one.
        feed.put_next(engine);
        let Results { losses, grad_norm, seconds } = self.ranks.summing(|| engine.results())?;
        let mut of_terms = vec![0.0; step.terms.len()];
        for (part, value) in parts.iter().zip(losses) {
            of_terms[part.term] = part.share * value.loss;
        }
        let (of_terms, stopping) = self.tell(tag("step"), &of_terms)?;
        let (mut loss, mut by_role) = (0.0, [None, None]);
        for (term, value) in step.terms.iter().zip(of_terms) {
            loss += term.weight * value;
            *by_role[(term.role == Role::Forget) as usize].get_or_insert(0.0) += value;
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
        let line = Line::Step {
            step: state.step,
            epoch: state.epoch,
            loss,
            // A run over one set has nothing to tell apart.
            retain_loss: retain_loss.filter(|_| self.schedule.of_two_sets()),
            forget_loss,
            lr,
            grad_norm,
            seconds,
            volume: volumes.into(),
            slice: slices.into(),
        };
        Ok((line, stopping))
    }

    /// The noise on the targets of a term's slices.
    fn noise(&self, state: &RunState, term: &Term, slices: &[SliceId]) -> Vec<LabelNoise> {
        let Some(TargetNoise { lambda, absolute }) = term.noise else { return Vec::new() };
        let of = |&(volume, slice): &SliceId| LabelNoise {
            lambda,
            absolute,
            key: self.seed,
            stream: noise_stream(state.epoch, &self.set.volumes()[volume].name, slice),
        };
        slices.iter().map(of).collect()
    }

    fn save<B: Backend>(&self, engine: &mut Engine<'_, B>, state: &RunState, log: &MetricsLog) -> Result<()> {
        let parameters = engine.parameters();
        if let Some(bad) = parameters.iter().find(|x| !x.is_finite()) {
            return Err(not_finite(&format!("a parameter is {bad}"), &format!("step {}", state.step)));
        }
        self.compare(&parameters, state.step)?;
        if !self.ranks.is_first() {
            return Ok(());
        }
        let [exp_avg, exp_avg_sq] = engine.moments();
        let weights = Weights {
            architecture: engine.architecture(),
            parameters: parameters.clone(),
            metadata: [("format".to_string(), "pt".to_string())].into(),
        };
        let checkpoint = Checkpoint { state: state.clone(), parameters, exp_avg, exp_avg_sq };
        self.ranks.excused(|| {
            log.sync()?;
            // The state last: a resume must not find it ahead of the weights that a user sees.
            weights.write(self.directory.model())?;
            checkpoint.write(&self.directory.state())
        })
    }

    /// Every rank took the same steps: none may have come to other weights.
    fn compare(&self, parameters: &[f32], step: u64) -> Result<()> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        let digests = self.ranks.gather(tag("weights"), parameters_sha256(parameters).as_bytes())?;
        match digests.iter().position(|digest| *digest != digests[0]) {
            None => Ok(()),
            Some(rank) => Err(Error::Device(format!(
                "rank {rank} has come to other weights than rank 0 by step {step}: one of their devices computes wrongly, or \
                 they are not of one kind"
            ))),
        }
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
