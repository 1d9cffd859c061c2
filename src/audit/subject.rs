//! The unlearning run that is audited, as it left itself in its directory.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::data::digest::{VolumeDigest, file_sha256};
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::paths::absolute;
use crate::provenance::Provenance;
use crate::run::{RunDirectory, Start};
use crate::sha256;
use crate::unlearn::UnlearnConfig;

/// What an audit needs of `unlearning.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    pub title: String,
    pub objective: String,
    pub finished: bool,
    /// Who computed the run, or its last part.
    pub by: Option<Provenance>,
    pub forgotten: Vec<VolumeDigest>,
    pub steps: u64,
    pub epochs: u64,
    pub seconds: f64,
    pub weights_before_sha256: String,
    pub weights_after_sha256: String,
    pub warnings: Vec<String>,
}

impl Said {
    /// # Errors
    /// A file that is missing or none of an unlearning run.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::input(format!("{} is no record of an unlearning run: {e}", path.display())))
    }
}

/// Whether a config.toml is that of an unlearning run, as far as it can be told.
fn of_unlearning(config: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(config).map_err(|e| Error::io("read", config, e))?;
    // What is no TOML is complained about when the settings are read.
    Ok(text.parse::<toml::Table>().map_or(true, |table| table.contains_key("method")))
}

/// A run with its record and the weights at both its ends.
#[derive(Clone, Debug)]
pub struct Subject {
    pub directory: PathBuf,
    pub config: UnlearnConfig,
    pub config_sha256: String,
    /// None of a run that diverged: it stopped before it could say anything.
    pub said: Option<Said>,
    pub unlearning_sha256: Option<String>,
    pub before: Weights,
    /// None of a run that diverged.
    pub after: Option<Weights>,
}

impl Subject {
    /// Reads a run. `diverged` says that it is known to have ended with a loss that is not finite; other runs must have
    /// been finished.
    ///
    /// # Errors
    /// A directory without a finished unlearning run, and weights that are not those of its record.
    pub fn read(directory: &Path, diverged: bool) -> Result<Self> {
        let run = RunDirectory::check(directory, Start::Resume)?;
        if !of_unlearning(&run.config())? {
            return Err(Error::input(format!(
                "{} is of a run of kerase train: an audit is of a run of kerase unlearn",
                run.config().display()
            )));
        }
        let config: UnlearnConfig = run.settings("unlearn")?;
        let record = directory.join("unlearning.json");
        let before = Weights::read(&config.model)?;
        let config_sha256 = file_sha256(run.config())?;
        let subject = Self {
            directory: absolute(directory),
            config,
            config_sha256,
            said: None,
            unlearning_sha256: None,
            before,
            after: None,
        };
        if !record.exists() {
            return match diverged {
                true => Ok(subject),
                false => Err(Error::input(format!(
                    "{} holds no unlearning.json, so its run is not finished: continue it with  kerase unlearn --resume \
                     --out {}",
                    directory.display(),
                    directory.display()
                ))),
            };
        }
        let said = Said::read(&record)?;
        if !said.finished {
            return Err(Error::input(format!(
                "{}: the run was stopped before its end: continue it with  kerase unlearn --resume --out {}",
                record.display(),
                directory.display()
            )));
        }
        let after = Weights::read(run.model())?;
        for (path, weights, expected) in [
            (&subject.config.model, &subject.before, &said.weights_before_sha256),
            (&run.model(), &after, &said.weights_after_sha256),
        ] {
            let found = sha256::of_parameters(&weights.parameters);
            if &found != expected {
                return Err(Error::input(format!(
                    "{} does not hold the weights of {}: their SHA-256 is {found}, the record's {expected}",
                    path.display(),
                    record.display()
                )));
            }
        }
        let unlearning_sha256 = Some(file_sha256(&record)?);
        Ok(Self { said: Some(said), unlearning_sha256, after: Some(after), ..subject })
    }

    /// Compares the forget set, as it is now, with what the run says it forgot.
    ///
    /// # Errors
    /// Naming what is another.
    pub fn check_forgotten(&self, set: &VolumeSet, found: &[VolumeDigest]) -> Result<()> {
        let Some(said) = &self.said else { return Ok(()) };
        let differs = |a: &VolumeDigest, b: &VolumeDigest| (&a.sha256, &a.slices) != (&b.sha256, &b.slices);
        let changed = found.iter().zip(&said.forgotten).find(|(now, then)| differs(now, then));
        match changed {
            Some((now, _)) => Err(Error::input(format!(
                "{} is not what {}/unlearning.json says was forgotten: it has changed since, or the set has other \
                 volumes now",
                now.path.display(),
                self.directory.display()
            ))),
            None if found.len() != said.forgotten.len() => Err(Error::input(format!(
                "{}: the forget set has {} volumes, {}/unlearning.json says {}",
                set.named(),
                found.len(),
                self.directory.display(),
                said.forgotten.len()
            ))),
            None => Ok(()),
        }
    }
}
