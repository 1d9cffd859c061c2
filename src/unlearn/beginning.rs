//! What a run begins with: weights, and the optimiser's state.

use crate::backend::Backend;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::run::RunState;
use crate::run::state::Checkpoint;
use crate::unlearn::config::UnlearnConfig;
use crate::unlearn::hyperparameters::filled;
use crate::unlearn::method::{Anew, Method};
use crate::unlearn::methods::last_cascades;
use crate::unlearn::optimizer_state::OptimizerState;

/// Gives an engine that has the original weights those that the method begins with; and Adam's moments, the learning rate
/// and what the plateau has counted where training left them, if they are asked for.
///
/// # Errors
/// Where the network has not so many cascades, or training's state is missing or of other weights.
pub(super) fn initial_state<B: Backend>(
    engine: &mut Engine<'_, B>,
    method: &Method,
    config: &UnlearnConfig,
) -> Result<RunState> {
    if method.anew != Anew::Nothing {
        let mut parameters = engine.architecture().initial_parameters(config.optimisation.seed);
        if method.anew == Anew::LastCascades {
            let k = filled(config.hyperparameters.last_cascades);
            let anew = last_cascades::flags(engine.net(), k)?;
            let original = engine.parameters()?;
            let kept = parameters.iter_mut().zip(original).zip(anew).filter(|(_, anew)| !anew);
            kept.for_each(|((parameter, original), _)| *parameter = original);
        }
        engine.set_parameters(&parameters);
    }
    match config.optimizer_state {
        OptimizerState::Fresh => Ok(RunState::new(config.optimisation.lr)),
        OptimizerState::Resume => where_training_left_it(engine, config),
    }
}

fn where_training_left_it<B: Backend>(
    engine: &mut Engine<'_, B>,
    config: &UnlearnConfig,
) -> Result<RunState> {
    let path = config.model.with_file_name("state.safetensors");
    if !path.exists() {
        return Err(Error::input(format!(
            "{} is missing: --optimizer-state resume takes Adam's moments from the file beside the weights; use \
             --optimizer-state fresh for weights from elsewhere",
            path.display()
        )));
    }
    let checkpoint = Checkpoint::read(&path, engine.net().layout.len())?;
    if checkpoint.parameters != engine.parameters()? {
        return Err(Error::input(format!(
            "{} belongs to other weights than {}: use --optimizer-state fresh",
            path.display(),
            config.model.display()
        )));
    }
    engine.set_moments([&checkpoint.exp_avg, &checkpoint.exp_avg_sq]);
    let RunState { adam_step, plateau, .. } = checkpoint.state;
    Ok(RunState { adam_step, plateau, ..RunState::new(plateau.lr) })
}
