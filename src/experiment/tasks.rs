//! The tasks of a study but for audits: simulating, training, measuring and unlearning, each in its node's directory.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use crate::backend::Backend;
use crate::data::write::write_volume;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::experiment::loss_curve::loss_curve;
use crate::experiment::node::Node;
use crate::experiment::node_files::Done;
use crate::experiment::results::Epoch;
use crate::experiment::settings::Subjects;
use crate::experiment::study::Experiment;
use crate::experiment::test_sets::TestSets;
use crate::model::Weights;
use crate::progress::{Progress, warn};
use crate::run::{Best, Outcome, RunState};
use crate::simulate::{file_name, simulate_volume};
use crate::train::{TrainConfig, Training};
use crate::unlearn::{UnlearnConfig, Unlearning};

impl Experiment<'_> {
    pub(super) fn simulate(
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

    pub(super) fn train<B: Backend>(&self, ops: &B, node: &Node, config: &TrainConfig) -> Result<Outcome> {
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

    pub(super) fn measure<B: Backend>(
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

    pub(super) fn unlearn<B: Backend>(
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
}

/// After how many epochs a training's network was the best.
fn kept_epoch(node: &Node) -> Result<u64> {
    let best = Best::of_run(&node.directory)?;
    best.map(|best| best.epoch + 1).ok_or_else(|| {
        let run = node.directory.display();
        Error::NotFinite(format!("{run}: after no epoch could its images of the validation sets be measured"))
    })
}
