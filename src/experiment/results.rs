//! What an experiment found: everything that its tables, figures and pages are made of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::distance::PartDistance;
use crate::audit::evidence::{Each, Flag, Relearning};
use crate::audit::membership::{Auc, AucDifference};
use crate::error::{Error, Result};
use crate::metrics::Scores;
use crate::provenance::Provenance;

/// The sets on which networks are measured, by the names that the paper gives to the measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// "Brain test accuracy" in the paper: unseen volumes like the retain set's.
    Bta,
    /// "Knee test accuracy" in the paper: unseen volumes like the forget set's.
    Kta,
    /// Unlearning accuracy: the forget set itself.
    Ua,
}

impl Measure {
    pub const ALL: [Self; 3] = [Self::Bta, Self::Kta, Self::Ua];

    /// "BTA".
    pub fn name(self) -> &'static str {
        match self {
            Self::Bta => "BTA",
            Self::Kta => "KTA",
            Self::Ua => "UA",
        }
    }

    /// What it is measured on: "brain test".
    pub fn set(self, kinds: &Kinds) -> String {
        match self {
            Self::Bta => format!("{} test", kinds.retain),
            Self::Kta => format!("{} test", kinds.forget),
            Self::Ua => "forget set".into(),
        }
    }
}

/// What tables and figures call that which is kept, and that which is to be forgotten: "brain" and "knee" in the paper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kinds {
    pub retain: String,
    pub forget: String,
}

impl Default for Kinds {
    fn default() -> Self {
        Self { retain: "retain".into(), forget: "forget".into() }
    }
}

/// One volume as a network reconstructed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedScores {
    pub volume: String,
    pub scores: Scores,
}

/// A network measured on all sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub bta: Vec<NamedScores>,
    pub kta: Vec<NamedScores>,
    pub ua: Vec<NamedScores>,
}

impl Measured {
    pub fn of(&self, measure: Measure) -> &[NamedScores] {
        match measure {
            Measure::Bta => &self.bta,
            Measure::Kta => &self.kta,
            Measure::Ua => &self.ua,
        }
    }
}

/// What a network is in the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// G, trained on the retain and the forget set.
    Original,
    /// Ĝ, trained on the retain set alone: what unlearning should lead to.
    Oracle,
    /// G, made to forget.
    Unlearned,
}

/// A network after an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from the first of training: unlearning goes on where training ended.
    pub epoch: u64,
    /// Spent in the steps of this run up to here.
    pub seconds: f64,
    /// None where the network's images are no longer finite.
    pub measured: Option<Measured>,
}

/// A point of a loss curve: the mean over the steps since the point before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    pub step: u64,
    /// Not finite where the run diverged.
    #[serde(with = "crate::json_float")]
    pub loss: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_loss: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_loss: Option<f64>,
}

/// One run of the study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub part: Part,
    /// "G", "oracle", or what the experiment calls the method: runs of several seeds and fractions share it.
    pub label: String,
    /// What people read: "Noisy labels with fine-tuning".
    pub title: String,
    /// The method's name; none for training.
    pub method: Option<String>,
    /// Of the retain set that was used.
    pub fraction: Option<f64>,
    /// Whether it belongs to the tables that compare methods, and not only to the one that compares fractions.
    pub compared: bool,
    pub seed: u64,
    /// Directory of the run, relative to the experiment's.
    pub directory: PathBuf,
    pub steps: u64,
    /// Spent in steps.
    pub seconds: f64,
    /// After each epoch where that was measured, else after the last alone.
    pub epochs: Vec<Epoch>,
    /// Epochs after which a training's network was the best on the validation sets, where that was chosen and not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_epoch: Option<u64>,
    pub loss: Vec<LossPoint>,
    pub warnings: Vec<String>,
    /// Who computed it, or its last part; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Provenance>,
    /// CPU threads that it had; 0 where that is not known.
    #[serde(default)]
    pub threads: usize,
}

impl RunResult {
    /// What it was computed with, as far as its times depend on it; none where that is not known.
    pub fn machine(&self) -> Option<String> {
        let by = self.by.as_ref()?;
        // GPUs of one name are alike, whichever number they have.
        let (kind, _) = by.device.split_once(':').unwrap_or((&by.device, ""));
        Some(format!("{}, {kind}, {} threads", by.machine, self.threads))
    }

    /// The program that computed it: others may round otherwise.
    pub fn build(&self) -> Option<String> {
        let by = self.by.as_ref()?;
        Some(format!("kerase {}, commit {}", by.kerase, by.commit.as_deref().unwrap_or("not known")))
    }

    /// The network that the run left.
    pub fn last(&self) -> Option<&Measured> {
        self.epochs.last().and_then(|epoch| epoch.measured.as_ref())
    }
}

/// Magnitude images of one slice, `[height, width]` each, as files of little-endian f32 beside the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    pub measure: Measure,
    pub volume: String,
    pub slice: usize,
    /// Label of the method whose worst retain slice this is; none for a slice from the middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_of: Option<String>,
    pub size: [usize; 2],
    /// The volume's `max`.
    pub max: f64,
    /// Relative to the experiment's directory.
    pub target: PathBuf,
    /// Label of a run, and its image.
    pub images: Vec<(String, PathBuf)>,
}

/// What the audit of a compared run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditResult {
    /// Of the run.
    pub label: String,
    pub seed: u64,
    /// The whole record, relative to the experiment's directory.
    pub audit: PathBuf,
    pub membership: Each<Auc>,
    /// The unlearned network's AUC minus the oracle's.
    #[serde(default)]
    pub membership_against_oracle: Option<AucDifference>,
    pub relearning: Option<Relearning>,
    pub distances: Vec<PartDistance>,
    pub flags: Vec<Flag>,
    pub notes: Vec<String>,
}

/// All of it: `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub kerase: String,
    /// Commit that kerase was built from, where that is known.
    pub commit: Option<String>,
    pub name: String,
    pub title: String,
    #[serde(default)]
    pub kinds: Kinds,
    /// The experiment's file, as it was used.
    pub settings: String,
    pub device: String,
    pub machine: String,
    /// Of the first seed's networks: a middle slice of some volumes of each set, and the retain slice on which each
    /// method is worst.
    pub pictures: Vec<Picture>,
    pub runs: Vec<RunResult>,
    /// Empty where there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<AuditResult>,
}

impl Results {
    /// # Errors
    /// A file that is missing or not of this kind.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        serde_json::from_str(&text).map_err(|e| {
            Error::input(format!("{} does not hold an experiment's results: {e}", path.display()))
        })
    }

    pub fn of_part(&self, part: Part) -> impl Iterator<Item = &RunResult> {
        self.runs.iter().filter(move |run| run.part == part)
    }

    /// The oracle of a seed.
    pub fn oracle(&self, seed: u64) -> Option<&RunResult> {
        self.of_part(Part::Oracle).find(|run| run.seed == seed)
    }
}
