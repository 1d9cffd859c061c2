//! The record of an audit: `audit.json`.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::atomic;
use crate::audit::distance::{PartDistance, distances};
use crate::audit::flags::{self, Flag};
use crate::audit::interval::{CONFIDENCE, Estimate};
use crate::audit::membership::{Auc, AucDifference};
use crate::audit::observe::{Network, Observed, VolumeObserved};
use crate::audit::relearn::{Relearned, measured_slices};
use crate::audit::settings::{AuditSet, Role, Sets, Settings};
use crate::audit::subject::Subject;
use crate::audit::training::Training;
use crate::backend::Backend;
use crate::config::absolute;
use crate::data::digest::{VolumeDigest, parameters_sha256};
use crate::data::overlap::volumes_of_same_patients;
use crate::error::{Error, Result};
use crate::metrics::Scores;
use crate::model::Weights;
use crate::provenance::Provenance;
use crate::unlearn::record::NOTE;

/// Grows when a record means something else than before.
pub const FORMAT: u32 = 3;

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
    pub training: Training,
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

impl NetworkScores {
    fn of(volumes: Vec<VolumeObserved>) -> Option<Self> {
        let over = |number: fn(&Scores) -> f64| {
            Estimate::of(&volumes.iter().map(|v| number(&v.scores)).collect::<Vec<_>>())
        };
        let mean = |v: &VolumeObserved| v.losses.iter().sum::<f64>() / v.losses.len() as f64;
        Some(Self {
            psnr: over(|scores| scores.psnr)?,
            ssim: over(|scores| scores.ssim)?,
            nmse: over(|scores| scores.nmse)?,
            loss: Estimate::of(&volumes.iter().map(mean).collect::<Vec<_>>())?,
            volumes,
        })
    }

    /// By how many dB this network's PSNR is above another's, over the volumes that both saw.
    fn psnr_above(&self, other: &Self) -> Option<Estimate> {
        let pairs = self.volumes.iter().zip(&other.volumes);
        Estimate::of(&pairs.map(|(a, b)| a.scores.psnr - b.scores.psnr).collect::<Vec<_>>())
    }
}

/// One set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetEvidence {
    pub set: String,
    pub role: Role,
    pub path: PathBuf,
    pub volumes: usize,
    pub slices: usize,
    /// Volumes of patients whom the forget set has volumes of, as files name them; of another set.
    pub of_forgotten_patients: usize,
    pub files: Vec<VolumeDigest>,
    pub scores: Each<NetworkScores>,
    /// PSNR of the unlearned network minus the original's, volume by volume.
    pub change_psnr: Option<Estimate>,
    /// Minus the oracle's.
    pub against_oracle_psnr: Option<Estimate>,
}

impl SetEvidence {
    /// Of each network: those of each volume's slices.
    fn losses(&self) -> Each<Vec<Vec<f64>>> {
        let of = |scores: &NetworkScores| scores.volumes.iter().map(|volume| volume.losses.clone()).collect();
        self.scores.as_ref().and_then(|scores| Some(of(scores)))
    }
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
    pub settings: Settings,
    /// Of every interval.
    pub confidence: f64,
    /// The forget set first, then the unseen one.
    pub sets: Vec<SetEvidence>,
    pub membership: Each<Auc>,
    /// The unlearned network's AUC minus the oracle's.
    pub membership_against_oracle: Option<AucDifference>,
    pub relearning: Option<Relearning>,
    pub distances: Vec<PartDistance>,
    /// What stands out.
    pub flags: Vec<Flag>,
    /// What cannot be said, and why.
    pub notes: Vec<String>,
    pub note: String,
    /// Of this record without this line, see [`digest`].
    pub sha256: String,
}

/// A network that has been looked at, and where its weights lie.
pub struct Seen {
    pub path: PathBuf,
    pub weights: Weights,
    pub observed: Observed,
}

/// Everything that a record is made of.
pub struct Findings {
    pub subject: Subject,
    pub sets: Sets,
    /// Of each set.
    pub files: Vec<Vec<VolumeDigest>>,
    pub settings: Settings,
    /// Of the original, the unlearned network and the oracle.
    pub trainings: Each<Training>,
    pub before: Observed,
    /// None of a run that diverged.
    pub after: Option<Observed>,
    pub oracle: Option<Seen>,
    pub request: Request,
    pub provenance: Provenance,
}

