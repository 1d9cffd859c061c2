//! What a run must remember to go on as if it had never stopped.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::run::plateau::Plateau;
use crate::tensors;

/// Metadata key of the state's JSON.
const KEY: &str = "kerase.run_state";

/// Where a run is. Together with parameters, moments and settings this determines all that follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Steps of this run.
    pub step: u64,
    /// Adam's steps: those of an earlier run whose moments were taken over come first.
    pub adam_step: u64,
    pub epoch: u64,
    /// Steps of the current epoch that are done.
    pub step_in_epoch: usize,
    /// Sum of the losses of those steps.
    pub epoch_loss: f64,
    pub plateau: Plateau,
    /// Seconds spent in steps, over all parts of the run.
    pub seconds: f64,
    pub finished: bool,
    /// Digest of the data, and of what else the run began with: it must be the same when the run goes on.
    pub origin: String,
    /// The settings that decide its steps, likewise. Runs of older versions have none.
    #[serde(default)]
    pub settings: Value,
}

impl RunState {
    pub fn new(lr: f64) -> Self {
        Self {
            step: 0,
            adam_step: 0,
            epoch: 0,
            step_in_epoch: 0,
            epoch_loss: 0.0,
            plateau: Plateau::new(lr),
            seconds: 0.0,
            finished: false,
            origin: String::new(),
            settings: Value::Null,
        }
    }

    /// Whether nothing is left to do for a run of so many epochs and at most so many steps.
    pub fn reaches(&self, epochs: Option<u64>, max_steps: Option<u64>) -> bool {
        epochs.is_some_and(|most| self.epoch >= most) || max_steps.is_some_and(|most| self.step >= most)
    }

    /// Writes `state.safetensors`, whole or not at all, with the arrays that belong to it: parameters, first and second
    /// moments. The parameters are in it too: a run resumes from one file, so there is no moment at which weights and moments
    /// of different steps lie side by side.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, path: &Path, arrays: [&[f32]; 3]) -> Result<()> {
        let state = serde_json::to_string(self).expect("numbers");
        let named = ["parameters", "exp_avg", "exp_avg_sq"].into_iter().zip(arrays);
        let tensors = named.map(|(name, values)| (name.to_string(), vec![values.len()], values)).collect();
        tensors::write(path, tensors, Some(HashMap::from([(KEY.to_string(), state)])))
    }

    /// Only the state of a checkpoint, without its arrays.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read(path: &Path) -> Result<Self> {
        Ok(open(path)?.1)
    }
}

fn refused(path: &Path, what: &str) -> Error {
    Error::input(format!(
        "{}: {what}; a run is continued from the state.safetensors that kerase wrote",
        path.display()
    ))
}

/// The file, and its state.
fn open(path: &Path) -> Result<(tensors::Reader, RunState)> {
    let file = tensors::Reader::open(path).map_err(|source| match source.kind() {
        ErrorKind::InvalidData => refused(path, &format!("not a whole safetensors file ({source})")),
        _ => Error::io("read", path, source),
    })?;
    let state = file.metadata(KEY).ok_or_else(|| refused(path, "no state of a run"))?;
    let state: RunState = serde_json::from_str(state)
        .map_err(|e| refused(path, &format!("a state of another version ({e})")))?;
    let lr = state.plateau.lr;
    if !(lr.is_finite() && lr > 0.0) {
        return Err(refused(path, &format!("a learning rate of {lr}: it is damaged")));
    }
    Ok((file, state))
}

/// A state with the arrays that belong to it, all flat in the layout's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub state: RunState,
    pub parameters: Vec<f32>,
    pub exp_avg: Vec<f32>,
    pub exp_avg_sq: Vec<f32>,
}

impl Checkpoint {
    /// # Errors
    /// As [`RunState::write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        self.state.write(path, [&self.parameters, &self.exp_avg, &self.exp_avg_sq])
    }

    /// # Errors
    /// A file that is missing, truncated or no state of a run, one of a network with another number of parameters,
    /// or one that holds NaN or infinity.
    pub fn read(path: &Path, parameters: usize) -> Result<Self> {
        let (mut file, state) = open(path)?;
        let mut array = |name: &str| {
            let info = file.info(name).ok_or_else(|| refused(path, &format!("no {name}")))?;
            if info.dtype != Dtype::F32 || info.shape != [parameters] {
                let what = format!(
                    "{name} is {:?} {:?}, the network has {parameters} parameters in F32",
                    info.dtype, info.shape
                );
                return Err(refused(path, &what));
            }
            let values =
                file.array(name).map_err(|source| Error::io("read", path, source))?.unwrap_or_default();
            match values.iter().position(|x| !x.is_finite()) {
                Some(at) => Err(refused(path, &format!("{name}[{at}] is {}", values[at]))),
                None => Ok(values),
            }
        };
        Ok(Self {
            state,
            parameters: array("parameters")?,
            exp_avg: array("exp_avg")?,
            exp_avg_sq: array("exp_avg_sq")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let checkpoint = Checkpoint {
            state: RunState { step: 7, epoch_loss: 0.1 + 0.2, ..RunState::new(1e-3) },
            parameters: vec![1.0, -2.5],
            exp_avg: vec![0.1, 0.2],
            exp_avg_sq: vec![f32::MIN_POSITIVE, 3e-39],
        };
        checkpoint.write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path, 2).unwrap(), checkpoint);
        assert!(Checkpoint::read(&path, 3).unwrap_err().to_string().contains("3 parameters"));
        Checkpoint { exp_avg: vec![0.0, f32::NAN], ..checkpoint }.write(&path).unwrap();
        assert!(Checkpoint::read(&path, 2).unwrap_err().to_string().contains("exp_avg[1] is NaN"));

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(Checkpoint::read(&path, 2).unwrap_err().to_string().contains("not a whole safetensors file"));
    }
}
