//! From the networks of a run to the record of its audit.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::audit::distance::distances;
use crate::audit::evidence::{
    Audit, Each, FORMAT, NetworkScores, Relearning, Request, RunPart, SetEvidence, WeightsFile,
};
use crate::audit::interval::CONFIDENCE;
use crate::audit::network::Network;
use crate::audit::observe::Observed;
use crate::audit::opened::Opened;
use crate::audit::record::digest;
use crate::audit::relearn::measured_slices;
use crate::audit::settings::{AuditSet, AuditSets, AuditSettings, SetRole};
use crate::audit::subject::Subject;
use crate::backend::Backend;
use crate::data::digest::VolumeDigest;
use crate::data::overlap::volumes_of_same_patients;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::paths::absolute;
use crate::provenance::Provenance;
use crate::sha256;
use crate::unlearn::record::NOTE;
use crate::unlearn::trained_on::TrainedOn;

/// A network that has been looked at, and where its weights lie.
pub struct Seen {
    pub path: PathBuf,
    pub weights: Weights,
    pub observed: Observed,
}

/// Everything that a record is made of.
pub struct Findings {
    pub subject: Subject,
    pub sets: AuditSets,
    /// Of each set.
    pub files: Vec<Vec<VolumeDigest>>,
    pub settings: AuditSettings,
    /// Of the original, the unlearned network and the oracle.
    pub trained_on: Each<TrainedOn>,
    pub before: Observed,
    /// None of a run that diverged.
    pub after: Option<Observed>,
    pub oracle: Option<Seen>,
    pub request: Request,
    pub provenance: Provenance,
}

/// Looks at the networks of a run and puts together what was found. None where `stop` was raised meanwhile.
///
/// # Errors
/// What data or device refuse, and a forget set that is not what was forgotten.
pub fn audit<B: Backend>(ops: &B, opened: Opened, stop: &AtomicBool) -> Result<Option<Audit>> {
    let Opened { subject, settings, sets, oracle, trained_on, request, provenance } = opened;
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
        Findings { subject, sets, files, settings, trained_on, before, after, oracle, request, provenance };
    findings.record().map(Some)
}

impl Findings {
    /// Puts the record together.
    ///
    /// # Errors
    /// Where the run's settings cannot be read any more.
    pub fn record(self) -> Result<Audit> {
        let Self { subject, sets, files, settings, trained_on, before, after, oracle, request, provenance } =
            self;
        let config = std::fs::read_to_string(subject.directory.join("config.toml"))
            .map_err(|e| Error::io("read", subject.directory.join("config.toml"), e))?;
        let weights = |path: &Path, weights: &Weights, training: &Option<TrainedOn>| WeightsFile {
            path: absolute(path),
            sha256: sha256::of_parameters(&weights.parameters),
            training: training.clone().unwrap_or_default(),
        };
        let model = subject.directory.join("model.safetensors");
        let Each { before: of_before, after: of_after, oracle: of_oracle } = &trained_on;
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
            half: None,
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
            membership_of_original: None,
            relearning,
            distances,
            flags: Vec::new(),
            not_judged: Vec::new(),
            notes: Vec::new(),
            note: NOTE.into(),
            sha256: String::new(),
        };
        let mut audit = audit.concluded();
        audit.sha256 = digest(&audit.to_json()?);
        Ok(audit)
    }
}

fn set_evidence(
    sets: &AuditSets,
    files: Vec<Vec<VolumeDigest>>,
    networks: Each<&Observed>,
) -> Vec<SetEvidence> {
    let of_set = |(index, (AuditSet { name, role, set }, files)): (usize, (&AuditSet, _))| SetEvidence {
        set: name.clone(),
        role: *role,
        paths: set.sources().iter().map(|path| absolute(path)).collect(),
        volumes: set.volumes().len(),
        slices: set.slice_count(),
        of_forgotten_patients: match role {
            SetRole::Forget => 0,
            SetRole::Unseen | SetRole::Test => volumes_of_same_patients(sets.forget(), set),
        },
        files,
        scores: networks.as_ref().and_then(|network| NetworkScores::of(network.sets[index].clone()?)),
        change: None,
        against_oracle: None,
        oracle_against_original: None,
    };
    sets.sets.iter().zip(files).enumerate().map(of_set).collect()
}
