//! One network looked at from outside: its scores and losses on every slice of every set, and how soon it relearns the
//! forget set.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::audit::network::{Network, VolumeObserved, on_set};
use crate::audit::relearn::{self, Relearned};
use crate::audit::settings::{AuditSets, AuditSettings};
use crate::backend::Backend;
use crate::engine::Engine;
use crate::error::Result;
use crate::model::Weights;
use crate::progress::Progress;
use crate::sha256;

/// One network on all sets, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub weights_sha256: String,
    /// None for a set on which images are not finite.
    pub sets: Vec<Option<Vec<VolumeObserved>>>,
    /// None where it was not asked for, or cannot be: where a loss is not finite.
    pub relearned: Option<Relearned>,
}

impl Observed {
    /// Looks at a network; none where `stop` was raised meanwhile.
    ///
    /// # Errors
    /// What data or device refuse. Images or losses that are not finite are a finding, not an error.
    pub fn of<B: Backend>(
        ops: &B,
        network: &Network<'_>,
        sets: &AuditSets,
        settings: &AuditSettings,
        stop: &AtomicBool,
    ) -> Result<Option<Self>> {
        let Network { name, weights: Weights { architecture, parameters, .. }, goal } = *network;
        let loss = settings.loss.weights();
        let mut observed = Vec::new();
        {
            let mut engine = Engine::new(ops, *architecture, parameters)?;
            let mut progress = Progress::new(sets.slice_count() as u64, &format!("{name}: measuring"));
            for set in &sets.sets {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let found = on_set(&mut engine, &set.set, &sets.sampler, loss, || progress.step(""))?;
                observed.push(found);
            }
            progress.finish();
        }
        let first = observed[0].as_deref().and_then(|volumes| relearn::begin(sets.forget(), volumes));
        let relearned = match (first, goal) {
            (Some(first), Some(goal)) if settings.relearn_steps > 0 => {
                relearn::relearn(ops, network, goal, first, sets, settings, stop)?
            }
            (Some(first), None) if settings.relearn_steps > 0 => Some(Relearned::at_once(first)),
            _ => None,
        };
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        Ok(Some(Self { weights_sha256: sha256::of_parameters(parameters), sets: observed, relearned }))
    }

    /// The loss on the forget set with which relearning begins.
    pub fn goal(&self) -> Option<f64> {
        self.relearned.as_ref().map(|relearned| relearned.curve[0].loss)
    }
}
