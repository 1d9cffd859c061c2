//! What an audit is about to look at, opened and checked.

use std::path::{Path, PathBuf};

use crate::audit::evidence::{Each, Request};
use crate::audit::settings::{AuditSet, AuditSets, AuditSettings};
use crate::audit::subject::Subject;
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::model::{VarNet, Weights};
use crate::provenance::Provenance;
use crate::run::usable::{learnable, measurable};
use crate::unlearn::trained_on::TrainedOn;

pub struct Opened {
    pub subject: Subject,
    pub settings: AuditSettings,
    pub sets: AuditSets,
    pub oracle: Option<(PathBuf, Weights)>,
    pub trained_on: Each<TrainedOn>,
    pub request: Request,
    pub provenance: Provenance,
}

impl Opened {
    /// # Errors
    /// Sets or weights that cannot be read or used; unseen volumes that a network was trained on.
    pub fn new(
        subject: Subject,
        settings: AuditSettings,
        oracle: Option<PathBuf>,
        request: Request,
        provenance: Provenance,
    ) -> Result<Self> {
        let oracle = match oracle {
            Some(path) => Some((path.clone(), read_oracle(&path, &subject)?)),
            None => None,
        };
        let sets = settings.open()?;
        let net = VarNet::new(subject.before.architecture)?;
        sets.sets.iter().try_for_each(|of| measurable(&of.set, &net))?;
        learnable(sets.forget(), &net, settings.loss.weights())?;
        sets.check_unseen(&VolumeSet::open_all(&subject.config.retain)?)?;
        let named: Vec<(&str, &VolumeSet)> =
            sets.sets.iter().map(|AuditSet { name, set, .. }| (name.as_str(), &**set)).collect();
        let before = TrainedOn::of(&subject.config.model)?.compare("the original", &named[1..])?;
        let of_oracle = |path: &Path| TrainedOn::of(path)?.compare("the oracle", &named);
        let after = TrainedOn::of(&subject.directory.join("model.safetensors"))?;
        let trained_on = Each {
            // Its run's own sets were compared above.
            after: Some(TrainedOn { compared: before.compared, ..after }),
            before: Some(before),
            oracle: oracle.as_ref().map(|(path, _)| of_oracle(path)).transpose()?,
        };
        Ok(Self { subject, settings, sets, oracle, trained_on, request, provenance })
    }
}

/// An oracle's weights, read and of the run's architecture.
///
/// # Errors
/// Weights that cannot be read, or are of another network.
fn read_oracle(path: &Path, subject: &Subject) -> Result<Weights> {
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