/// An oracle's weights, read and of the run's architecture.
///
/// # Errors
/// Weights that cannot be read, or are of another network.
pub fn read_oracle(path: &Path, subject: &Subject) -> Result<Weights> {
    let weights = Weights::read(path)?;
    let same = |other: &Weights| weights.parameters == other.parameters;
    let own = [("original", Some(&subject.before)), ("unlearned", subject.after.as_ref())];
    if let Some((name, _)) = own.iter().find(|(_, other)| other.is_some_and(same)) {
        return Err(Error::input(format!(
            "{} holds the weights of the {name} network: an oracle was trained without the forget set",
            path.display()
        )));
    }
    if weights.architecture == subject.before.architecture {
        return Ok(weights);
    }
    Err(Error::input(format!(
        "{} is a network of {}, the run's has {}: an oracle is the same network, trained without the forget set",
        path.display(),
        weights.architecture,
        subject.before.architecture
    )))
}

/// Looks at the networks of a run and puts together what was found. None where `stop` was raised meanwhile.
///
/// # Errors
/// What data or device refuse, and a forget set that is not what was forgotten.
pub fn audit<B: Backend>(
    ops: &B,
    subject: Subject,
    settings: Settings,
    oracle: Option<(PathBuf, Weights)>,
    trainings: Each<Training>,
    (request, provenance): (Request, Provenance),
    stop: &AtomicBool,
) -> Result<Option<Audit>> {
    let sets = settings.open()?;
    let files = sets.digests()?;
    subject.check_forgotten(sets.forget(), &files[0])?;
    let look = |name: &str, weights: &Weights, goal: Option<f64>| {
        Observed::of(ops, &Network { name, weights, goal }, &sets, &settings, stop)
    };
    let Some(before) = look("original", &subject.before, None)? else { return Ok(None) };
    let goal = before.goal();
    let after = match &subject.after {
        Some(weights) => match look("unlearned", weights, goal)? {
            None => return Ok(None),
            seen => seen,
        },
        None => None,
    };
    let oracle = match oracle {
        Some((path, weights)) => match look("oracle", &weights, goal)? {
            None => return Ok(None),
            Some(observed) => Some(Seen { path, weights, observed }),
        },
        None => None,
    };
    let findings =
        Findings { subject, sets, files, settings, trainings, before, after, oracle, request, provenance };
    findings.record().map(Some)
}

impl Findings {
    /// Puts the record together.
    ///
    /// # Errors
    /// Where the run's settings cannot be read any more.
    pub fn record(self) -> Result<Audit> {
        let Self { subject, sets, files, settings, trainings, before, after, oracle, request, provenance } =
            self;
        let config = std::fs::read_to_string(subject.directory.join("config.toml"))
            .map_err(|e| Error::io("read", subject.directory.join("config.toml"), e))?;
        let weights = |path: &Path, weights: &Weights, training: &Option<Training>| WeightsFile {
            path: absolute(path),
            sha256: parameters_sha256(&weights.parameters),
            training: training.clone().unwrap_or_default(),
        };
        let model = subject.directory.join("model.safetensors");
        let Each { before: of_before, after: of_after, oracle: of_oracle } = &trainings;
        let weights = Each {
            before: Some(weights(&subject.config.model, &subject.before, of_before)),
            after: subject.after.as_ref().map(|after| weights(&model, after, of_after)),
            oracle: oracle.as_ref().map(|oracle| weights(&oracle.path, &oracle.weights, of_oracle)),
        };
        let distances = distances(
            subject.before.architecture,
            &subject.before.parameters,
            subject.after.as_ref().map(|after| after.parameters.as_slice()),
            oracle.as_ref().map(|oracle| oracle.weights.parameters.as_slice()),
        );
        let parameters = subject.before.parameters.len();
        let networks = Each { before: Some(before), after, oracle: oracle.map(|oracle| oracle.observed) };
        let evidence = set_evidence(&sets, files, networks.as_ref());
        let goal = networks.before.as_ref().and_then(Observed::goal);
        let relearning = goal.map(|goal| Relearning {
            goal,
            most_steps: settings.relearn_steps,
            lr: settings.relearn_lr,
            measured_slices: measured_slices(sets.forget()),
            networks: networks.as_ref().and_then(|network| network.relearned.clone()),
        });
        let said = subject.said.as_ref();
        let audit = Audit {
            format: FORMAT,
            provenance,
            request,
            run: RunPart {
                method: subject.config.method.clone(),
                title: said.map_or_else(String::new, |said| said.title.clone()),
                objective: said.map_or_else(String::new, |said| said.objective.clone()),
                steps: said.map_or(0, |said| said.steps),
                epochs: said.map_or(0, |said| said.epochs),
                seconds: said.map_or(0.0, |said| said.seconds),
                by: said.and_then(|said| said.by.clone()),
                warnings: said.map_or_else(Vec::new, |said| said.warnings.clone()),
                settings: config,
                config_sha256: subject.config_sha256,
                unlearning_sha256: subject.unlearning_sha256,
                directory: subject.directory,
            },
            weights,
            parameters,
            settings,
            confidence: CONFIDENCE,
            sets: evidence,
            membership: Each { before: None, after: None, oracle: None },
            membership_against_oracle: None,
            relearning,
            distances,
            flags: Vec::new(),
            notes: Vec::new(),
            note: NOTE.into(),
            sha256: String::new(),
        };
        let mut audit = audit.concluded();
        audit.sha256 = digest(&audit.to_json()?);
        Ok(audit)
    }
}

