//! The loop of a run: load, accumulate, update, log, save.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::backend::Backend;
use crate::engine::Engine;
use crate::error::Result;
use crate::progress::say;
use crate::run::board::{Board, Pace};
use crate::run::feed::Feed;
use crate::run::job::{Outcome, Run};
use crate::run::metrics_log::{Line, MetricsLog};
use crate::run::schedule::PlannedStep;
use crate::run::share;
use crate::run::state::RunState;
use crate::run::step::Submitted;
use crate::run::told::Told;
use crate::run::validation::{Validate, Validation};

impl Run<'_> {
    /// Runs from `state` to the end, or to a stop. Weights and state are saved after every epoch and at the end.
    ///
    /// # Errors
    /// What the data, the network or the disk refuse, and [`Error::NotFinite`](crate::error::Error::NotFinite) where a loss or gradient is NaN
    /// or infinite: the last checkpoint then stays as it is.
    pub fn go<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        validate: &mut Validate<'_, B>,
    ) -> Result<Outcome> {
        let mut log = match self.session.ranks.is_first() {
            true => MetricsLog::open(&self.directory.metrics(), state)?,
            false => MetricsLog::none(),
        };
        let mut board = match self.session.shown && self.session.ranks.is_first() {
            true => Board::open(self.directory, state, self.schedule.epoch(state.epoch).len())?,
            false => Board::none(),
        };
        state.finished = false;
        // Whether an end by max_steps, which is within an epoch or at the end of one that was not closed, was measured is not
        // known, and what the log said of it is cut: it is done again.
        let mut end =
            state.step_in_epoch > 0 && self.optimisation.max_steps.is_some_and(|most| state.step >= most);
        while std::mem::take(&mut end)
            || !state.reaches(self.optimisation.epochs, self.optimisation.max_steps)
        {
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
            let mean_loss = state.epoch_loss / steps.len() as f64;
            if complete {
                state.plateau.epoch(self.optimisation.plateau, mean_loss);
                let seconds = started.elapsed().as_secs_f64();
                let line = Line::Epoch { step, epoch, mean_loss, lr: state.plateau.lr, seconds };
                log.write(&line)?;
                board.show(&line, Pace::default())?;
            }
            // Also where max_steps ends a run within an epoch.
            let ControlFlow::Continue(validation) = validate(engine, state)? else {
                // The run that goes on measures, and closes the epoch.
                return Ok(Outcome::Stopped);
            };
            if complete && self.session.shown {
                say(&told_of_epoch(self, epoch, mean_loss, validation.as_ref()));
            }
            if let Some(Validation { volumes, psnr, ssim, nmse, picture }) = validation {
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

    /// The rest of an epoch. True where a stop was asked for.
    ///
    /// A device that works beside the host is asked for a step before the one before it is waited for, so that it
    /// always has one to work on. Whatever looks at the weights has to find `state` there: before it, as at the end,
    /// all steps are waited for.
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
        let mut feed = Feed::start(&self.set, &self.sampler, state.epoch, batches, self.session.loader);
        let of = self.optimisation.epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
        let mut told =
            Told::of(left.len(), &format!("{}, epoch {}{of}", self.title, state.epoch + 1), log, board);
        let mut stopping = self.stopping()?;
        let mut under_way: Option<Submitted<'_, B>> = None;
        for step in left {
            let ahead = u64::from(under_way.is_some());
            let number = state.step + ahead + 1;
            if stopping || self.optimisation.max_steps.is_some_and(|most| number > most) {
                break;
            }
            let submitted = self.submit(engine, state, ahead, step, &mut feed);
            if submitted.is_err() && !self.session.ranks.is_alone() {
                // The others may wait for this rank's part of the step, and would take for it what it has to say of the
                // step before.
                return submitted.map(|_| true);
            }
            if let Some(before) = under_way.take() {
                stopping = self.taken(engine, state, before, &feed, &mut told)?;
            }
            let submitted = submitted?;
            // While the device is at work on this step.
            feed.put_next(engine);
            let saves = self.optimisation.checkpoint_every.is_some_and(|every| number.is_multiple_of(every));
            if saves || !engine.works_beside() {
                stopping = self.taken(engine, state, submitted, &feed, &mut told)?;
            } else {
                under_way = Some(submitted);
            }
            if saves {
                self.save(engine, state, told.log())?;
            }
        }
        if let Some(last) = under_way {
            stopping |= self.taken(engine, state, last, &feed, &mut told)?;
        }
        told.finish();
        Ok(stopping)
    }

    /// Waits for a step and tells of it. True where a stop was asked for.
    fn taken<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        submitted: Submitted<'_, B>,
        feed: &Feed,
        told: &mut Told<'_>,
    ) -> Result<bool> {
        let slices = share::slices(submitted.step);
        let (line, stopping) = self.settle(engine, state, submitted)?;
        told.step(&line, slices, feed.waited(), engine)?;
        Ok(stopping)
    }
}

/// A line for whoever watches: what has become of an epoch.
fn told_of_epoch(run: &Run<'_>, epoch: u64, mean_loss: f64, validation: Option<&Validation>) -> String {
    let of = run.optimisation.epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
    let measured = validation.map_or(String::new(), |v| {
        format!("; validation: PSNR {:.2} dB, SSIM {:.4}, NMSE {:.4}", v.psnr, v.ssim, v.nmse)
    });
    format!("{}, epoch {}{of}: mean loss {mean_loss:.4}{measured}", run.title, epoch + 1)
}
