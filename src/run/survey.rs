//! Gradients that are looked at before the first step.

use std::sync::atomic::Ordering;

use crate::backend::Backend;
use crate::engine::{Engine, Objective, Results};
use crate::error::Result;
use crate::progress::Progress;
use crate::run::feed::Feed;
use crate::run::job::Run;
use crate::run::schedule::Term;
use crate::run::state::RunState;
use crate::run::step::not_finite;

impl Run<'_> {
    /// Gathers the gradient of each of this rank's terms at the weights that the engine has, without a step; `look` is
    /// called after each and may take it. True where a stop was asked for, and not all were looked at.
    ///
    /// # Errors
    /// What the data or the device refuse, and [`Error::NotFinite`](crate::error::Error::NotFinite) where a loss is NaN or infinite.
    pub fn survey<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &mut RunState,
        terms: &[Term],
        look: &mut dyn FnMut(&mut Engine<'_, B>, &Term),
    ) -> Result<bool> {
        let own: Vec<&Term> = self.own_terms(terms).collect();
        let batches = own.iter().map(|term| term.batch.clone()).collect();
        let mut feed = Feed::start(&self.set, &self.sampler, state.epoch, batches, self.session.loader);
        let mut progress = Progress::new(own.len() as u64, &format!("{}, before the first step", self.title));
        for term in own {
            if self.session.stop.load(Ordering::Relaxed) {
                break;
            }
            feed.arrive(engine)?;
            let noise = self.noise(state, term, &term.batch);
            let objective =
                Objective { weight: term.weight, teacher: term.teacher, noise: &noise, last: false };
            engine.submit(self.optimisation.loss.weights(), objective)?;
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
            self.session.ranks.tick();
        }
        progress.finish();
        self.stopping()
    }
}
