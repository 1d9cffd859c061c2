//! What a training begins with.

use std::path::Path;

use crate::error::{Error, Result};
use crate::memory::check_host;
use crate::model::{VarNet, Weights};
use crate::run::RunDirectory;
use crate::train::config::TrainConfig;

/// The weights of `--init`, or new ones.
///
/// # Errors
/// A file that cannot be read, that is another network's or would be replaced by this run; too little memory.
pub(super) fn initial(config: &TrainConfig, directory: &RunDirectory) -> Result<Vec<f32>> {
    match &config.init {
        Some(path) => {
            directory.refuse_own_weights(path, "--init")?;
            initial_weights(path, config)
        }
        None => initial_parameters(config),
    }
}

/// New ones, where the host has memory for them, which a device with memory of its own has not counted.
pub(super) fn initial_parameters(config: &TrainConfig) -> Result<Vec<f32>> {
    let bytes = size_of::<f32>() * VarNet::new(config.network)?.layout.len();
    check_host(
        bytes,
        &format!("the parameters of a VarNet of {}", config.network),
        "a smaller network needs less",
    )?;
    Ok(config.network.initial_parameters(config.optimisation.seed))
}

fn initial_weights(path: &Path, config: &TrainConfig) -> Result<Vec<f32>> {
    let weights = Weights::read(path)?;
    if weights.architecture != config.network {
        return Err(Error::input(format!(
            "{} holds a VarNet of {}, but the settings ask for {}: leave out the network's options to take the \
             file's, or the file",
            path.display(),
            weights.architecture,
            config.network
        )));
    }
    Ok(weights.parameters)
}
