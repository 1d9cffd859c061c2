//! The sets of a study: where they are or will be, and whether a study can be made of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::backend::ImageShape;
use crate::data::digest::fingerprint;
use crate::data::overlap::check_disjoint;
use crate::data::set::VolumeSet;
use crate::error::Result;
use crate::evaluate::check_targets;
use crate::experiment::node::{Amount, Node, Task};
use crate::experiment::settings::{SetSource, Settings, Subjects};
use crate::model::VarNet;
use crate::run::usable::{learnable, measurable};

/// The sets, wherever they come from.
#[derive(Clone, Debug)]
pub struct SetPaths {
    pub retain: PathBuf,
    pub forget: PathBuf,
    pub retain_test: PathBuf,
    pub forget_test: PathBuf,
    /// None, the retain set's, or both.
    pub validation: Vec<PathBuf>,
}

/// A set as the study's plan needs it.
pub(super) struct KnownSet {
    pub path: PathBuf,
    /// What tells it from others.
    pub identity: Value,
    pub slices: usize,
    pub volumes: usize,
    /// Who makes it.
    pub node: Option<usize>,
}

/// The sets as the study's plan needs them.
pub(super) struct KnownSets {
    /// Retain, forget, and the two test sets.
    pub needed: [KnownSet; 4],
    /// None, the retain set's, or both.
    pub validation: Vec<KnownSet>,
}

impl KnownSets {
    pub fn all(&self) -> impl Iterator<Item = &KnownSet> {
        self.needed.iter().chain(&self.validation)
    }
}

impl SetPaths {
    pub(super) fn of(sets: &KnownSets) -> Self {
        let [retain, forget, retain_test, forget_test] = sets.needed.each_ref().map(|set| set.path.clone());
        let validation = sets.validation.iter().map(|set| set.path.clone()).collect();
        Self { retain, forget, retain_test, forget_test, validation }
    }

    /// Refuses sets that have volumes in common. All must be there.
    ///
    /// # Errors
    /// Naming the volumes.
    pub fn check_apart(&self) -> Result<()> {
        let Self { retain, forget, retain_test, forget_test, validation } = self;
        let needed: [(&str, &Path); 4] = [
            ("retain", retain),
            ("forget", forget),
            ("retain_test", retain_test),
            ("forget_test", forget_test),
        ];
        let validation = ["retain_validation", "forget_validation"]
            .into_iter()
            .zip(validation.iter().map(PathBuf::as_path));
        check_apart(&needed.into_iter().chain(validation).collect::<Vec<_>>())
    }
}

/// Retain, forget, test and validation sets. Those that are there already are opened and checked; of the others, nodes
/// are added that simulate them.
pub(super) fn known_sets(
    settings: &Settings,
    net: &VarNet,
    out: &Path,
    nodes: &mut Vec<Node>,
) -> Result<KnownSets> {
    let mut known = |(name, source): (&str, &SetSource)| match source {
        SetSource::Path(path) => there(settings, net, name, path),
        SetSource::Simulated(subjects) => simulated(settings, net, out, name, *subjects, nodes),
    };
    let [retain, forget, retain_test, forget_test] = settings.sets.needed().map(&mut known);
    let needed = [retain?, forget?, retain_test?, forget_test?];
    let validation = settings.sets.validation().into_iter().map(&mut known).collect::<Result<_>>()?;
    let sets = KnownSets { needed, validation };
    let named = settings.sets.all().into_iter().zip(sets.all()).filter(|(_, set)| set.node.is_none());
    check_apart(&named.map(|((name, _), set)| (name, set.path.as_path())).collect::<Vec<_>>())?;
    Ok(sets)
}

/// Whether networks are trained on a set of this name; otherwise they are measured on it alone.
fn is_learnt(name: &str) -> bool {
    ["retain", "forget"].contains(&name)
}

fn there(settings: &Settings, net: &VarNet, name: &str, path: &Path) -> Result<KnownSet> {
    let set = VolumeSet::open(path)?;
    check_targets(&set)?;
    measurable(&set, net)?;
    if is_learnt(name) {
        learnable(&set, net, settings.training.loss.weights())?;
    }
    let (slices, volumes) = (set.slice_count(), set.volumes().len());
    let identity = Value::String(fingerprint(&set));
    Ok(KnownSet { path: path.to_path_buf(), identity, slices, volumes, node: None })
}

fn simulated(
    settings: &Settings,
    net: &VarNet,
    out: &Path,
    name: &str,
    subjects: Subjects,
    nodes: &mut Vec<Node>,
) -> Result<KnownSet> {
    let config = settings.simulated(subjects.simulate)?;
    let [rows, columns] = config.matrix;
    net.check(ImageShape { n: 1, coils: config.coils, rows, columns })?;
    let volumes = (subjects.subjects[1] - subjects.subjects[0] + 1) as usize;
    let slices = volumes * config.slices;
    let node = Node::new(
        &out.join("data"),
        format!("simulated set {name}"),
        name,
        ("simulate", json!({ "simulate": config, "subjects": subjects.subjects })),
        Task::Simulate(subjects),
        Vec::new(),
        Amount::default(),
    );
    let (path, identity) = (node.directory.clone(), node.settings.clone());
    nodes.push(node);
    Ok(KnownSet { path, identity, slices, volumes, node: Some(nodes.len() - 1) })
}

fn check_apart(named: &[(&str, &Path)]) -> Result<()> {
    let opened: Vec<(&str, VolumeSet)> =
        named.iter().map(|&(name, path)| Ok((name, VolumeSet::open(path)?))).collect::<Result<_>>()?;
    for (i, (name, set)) in opened.iter().enumerate() {
        for (other, earlier) in &opened[..i] {
            check_disjoint(earlier, set, [other, name])?;
        }
    }
    Ok(())
}
