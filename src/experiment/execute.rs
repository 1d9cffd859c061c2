//! Carries a study out: whoever finds something that can be done and that nobody does takes it on.
//!
//! Processes that share a directory share the work, on one machine or on several, and any of them may be killed: what
//! it was at is taken up by another, or by the next to come, where it was last saved.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::backend::Backend;
use crate::batch::Sampler;
use crate::config::TrainConfig;
use crate::data::loader::LoaderOptions;
use crate::data::set::VolumeSet;
use crate::data::write::write_volume;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{VolumeResult, evaluate_together_until};
use crate::experiment::audits;
use crate::experiment::graph::{Graph, Node, Task};
use crate::experiment::loss_curve::loss_curve;
use crate::experiment::node_files::{Claim, Done, WorstSlice};
use crate::experiment::results::{Epoch, Measured, NamedScores};
use crate::experiment::settings::{Settings, Subjects};
use crate::model::Weights;
use crate::progress::{Progress, warn};
use crate::provenance::Provenance;
use crate::ranks::ALONE;
use crate::run::{Best, Outcome, RunState, Session, Start};
use crate::simulate::{file_name, simulate_volume};
use crate::train::Training;
use crate::unlearn::{UnlearnConfig, Unlearning};

/// How often a process that has nothing to do looks again.
const PATIENCE: Duration = Duration::from_millis(500);

pub struct Experiment<'e> {
    pub settings: &'e Settings,
    pub graph: &'e Graph,
    pub stop: &'e AtomicBool,
    /// Whether this process says that it waits for others.
    pub leads: bool,
    pub loader: LoaderOptions,
    /// Who computes.
    pub by: Provenance,
}

/// The sets that networks are measured on.
struct TestSets {
    bta: Arc<VolumeSet>,
    kta: Arc<VolumeSet>,
    ua: Arc<VolumeSet>,
    sampler: Sampler,
}

