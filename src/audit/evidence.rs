//! What the record of an audit says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::audit::distance::PartDistance;
use crate::audit::interval::Estimate;
use crate::audit::membership::{Auc, AucDifference};
use crate::audit::network::VolumeObserved;
use crate::audit::relearn::Relearned;
use crate::audit::settings::{AuditSettings, SetRole};
use crate::data::digest::VolumeDigest;
use crate::provenance::Provenance;
use crate::unlearn::trained_on::TrainedOn;

/// Grows when a record means something else than before.
pub const FORMAT: u32 = 5;

/// Why there was something to forget, as whoever asked for it says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub id: Option<String>,
    pub reason: Option<String>,
}

/// The unlearning run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPart {
    pub directory: PathBuf,
    pub method: String,
    pub title: String,
    pub objective: String,
    pub steps: u64,
    pub epochs: u64,
    /// Spent in steps.
    pub seconds: f64,
    /// Who computed it, or its last part; none where it did not say.
    pub by: Option<Provenance>,
    /// What the run itself found odd.
    pub warnings: Vec<String>,
    /// Its config.toml, as it stands there.
    pub settings: String,
    pub config_sha256: String,
    /// None where the run diverged, and left no unlearning.json.
    pub unlearning_sha256: Option<String>,
}

/// A file of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsFile {
    pub path: PathBuf,
    /// Of the parameters as numbers, whatever else the file says.
    pub sha256: String,
    pub training: TrainedOn,
}

/// Something of each network; none of one that diverged or is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Each<T> {
    pub before: Option<T>,
    pub after: Option<T>,
    pub oracle: Option<T>,
}

impl<T> Each<T> {
    pub fn as_ref(&self) -> Each<&T> {
        Each { before: self.before.as_ref(), after: self.after.as_ref(), oracle: self.oracle.as_ref() }
    }

    pub fn and_then<U>(self, f: impl Fn(T) -> Option<U>) -> Each<U> {
        Each {
            before: self.before.and_then(&f),
            after: self.after.and_then(&f),
            oracle: self.oracle.and_then(&f),
        }
    }

    pub fn zip<U>(self, other: Each<U>) -> Each<(T, U)> {
        Each {
            before: self.before.zip(other.before),
            after: self.after.zip(other.after),
            oracle: self.oracle.zip(other.oracle),
        }
    }

    /// With what people call the networks.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &T)> {
        [("original", &self.before), ("unlearned", &self.after), ("oracle", &self.oracle)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }
}

/// How one network does on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkScores {
    pub psnr: Estimate,
    pub ssim: Estimate,
    pub nmse: Estimate,
    /// Of each volume's mean over its slices.
    pub loss: Estimate,
    pub volumes: Vec<VolumeObserved>,
}

/// One set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetEvidence {
    pub set: String,
    pub role: SetRole,
    pub paths: Vec<PathBuf>,
    pub volumes: usize,
    pub slices: usize,
    /// Volumes of patients whom the forget set has volumes of, as files name them; of another set.
    pub of_forgotten_patients: usize,
    pub files: Vec<VolumeDigest>,
    pub scores: Each<NetworkScores>,
    /// The unlearned network less the original, volume by volume.
    pub change: Option<Difference>,
    /// Less the oracle.
    pub against_oracle: Option<Difference>,
    /// The oracle less the original.
    pub oracle_against_original: Option<Difference>,
}

/// Of one network's scores from another's on the same volumes: means over volumes of the differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    pub psnr: Estimate,
    pub ssim: Estimate,
}

/// How the networks relearn the forget set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relearning {
    /// The original's mean loss.
    pub goal: f64,
    /// More were not tried.
    pub most_steps: u64,
    pub lr: f64,
    /// The loss is a mean over so many slices of the forget set.
    pub measured_slices: usize,
    pub networks: Each<Relearned>,
    /// Half-way from the oracle's first loss to the goal; none without an oracle that has something to relearn.
    #[serde(default)]
    pub half: Option<HalfWay>,
}

/// A loss, and at the first of which steps each network was found to have it; none where it was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HalfWay {
    pub loss: f64,
    pub steps: Each<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The run's loss, or the network's images, are not finite.
    Diverged,
    /// Worse than the oracle on the forget set or on unseen volumes like it.
    OverForgetting,
    /// Better than the oracle there.
    UnderForgetting,
    /// Worse than the original on another test set, and than the oracle where there is one.
    RetainDamaged,
    /// The forget set is reconstructed as before.
    NothingForgotten,
    /// Losses still tell the forget set from unseen volumes, by being smaller; where there is an oracle, smaller than it
    /// has them.
    StillRecognised,
    /// Likewise, by being larger.
    StandsOut,
    /// The loss on the forget set is back, or half-way back, much sooner than from the oracle.
    RelearnsFast,
}

impl Kind {
    /// What people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diverged => "diverged",
            Self::OverForgetting => "over-forgetting",
            Self::UnderForgetting => "under-forgetting",
            Self::RetainDamaged => "retained quality damaged",
            Self::NothingForgotten => "nothing forgotten",
            Self::StillRecognised => "still recognised",
            Self::StandsOut => "stands out",
            Self::RelearnsFast => "relearns fast",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    pub kind: Kind,
    pub text: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    pub format: u32,
    /// Who measured, and on what.
    pub provenance: Provenance,
    pub request: Request,
    pub run: RunPart,
    pub weights: Each<WeightsFile>,
    /// How many a network has.
    pub parameters: usize,
    pub settings: AuditSettings,
    /// Of every interval.
    pub confidence: f64,
    /// The forget set first, then the unseen one.
    pub sets: Vec<SetEvidence>,
    pub membership: Each<Auc>,
    /// The unlearned network's AUC minus the oracle's.
    pub membership_against_oracle: Option<AucDifference>,
    /// The original's minus the oracle's: whether losses tell what a network was trained on at all.
    pub membership_of_original: Option<AucDifference>,
    pub relearning: Option<Relearning>,
    pub distances: Vec<PartDistance>,
    /// What stands out.
    pub flags: Vec<Flag>,
    /// Flags that could not have been raised, for want of an oracle, of relearning, or of a second volume.
    pub not_judged: Vec<Kind>,
    /// What cannot be said, and why.
    pub notes: Vec<String>,
    pub note: String,
    /// Of this record without this line, see [`digest`](super::record::digest).
    pub sha256: String,
}

impl Audit {
    /// The set that was forgotten.
    pub fn forget(&self) -> &SetEvidence {
        &self.sets[0]
    }

    pub fn set(&self, role: SetRole) -> Option<&SetEvidence> {
        self.sets.iter().find(|set| set.role == role)
    }
}