fn set_evidence(sets: &Sets, files: Vec<Vec<VolumeDigest>>, networks: Each<&Observed>) -> Vec<SetEvidence> {
    let of_set = |(index, (AuditSet { name, role, set }, files)): (usize, (&AuditSet, _))| SetEvidence {
        set: name.clone(),
        role: *role,
        path: absolute(set.source()),
        volumes: set.volumes().len(),
        slices: set.slice_count(),
        of_forgotten_patients: match role {
            Role::Forget => 0,
            Role::Unseen | Role::Test => volumes_of_same_patients(sets.forget(), set),
        },
        files,
        scores: networks.as_ref().and_then(|network| NetworkScores::of(network.sets[index].clone()?)),
        change_psnr: None,
        against_oracle_psnr: None,
    };
    sets.sets.iter().zip(files).enumerate().map(of_set).collect()
}

impl Audit {
    /// With all that follows from what was measured worked out: means and intervals, differences, AUCs, flags and notes.
    pub fn concluded(mut self) -> Self {
        for set in &mut self.sets {
            set.scores = set.scores.as_ref().and_then(|scores| NetworkScores::of(scores.volumes.clone()));
            let Each { before, after, oracle } = &set.scores;
            let above = |other: &Option<NetworkScores>| after.as_ref()?.psnr_above(other.as_ref()?);
            (set.change_psnr, set.against_oracle_psnr) = (above(before), above(oracle));
        }
        let losses = self.sets[0].losses().zip(self.sets[1].losses());
        self.membership = losses.as_ref().and_then(|(forget, unseen)| Auc::of(forget, unseen));
        let Each { after, oracle, .. } = losses;
        self.membership_against_oracle = after
            .zip(oracle)
            .and_then(|(after, oracle)| AucDifference::of([&after.0, &after.1], [&oracle.0, &oracle.1]));
        (self.flags, self.notes) = (flags::flags(&self), flags::notes(&self));
        self
    }

    /// The set that was forgotten.
    pub fn forget(&self) -> &SetEvidence {
        &self.sets[0]
    }

    pub(super) fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self)
            .map_err(|e| Error::input(format!("this audit cannot be written down: {e}")))
    }

    /// Writes `audit.json`, whole or not at all.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::input(format!("{}: {e}", path.display())))?;
        atomic::write_bytes(path, (text + "\n").as_bytes())
    }

    /// # Errors
    /// A file that is missing, or no record of this version's.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::read_with_digest(path)?.0)
    }

    /// The record, and the digest that it should have by what it says.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with_digest(path: &Path) -> Result<(Self, String)> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let refused = |e: serde_json::Error| {
            Error::input(format!("{} is no audit record that this version can read: {e}", path.display()))
        };
        let value: Value = serde_json::from_str(&text).map_err(refused)?;
        let format = value.get("format").and_then(Value::as_u64);
        if let Some(other) = format.filter(|&format| format != u64::from(FORMAT)) {
            return Err(Error::input(format!(
                "{} is an audit record of format {other}; this version reads format {FORMAT}",
                path.display()
            )));
        }
        let digest = digest(&value);
        let audit: Self = serde_json::from_value(value).map_err(refused)?;
        let roles: Vec<Role> = audit.sets.iter().take(2).map(|set| set.role).collect();
        if roles != [Role::Forget, Role::Unseen] {
            return Err(Error::input(format!(
                "{} is no audit record that this version can read: its sets begin with {roles:?}, not with the forget \
                 set and the unseen one",
                path.display()
            )));
        }
        Ok((audit, digest))
    }

    pub fn set(&self, role: Role) -> Option<&SetEvidence> {
        self.sets.iter().find(|set| set.role == role)
    }
}

/// SHA-256 of a record without its own digest: of the JSON with keys in alphabetical order and nothing between them.
pub fn digest(record: &Value) -> String {
    let mut content = record.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("sha256");
    }
    Sha256::digest(content.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}