impl Experiment<'_> {
    /// Works until nothing is left to do. `say` gets a line for every beginning.
    ///
    /// # Errors
    /// The first failure of a part of the study; what is done stays done.
    pub fn run<B: Backend>(&self, ops: &B, say: &dyn Fn(&str) -> Result<()>) -> Result<Outcome> {
        let mut waiting = false;
        let mut checked = false;
        let mut tests = None;
        while let Some(next) = self.next()? {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Outcome::Stopped);
            }
            let Next::Take(index, claim) = next else {
                if !waiting && self.leads {
                    say("the rest is being done by other processes: waiting for them")?;
                }
                waiting = true;
                std::thread::sleep(PATIENCE);
                continue;
            };
            waiting = false;
            let node = &self.graph.nodes[index];
            if !matches!(node.task, Task::Simulate(_)) && !checked {
                self.graph.sets.check_apart()?;
                checked = true;
            }
            say(&format!("{} of {}: {}", index + 1, self.graph.nodes.len(), node.name))?;
            if self.carry_out(ops, node, &mut tests)? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
            drop(claim);
        }
        Ok(Outcome::Finished)
    }

    /// What to do now; none where all is done.
    fn next(&self) -> Result<Option<Next>> {
        let mut left = false;
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if node.is_done() {
                continue;
            }
            left = true;
            if !node.needs.iter().all(|&need| self.graph.nodes[need].is_done()) {
                continue;
            }
            if let Some(claim) = node.claim()?
                && !node.is_done()
            {
                return Ok(Some(Next::Take(index, claim)));
            }
        }
        Ok(left.then_some(Next::Wait))
    }

    fn carry_out<B: Backend>(&self, ops: &B, node: &Node, tests: &mut Option<TestSets>) -> Result<Outcome> {
        match &node.task {
            Task::Simulate(subjects) => self.simulate(node, *subjects),
            Task::Train(config) => self.train(ops, node, config),
            Task::Measure { training, .. } => {
                self.measure(ops, node, &self.graph.nodes[*training], self.tests(tests)?)
            }
            Task::Unlearn { config, .. } => self.unlearn(ops, node, config, self.tests(tests)?),
            Task::Observe(look) => audits::observe(self, ops, node, look),
            Task::Audit(parts) => audits::audit(self, ops, node, parts),
        }
        .map_err(|error| error.of(&node.name))
    }

    /// What this process leaves of a node that it has done.
    pub(super) fn done(&self) -> Done {
        let threads = rayon::current_num_threads();
        Done { by: Some(self.by.clone()), threads, ..Done::default() }
    }

    fn simulate(
        &self,
        node: &Node,
        Subjects { simulate, subjects: [first, last] }: Subjects,
    ) -> Result<Outcome> {
        let config = self.settings.simulated(simulate)?;
        let mut progress = Progress::new(last - first + 1, &node.name);
        for subject in first..=last {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Outcome::Stopped);
            }
            let volume = simulate_volume(&config, subject)?;
            write_volume(node.directory.join(file_name(simulate, subject)), &volume)?;
            progress.step("");
        }
        progress.finish();
        node.finish(&self.done())?;
        Ok(Outcome::Finished)
    }

    /// A run that was begun goes on.
    fn session<'n>(&'n self, node: &'n Node) -> Session<'n> {
        let begun = node.directory.join("config.toml").exists();
        let start = if begun { Start::Resume } else { Start::New };
        Session { loader: self.loader, ..Session::alone(&node.directory, start, self.stop) }
    }

    fn train<B: Backend>(&self, ops: &B, node: &Node, config: &TrainConfig) -> Result<Outcome> {
        let training = Training { config: config.clone(), session: self.session(node) };
        let outcome = training.run(ops)?;
        if outcome == Outcome::Finished {
            let state = RunState::read(&node.directory.join("state.safetensors"))?;
            let loss = loss_curve(&node.directory.join("metrics.jsonl"))?;
            let kept_epoch = if config.keep_best.is_none() { None } else { Some(kept_epoch(node)?) };
            node.finish(&Done {
                steps: state.step,
                seconds: state.seconds,
                loss,
                kept_epoch,
                ..self.done()
            })?;
        }
        Ok(outcome)
    }

    fn measure<B: Backend>(
        &self,
        ops: &B,
        node: &Node,
        training: &Node,
        tests: &TestSets,
    ) -> Result<Outcome> {
        let weights = Weights::read(training.weights())?;
        let mut engine = Engine::new(ops, weights.architecture, &weights.parameters)?;
        let mut done = training.done()?;
        let Some((measured, worst)) = tests.measure(&mut engine, self.stop)? else {
            return Ok(Outcome::Stopped);
        };
        let epoch = self.settings.training.epochs;
        done.epochs = vec![Epoch { epoch, seconds: done.seconds, measured: Some(measured) }];
        done.worst = worst;
        node.finish(&done)?;
        Ok(Outcome::Finished)
    }

    fn unlearn<B: Backend>(
        &self,
        ops: &B,
        node: &Node,
        config: &UnlearnConfig,
        tests: &TestSets,
    ) -> Result<Outcome> {
        let unlearning =
            Unlearning { config: config.clone(), by: Some(self.by.clone()), session: self.session(node) };
        let trained = self.settings.training.epochs;
        let outcome = unlearning.run_measuring(ops, &mut |engine, state| {
            let Some((measured, worst)) = tests.measure_any(engine, self.stop)? else {
                // The epoch's end is saved, and measured when the run goes on.
                return Ok(ControlFlow::Break(()));
            };
            let epoch = Epoch { epoch: trained + state.epoch + 1, seconds: state.seconds, measured };
            node.add_epoch(epoch, worst)?;
            Ok(ControlFlow::Continue(None))
        });
        let (mut warnings, mut diverged) = (Vec::new(), false);
        match outcome {
            Ok((Outcome::Stopped, _)) => return Ok(Outcome::Stopped),
            Ok((Outcome::Finished, record)) => {
                record.warnings.iter().for_each(|warning| warn(&format!("{}: {warning}", node.name)));
                warnings.extend(record.warnings);
            }
            Err(Error::NotFinite(message)) => {
                warnings.push(message);
                diverged = true;
                let epochs = node.epochs()?;
                // One that is not may be of an attempt that was killed before its end.
                let last = epochs.iter().rfind(|(epoch, _)| epoch.measured.is_some());
                let (last, seconds) = last.map_or((trained, 0.0), |(epoch, _)| (epoch.epoch, epoch.seconds));
                node.add_epoch(Epoch { epoch: last + 1, seconds, measured: None }, None)?;
            }
            Err(error) => return Err(error),
        }
        let state_path = node.directory.join("state.safetensors");
        let (steps, seconds) = match state_path.exists() {
            true => RunState::read(&state_path).map(|state| (state.step, state.seconds))?,
            false => (0, 0.0),
        };
        if !diverged && node.epochs()?.is_empty() {
            // A method without steps has no epochs, and yet a network in the end.
            let weights = Weights::read(node.weights())?;
            let mut engine = Engine::new(ops, weights.architecture, &weights.parameters)?;
            let Some((measured, worst)) = tests.measure_any(&mut engine, self.stop)? else {
                return Ok(Outcome::Stopped);
            };
            node.add_epoch(Epoch { epoch: trained + 1, seconds, measured }, worst)?;
        }
        let epochs = node.epochs()?;
        let worst = epochs.last().and_then(|(_, worst)| worst.clone());
        let epochs = epochs.into_iter().map(|(epoch, _)| epoch).collect();
        let loss = loss_curve(&node.directory.join("metrics.jsonl"))?;
        node.finish(&Done { steps, seconds, epochs, loss, worst, warnings, ..self.done() })?;
        Ok(Outcome::Finished)
    }

    /// The sets that networks are measured on, opened once.
    fn tests<'t>(&self, tests: &'t mut Option<TestSets>) -> Result<&'t TestSets> {
        if let Some(tests) = tests {
            return Ok(tests);
        }
        let sets = &self.graph.sets;
        let sampler = Sampler::fixed(&self.settings.sampling)?;
        let open = |path: &PathBuf| sampler.compressed(VolumeSet::open(path)?).map(Arc::new);
        Ok(tests.insert(TestSets {
            bta: open(&sets.retain_test)?,
            kta: open(&sets.forget_test)?,
            ua: open(&sets.forget)?,
            sampler,
        }))
    }
}

