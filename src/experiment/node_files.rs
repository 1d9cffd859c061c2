//! What a node's directory holds beside its run: what it is, whether it is done, and who is at work on it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::digest::file_sha256;
use crate::error::{Error, Result};
use crate::experiment::node::{AuditParts, Node, Task};
use crate::experiment::results::{Epoch, LossPoint};
use crate::json;
use crate::provenance::{Provenance, VERSION};

const LABEL: &str = "node.json";

/// `node.json`: written before anything else.
#[derive(Serialize, Deserialize)]
struct Label {
    kerase: String,
    name: String,
    settings: Value,
}

/// Volume and slice, of the retain set's test volumes, on which a network has the lowest SSIM.
pub type WorstSlice = Option<(String, usize)>;

/// `done.json`: written after everything else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub steps: u64,
    /// Spent in steps.
    pub seconds: f64,
    pub epochs: Vec<Epoch>,
    pub loss: Vec<LossPoint>,
    pub worst: WorstSlice,
    /// See [`RunResult::kept_epoch`](crate::experiment::results::RunResult::kept_epoch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_epoch: Option<u64>,
    pub warnings: Vec<String>,
    /// Who did it, or its last part.
    pub by: Option<Provenance>,
    /// CPU threads that it had.
    #[serde(default)]
    pub threads: usize,
    /// SHA-256 of the file of an audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

/// Refuses a directory whose results are not an experiment's: they would be replaced. One in which a study has begun is
/// known by its runs; all else that is in a directory stays as it is.
///
/// # Errors
/// Naming the file.
pub fn check_results_are_own(out: &Path) -> Result<()> {
    let Some(file) = ["results.json", "report.html"].into_iter().find(|name| out.join(name).exists()) else {
        return Ok(());
    };
    let runs = std::fs::read_dir(out.join("runs")).into_iter().flatten().flatten();
    if runs.map(|run| run.path().join(LABEL)).any(|label| label.exists()) {
        return Ok(());
    }
    Err(Error::input(format!(
        "{} has a {file} and no runs of an experiment: it would be replaced by this one's; choose another --out, or move \
         the file away",
        out.display()
    )))
}

/// The right to work on a node, until it is dropped or the process ends, however it ends.
pub struct Claim {
    _lock: File,
}

impl Node {
    pub fn done_path(&self) -> PathBuf {
        self.directory.join("done.json")
    }

    pub fn is_done(&self) -> bool {
        match &self.task {
            // A run that was made again took its audit away, and another study may have left one there.
            Task::Audit(AuditParts { record, .. }) => {
                let made = self.done().ok().and_then(|done| done.record);
                made.is_some() && made == file_sha256(record).ok()
            }
            _ => self.done_path().exists(),
        }
    }

    /// Whether the run's network was not finite after its last epoch: then that has no scores.
    ///
    /// # Errors
    /// Where a run's directory is none of this version's, or has no end.
    pub fn has_diverged(&self) -> Result<bool> {
        Ok(self.done()?.epochs.last().is_some_and(|epoch| epoch.measured.is_none()))
    }

    /// What was left when it was done.
    ///
    /// # Errors
    /// A file that cannot be read or is none of ours, or none yet.
    pub fn done(&self) -> Result<Done> {
        read_json(&self.done_path())
    }

    /// Says that it is done, and what is left of it.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn finish(&self, done: &Done) -> Result<()> {
        json::write(self.done_path(), done)
    }

    /// Refuses what another version has left: its numbers may not be those of this one.
    ///
    /// # Errors
    /// Naming both versions, and the remedy.
    pub fn check_version(&self) -> Result<()> {
        let path = self.directory.join(LABEL);
        if !path.exists() {
            return Ok(());
        }
        let label: Label = read_json(&path)?;
        if label.kerase == VERSION {
            return Ok(());
        }
        Err(Error::input(format!(
            "{} was made by kerase {}, and this is {VERSION}: go on with that version, choose another --out, or remove \
             the directory",
            self.directory.display(),
            label.kerase
        )))
    }

    /// Takes the node on, unless somebody has: a second process, or one on another machine that shares the disk.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn claim(&self) -> Result<Option<Claim>> {
        let directory = &self.directory;
        std::fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, e))?;
        let path = directory.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| Error::io("create", &path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path, error)),
        }
        let label =
            Label { kerase: VERSION.into(), name: self.name.clone(), settings: self.settings.clone() };
        json::write(directory.join(LABEL), &label)?;
        Ok(Some(Claim { _lock: lock }))
    }

    fn epochs_path(&self) -> PathBuf {
        self.directory.join("epochs.json")
    }

    /// What was measured of a run so far, and where it was worst.
    ///
    /// # Errors
    /// A file that cannot be read or is none of ours.
    pub fn epochs(&self) -> Result<Vec<(Epoch, WorstSlice)>> {
        let path = self.epochs_path();
        if path.exists() { read_json(&path) } else { Ok(Vec::new()) }
    }

    /// Adds an epoch, which may have been measured before by a process that was killed then.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn add_epoch(&self, epoch: Epoch, worst: WorstSlice) -> Result<()> {
        let mut epochs = self.epochs()?;
        epochs.retain(|(known, _)| known.epoch < epoch.epoch);
        epochs.push((epoch, worst));
        json::write(self.epochs_path(), &epochs)
    }
}

/// What a part of a study left in a file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::input(format!(
            "{} is none of this version's: {e}; remove its directory to have it made again",
            path.display()
        ))
    })
}
