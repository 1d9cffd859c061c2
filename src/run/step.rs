//! One optimiser step of a run: what it asks the device for, and, once that is done, what there is to say of it.

use std::time::Instant;

use crate::backend::{AdamStep, Backend};
use crate::engine::{Coming, Engine, Objective, Results};
use crate::error::{Error, Result};
use crate::ranks::tag;
use crate::run::feed::Feed;
use crate::run::job::Run;
use crate::run::metrics_log::Line;
use crate::run::schedule::{PlannedStep, Role};
use crate::run::share::Part;
use crate::run::state::RunState;

/// A step that the device was asked for.
pub(super) struct Submitted<'s, B: Backend> {
    pub step: &'s PlannedStep,
    /// This rank's.
    parts: Vec<Part>,
    coming: Coming<B>,
    begun: Instant,
}

impl Run<'_> {
    /// Asks for a step, which comes `ahead` steps after the next of `state`.
    pub(super) fn submit<'s, B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &RunState,
        ahead: u64,
        step: &'s PlannedStep,
        feed: &mut Feed,
    ) -> Result<Submitted<'s, B>> {
        let begun = Instant::now();
        let parts = self.parts(step);
        for (number, part) in parts.iter().enumerate() {
            let term = &step.terms[part.term];
            feed.arrive(engine)?;
            let noise = self.noise(state, term, &part.batch);
            let weight = term.weight * part.share;
            let last = number + 1 == parts.len();
            engine.submit(
                self.optimisation.loss.weights(),
                Objective { weight, teacher: term.teacher, noise: &noise, last },
            )?;
            self.session.ranks.tick();
            if !last {
                // While the device is at work.
                feed.put_next(engine);
            }
        }
        engine.sum_gradient(self.session.ranks)?;
        let adam = AdamStep::new(state.plateau.lr, state.adam_step + ahead + 1, self.optimisation.clip);
        engine.submit_update(AdamStep { l1: step.l1, ..adam });
        Ok(Submitted { step, parts, coming: engine.begin_results()?, begun })
    }

    /// Waits for the next step of `state`, which then has taken it. Returns what there is to log, and whether a stop
    /// was asked for.
    pub(super) fn settle<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        submitted: Submitted<'_, B>,
    ) -> Result<(Line, bool)> {
        let Submitted { step, parts, coming, begun } = submitted;
        let Results { losses, grad_norm, seconds } =
            self.session.ranks.summing(|| engine.await_results(coming))?;
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
        // Where it was submitted ahead, this has some of the step before in it: others are the more patient.
        self.session.ranks.stepped(state.step, begun.elapsed());
        let [retain_loss, forget_loss] = by_role;
        let line = Line::Step {
            step: state.step,
            epoch: state.epoch,
            loss,
            // A run over one set has nothing to tell apart.
            retain_loss: retain_loss.filter(|_| self.schedule.of_two_sets()),
            forget_loss,
            lr: state.plateau.lr,
            grad_norm,
            seconds,
            volume: volumes.into(),
            slice: slices.into(),
        };
        Ok((line, stopping))
    }
}

pub(crate) fn not_finite(what: &str, place: &str) -> Error {
    Error::NotFinite(format!(
        "{what} at {place}: the run stops, and what it saved before is kept; lower --lr or --clip, or look at that \
         slice"
    ))
}
