//! From the networks of a run to the record of its audit.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::audit::distance::distances;
use crate::audit::evidence::{
    Audit, Each, FORMAT, NetworkScores, Relearning, Request, RunPart, SetEvidence, WeightsFile,
};
use crate::audit::interval::CONFIDENCE;
use crate::audit::observe::{Network, Observed};
use crate::audit::record::digest;
use crate::audit::relearn::measured_slices;
use crate::audit::settings::{AuditSet, Role, Sets, Settings};
use crate::audit::subject::Subject;
use crate::audit::training::Training;
use crate::backend::Backend;
use crate::data::digest::VolumeDigest;
use crate::data::overlap::volumes_of_same_patients;
use crate::error::{Error, Result};
use crate::model::{VarNet, Weights};
use crate::paths::absolute;
use crate::provenance::Provenance;
use crate::run::check::measurable;
use crate::sha256;
use crate::unlearn::record::NOTE;

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
    let net = VarNet::new(subject.before.architecture)?;
    sets.sets.iter().try_for_each(|of| measurable(&of.set, &net))?;
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
            sha256: sha256::of_parameters(&weights.parameters),
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