enum Next {
    Take(usize, Claim),
    Wait,
}

/// After how many epochs a training's network was the best.
fn kept_epoch(node: &Node) -> Result<u64> {
    let best = Best::of_run(&node.directory)?;
    best.map(|best| best.epoch + 1).ok_or_else(|| {
        let run = node.directory.display();
        Error::NotFinite(format!("{run}: after no epoch could its images of the validation sets be measured"))
    })
}

impl TestSets {
    /// As [`Self::measure`], no scores where images are not finite: what a method does to a network is a result.
    fn measure_any<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        stop: &AtomicBool,
    ) -> Result<Option<(Option<Measured>, WorstSlice)>> {
        match self.measure(engine, stop) {
            Err(Error::NotFinite(_)) => Ok(Some((None, None))),
            measured => Ok(measured?.map(|(measured, worst)| (Some(measured), worst))),
        }
    }

    /// Scores on all sets, and the slice of BTA's volumes with the lowest SSIM; none where a stop was asked for meanwhile.
    fn measure<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        stop: &AtomicBool,
    ) -> Result<Option<(Measured, WorstSlice)>> {
        let sets = [&self.bta, &self.kta, &self.ua];
        let slices: usize = sets.iter().map(|set| set.slice_count()).sum();
        let mut progress = Progress::new(slices as u64, "measuring");
        let mut measured = Vec::new();
        for set in sets {
            let step = || progress.step("");
            let results = evaluate_together_until(Some(stop), &ALONE, engine, set, &self.sampler, step)?;
            let Some(results) = results else { return Ok(None) };
            measured.push(results);
        }
        progress.finish();
        let worst = worst_slice(&measured[0]);
        let scores = |results: Vec<VolumeResult>| -> Vec<NamedScores> {
            let of = |r: VolumeResult| NamedScores { volume: r.volume, scores: r.scores.volume };
            results.into_iter().map(of).collect()
        };
        let mut measured = measured.into_iter().map(scores);
        let mut next = || measured.next().expect("one for each set");
        Ok(Some((Measured { bta: next(), kta: next(), ua: next() }, worst)))
    }
}

fn worst_slice(results: &[VolumeResult]) -> WorstSlice {
    let slices = results.iter().flat_map(|result| {
        let scores = result.slices.iter().zip(&result.scores.slices);
        scores.map(|(&slice, scores)| (&result.volume, slice, scores.ssim))
    });
    slices.min_by(|a, b| a.2.total_cmp(&b.2)).map(|(volume, slice, _)| (volume.clone(), slice))
}
