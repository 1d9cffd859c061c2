//! Selective synaptic dampening (Foster et al. 2024, "Fast Machine Unlearning Without Retraining Through Selective
//! Synaptic Dampening", AAAI, arXiv:2308.07707): no step is taken. A weight whose importance f to the forget set is above
//! α times its importance d to all training data is multiplied by min(1, λ·d/f). Importance is the diagonal of the
//! empirical Fisher information: the mean of a slice's squared gradient.
//!
//! All training data are the forget and the retain set. The mean over the retain set is estimated from the part that is
//! used, and weighed as the whole, so that the fraction does not change what α means. As d holds the forget set's
//! share s of f, no weight can be selected where α ≥ 1/s. α = 10 and λ = 1 are those of the paper's ResNet18
//! experiments on classes (the authors' code: selection_weighting 10, dampening_constant 1).

use crate::backend::{Backend, Dampening, Purpose};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::run::{Role, Run, RunState};
use crate::unlearn::hyperparameters::Hyperparameters;
use crate::unlearn::method::{Before, Method, PLAIN, descent};

pub const METHOD: Method = Method {
    name: "ssd",
    title: "Selective synaptic dampening",
    objective: "no steps: θ ← min(1, λ·d/f)·θ where f > α·d",
    forget: Some(descent),
    before: Before::Dampens,
    steps: None,
    defaults: Hyperparameters { alpha: Some(10.0), lambda: Some(1.0), ..Hyperparameters::NONE },
    ..PLAIN
};

/// Each weight's importance to either set.
pub struct Importance<B> {
    forget: B,
    retain: B,
}

impl<B> Importance<B> {
    /// # Errors
    /// Where the device has not enough memory.
    pub fn new<O: Backend<Buffer = B>>(engine: &Engine<'_, O>) -> Result<Self> {
        let zeros = || engine.as_parameters(Purpose::Optimiser);
        Ok(Self { forget: zeros()?, retain: zeros()? })
    }

    /// Measures the importance of the engine's weights and dampens them. False where a stop was asked for: then they are as
    /// they were.
    ///
    /// # Errors
    /// As [`Run::survey`].
    pub fn dampen<O: Backend<Buffer = B>>(
        mut self,
        run: &Run<'_>,
        engine: &mut Engine<'_, O>,
        state: &mut RunState,
        dampening: Dampening,
    ) -> Result<bool> {
        let terms = run.schedule.preparation();
        let slices = |role| terms.iter().filter(|term| term.role == role).count() as f64;
        let [of_forget, of_retain] = [Role::Forget, Role::Retain].map(|role| 1.0 / slices(role));
        let stopped = run.survey(engine, state, &terms, &mut |engine, term| match term.role {
            Role::Forget => engine.submit_squares(of_forget, &mut self.forget),
            Role::Retain => engine.submit_squares(of_retain, &mut self.retain),
        })?;
        if stopped {
            return Ok(false);
        }
        engine.sum(run.session.ranks, &mut self.forget)?;
        engine.sum(run.session.ranks, &mut self.retain)?;
        for (set, importance) in [("forget", &self.forget), ("retain", &self.retain)] {
            if let Some(bad) = engine.read(importance)?.into_iter().find(|value| !value.is_finite()) {
                return Err(Error::NotFinite(format!(
                    "the importance of a weight to the {set} set is {bad}: nothing was dampened"
                )));
            }
        }
        engine.submit_dampening(dampening, &self.forget, &self.retain);
        state.seconds += engine.results()?.seconds;
        // The pass over the data was the only epoch.
        state.epoch = 1;
        Ok(true)
    }
}
