//! What a run leaves to go on from, and how it comes back to it.

use crate::backend::Backend;
use crate::engine::Engine;
use crate::error::Result;
use crate::model::Weights;
use crate::run::directory::RunDirectory;
use crate::run::job::Run;
use crate::run::metrics_log::MetricsLog;
use crate::run::state::Checkpoint;
use crate::run::state::RunState;
use crate::run::step::not_finite;

impl Run<'_> {
    /// Everything that was submitted has been waited for: the engine is where `state` is.
    pub(super) fn save<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &RunState,
        log: &MetricsLog,
    ) -> Result<()> {
        let parameters = engine.parameters()?;
        if let Some(bad) = parameters.iter().find(|x| !x.is_finite()) {
            return Err(not_finite(&format!("a parameter is {bad}"), &format!("step {}", state.step)));
        }
        self.compare(&parameters, state.step)?;
        if !self.session.ranks.is_first() {
            return Ok(());
        }
        let [exp_avg, exp_avg_sq] = engine.moments()?;
        let weights = Weights {
            architecture: engine.architecture(),
            parameters,
            metadata: [("format".to_string(), "pt".to_string())].into(),
        };
        let arrays = [&*weights.parameters, &exp_avg, &exp_avg_sq];
        self.session.ranks.excused(|| {
            log.sync()?;
            let path = self.directory.state();
            if !path.exists() {
                // Weights without a state are those of a run that has lost it, see [`RunDirectory::saved`].
                state.write(&path, arrays)?;
                return weights.write(self.directory.model());
            }
            // The state last: a resume must not find it ahead of the weights that a user sees.
            weights.write(self.directory.model())?;
            state.write(&path, arrays)
        })
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
