//! `metrics.jsonl`: a line per step, per epoch and per validation, appended as they happen.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::atomic;
use crate::error::{Error, Result};

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
    file: File,
}

impl MetricsLog {
    /// Opens the log to append; lines of steps after `last_step`, which a killed run wrote past its last
    /// checkpoint, are dropped first.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn open(path: &Path, last_step: u64) -> Result<Self> {
        if path.exists() {
            let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
            let mut kept = Vec::new();
            for line in BufReader::new(file).lines() {
                let line = line.map_err(|e| Error::io("read", path, e))?;
                // A line that a crash cut short is no line.
                let step =
                    serde_json::from_str::<serde_json::Value>(&line).ok().and_then(|l| l["step"].as_u64());
                if step.is_some_and(|step| step <= last_step) {
                    kept.extend_from_slice(line.as_bytes());
                    kept.push(b'\n');
                }
            }
            atomic::write_bytes(path, &kept)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { path: path.to_path_buf(), file: file.map_err(|e| Error::io("create", path, e))? })
    }

    /// # Errors
    /// Where the disk refuses.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("numbers and strings");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }
}
