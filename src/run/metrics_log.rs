//! `metrics.jsonl`: a line per step, per epoch and per validation, appended as they happen.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::atomic;
use crate::error::{Error, Result};
use crate::progress::warn;
use crate::run::state::RunState;

/// One line.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    Step {
        /// From 1.
        step: u64,
        /// From 0.
        epoch: u64,
        /// Σ weight·J over the step's terms, without the ℓ1 penalty.
        loss: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        retain_loss: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        forget_loss: Option<f64>,
        lr: f64,
        /// Before the clip, the ℓ1 penalty included.
        grad_norm: f64,
        /// Spent computing; waiting for data is not counted.
        seconds: f64,
        volume: OneOrMore<String>,
        slice: OneOrMore<usize>,
    },
    Epoch {
        step: u64,
        epoch: u64,
        mean_loss: f64,
        lr: f64,
        seconds: f64,
    },
    Validation {
        step: u64,
        epoch: u64,
        volumes: usize,
        psnr: f64,
        ssim: f64,
        nmse: f64,
    },
}

/// A value, or a list where a step has several slices.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> From<Vec<T>> for OneOrMore<T> {
    fn from(mut values: Vec<T>) -> Self {
        if values.len() == 1 { Self::One(values.remove(0)) } else { Self::More(values) }
    }
}

pub struct MetricsLog {
    path: PathBuf,
    /// None where another rank writes.
    file: Option<File>,
}

impl MetricsLog {
    /// A log that keeps nothing.
    pub fn none() -> Self {
        Self { path: PathBuf::new(), file: None }
    }

    /// Opens the log to append, for a run that goes on from `state`. What a killed run wrote past its last checkpoint
    /// is dropped first: steps after the state's, and ends of epochs that the state has not closed.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn open(path: &Path, state: &RunState) -> Result<Self> {
        if path.exists() {
            let text = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
            let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
            // A crash cuts the last line short; others were damaged otherwise.
            let damaged = lines.iter().rev().skip(1).filter(|line| parsed(line).is_none()).count();
            if damaged > 0 {
                warn(&format!("{}: {damaged} lines cannot be read, and are left out", path.display()));
            }
            let kept: Vec<u8> =
                lines.into_iter().filter(|line| belongs(line, state)).flatten().copied().collect();
            if kept != text {
                atomic::write_bytes(path, &kept)?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { path: path.to_path_buf(), file: Some(file.map_err(|e| Error::io("create", path, e))?) })
    }

    /// Brings all lines to the disk: a checkpoint is not to outlive the lines of its steps.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn sync(&self) -> Result<()> {
        match &self.file {
            Some(file) => file.sync_data().map_err(|e| Error::io("write", &self.path, e)),
            None => Ok(()),
        }
    }

    /// # Errors
    /// Where the disk refuses.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut text = serde_json::to_string(line).expect("numbers and strings");
        text.push('\n');
        file.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }
}

/// None of a line that a crash cut short.
fn parsed(line: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

/// Whether a line was written before `state` was saved.
fn belongs(line: &[u8], state: &RunState) -> bool {
    let Some(line) = parsed(line) else { return false };
    match line["kind"].as_str() {
        Some("step") => line["step"].as_u64().is_some_and(|step| step <= state.step),
        _ => line["epoch"].as_u64().is_some_and(|epoch| epoch < state.epoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_the_checkpoint_is_cut_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let step =
            |step: u64| format!("{{\"kind\":\"step\",\"step\":{step},\"epoch\":{}}}\n", (step - 1) / 3);
        let end = |kind, epoch: u64| {
            format!("{{\"kind\":\"{kind}\",\"step\":{},\"epoch\":{epoch}}}\n", 3 * (epoch + 1))
        };
        let first: String =
            [step(1), step(2), step(3), end("epoch", 0), end("validation", 0), step(4), step(5), step(6)]
                .concat();
        // The checkpoint at step 6 was saved before the epoch was closed; the last line is half a character too short.
        let rest = [end("epoch", 1), end("validation", 1), step(7)].concat();
        let mut all = [first.as_bytes(), rest.as_bytes()].concat();
        all.extend_from_slice(b"{\"volume\":\"\xc3");
        std::fs::write(&path, all).unwrap();
        let state = RunState { step: 6, epoch: 1, step_in_epoch: 3, ..RunState::new(1.0) };
        MetricsLog::open(&path, &state).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);

        let closed = RunState { step: 3, epoch: 1, ..RunState::new(1.0) };
        MetricsLog::open(&path, &closed).unwrap();
        assert!(parsed(step(1).trim_end().as_bytes()).is_none() && parsed(step(1).as_bytes()).is_some());
        let kept = [step(1), step(2), step(3), end("epoch", 0), end("validation", 0)].concat();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
    }
}
