//! Which networks of a seed are looked at, and which runs are audited: the original and the oracle once, then each compared run.

use std::path::Path;

use serde_json::{Value, json};

use crate::audit::AuditSettings;
use crate::audit::evidence::FORMAT;
use crate::audit::relearn::{MEASURED_SLICES, checks};
use crate::audit::settings::RELEARN_LR;
use crate::experiment::node::{Amount, AuditParts, Look, Node, Task};
use crate::experiment::results::Part;
use crate::experiment::settings::Settings;
use crate::experiment::study_sets::SetPaths;
use crate::precision::Precision;
use crate::unlearn::config::NamedSet;

/// One seed's networks, as indices into the nodes: the trainings and the runs to be audited.
pub(super) struct Audited {
    pub seed: u64,
    pub original: usize,
    pub oracle: usize,
    pub runs: Vec<usize>,
}

/// Plans the audits of a seed. `identities` tells the sets from others; `slices` are those of the forget set, and of all
/// sets that are looked at.
pub(super) fn plan_audits(
    nodes: &mut Vec<Node>,
    settings: &Settings,
    out: &Path,
    sets: &SetPaths,
    identities: &Value,
    slices: [usize; 2],
    audited: &Audited,
) {
    let Audited { seed, original, oracle, ref runs } = *audited;
    // The device's precision is part of what the trainings' keys say.
    let o = settings.training_optimisation(seed, Precision::default());
    let looks = AuditSettings {
        forget: vec![sets.forget.clone()],
        unseen: vec![sets.forget_test.clone()],
        tests: vec![NamedSet { name: "retain_test".into(), path: sets.retain_test.clone() }],
        sampling: settings.sampling.clone(),
        loss: o.loss,
        clip: o.clip,
        low_memory: o.low_memory,
        relearn_steps: settings.audit.relearn_steps,
        relearn_lr: RELEARN_LR,
        seed,
    };
    let folder = out.join("audits");
    let most = settings.audit.relearn_steps;
    let checks = if most == 0 { 0 } else { checks(most).len() };
    let relearning = (checks * slices[0].min(MEASURED_SLICES)) as u64;
    let mut observe = |part: Part, training: usize, original: Option<usize>| {
        let name = if part == Part::Oracle { "oracle" } else { "original" };
        let steps = original.map_or(0, |_| most);
        let images = slices[1] as u64 + original.map_or(0, |_| relearning);
        let what = json!({
            "training": nodes[training].key(), "sets": identities, "format": FORMAT, "relearn_steps": most,
            "relearn_lr": looks.relearn_lr, "goal": original.map(|original| nodes[original].key()),
        });
        let needs = [nodes[training].needs.clone(), vec![training], original.into_iter().collect()].concat();
        nodes.push(Node::new(
            &folder,
            format!("{name}, seed {seed}, looked at"),
            &format!("{name}-seed{seed}"),
            ("observe", what),
            Task::Observe(Look { settings: Box::new(looks.clone()), training, original }),
            needs,
            Amount { steps, gradients: steps, images },
        ));
        nodes.len() - 1
    };
    let oracle_training = oracle;
    let original = observe(Part::Original, original, None);
    let oracle = observe(Part::Oracle, oracle, Some(original));
    for &run in runs {
        let keys = [run, original, oracle].map(|index| nodes[index].key());
        let name = format!("{}, audited", nodes[run].name);
        let slug = nodes[run].directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let needs = [nodes[run].needs.clone(), vec![run, original, oracle]].concat();
        let record = nodes[run].directory.join("audit.json");
        let node = Node::new(
            &folder,
            name,
            &slug,
            ("audit", json!(keys)),
            Task::Audit(AuditParts {
                unlearning: run,
                original,
                oracle,
                oracle_training,
                settings: Box::new(looks.clone()),
                record,
            }),
            needs,
            Amount { steps: most, gradients: most, images: slices[1] as u64 + relearning },
        );
        nodes.push(node);
    }
}
