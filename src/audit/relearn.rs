//! How soon a network relearns what it was to forget: fine-tuned on the forget set, from where it is, until the loss there
//! is back at the original's.
//!
//! A network that is back much sooner than the oracle, which never saw the forget set, seems to have kept something of it,
//! whatever its scores say. Adam begins anew with a small rate; order and masks are fixed, the same for every network. The
//! loss is measured on a part of the forget set, at step numbers that lie ever further apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::audit::network::{Network, VolumeObserved, on_set};
use crate::audit::settings::{AuditSets, AuditSettings};
use crate::backend::{AdamStep, Backend};
use crate::data::loader::LoaderOptions;
use crate::data::order::epoch_order;
use crate::data::set::VolumeSet;
use crate::data::volume::SliceId;
use crate::engine::{Engine, Objective, Results};
use crate::error::Result;
use crate::progress::Progress;
use crate::run::feed::Feed;

/// The most slices of the forget set on which the loss is measured, spread evenly over it.
pub const MEASURED_SLICES: usize = 64;

/// Mean loss after so many steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    pub step: u64,
    pub loss: f64,
}

/// A relearning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relearned {
    /// At the first of which the loss was found back; none where it did not come back.
    pub steps: Option<u64>,
    /// From step 0 to where it was back or the steps ended.
    pub curve: Vec<CurvePoint>,
    /// Whether it ended because a loss was not finite.
    pub diverged: bool,
}

impl Relearned {
    /// The first step at which it was found to have a loss, or less.
    pub fn steps_to(&self, loss: f64) -> Option<u64> {
        self.curve.iter().find(|point| point.loss <= loss).map(|point| point.step)
    }

    /// Of a network that has the loss already.
    pub fn at_once(loss: f64) -> Self {
        Self { steps: Some(0), curve: vec![CurvePoint { step: 0, loss }], diverged: false }
    }
}

/// The steps after which the loss is measured: two in every doubling, and the last.
pub fn checks(most: u64) -> Vec<u64> {
    let doublings = (0..63).flat_map(|power| [1u64 << power, 3 << power]);
    let mut checks: Vec<u64> = doublings.take_while(|&step| step / 3 < most).collect();
    checks.push(most);
    checks.retain(|&step| 0 < step && step <= most);
    checks.sort_unstable();
    checks.dedup();
    checks
}

/// The slices of a set on which the loss is measured.
fn measured(set: &VolumeSet) -> Vec<SliceId> {
    let slices = set.slices();
    let count = slices.len().min(MEASURED_SLICES);
    (0..count).map(|i| slices[i * slices.len() / count]).collect()
}

/// How many those are.
pub fn measured_slices(set: &VolumeSet) -> usize {
    measured(set).len()
}

/// The mean loss on those slices, from the losses on all.
pub fn begin(set: &VolumeSet, volumes: &[VolumeObserved]) -> Option<f64> {
    let all: Vec<f64> = volumes.iter().flat_map(|volume| volume.losses.iter().copied()).collect();
    let slices = set.slices();
    let chosen = measured(set);
    let losses = slices.iter().zip(all).filter(|(slice, _)| chosen.contains(slice)).map(|(_, loss)| loss);
    let losses: Vec<f64> = losses.collect();
    (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
}

/// Fine-tunes a network on the forget set until its loss, which is `first` now, is down at `goal`; none where `stop` was
/// raised meanwhile.
///
/// # Errors
/// What data or device refuse.
pub fn relearn<B: Backend>(
    ops: &B,
    network: &Network<'_>,
    goal: f64,
    first: f64,
    sets: &AuditSets,
    settings: &AuditSettings,
    stop: &AtomicBool,
) -> Result<Option<Relearned>> {
    if first <= goal {
        return Ok(Some(Relearned::at_once(first)));
    }
    let most = settings.relearn_steps;
    let (set, loss) = (sets.forget(), settings.loss.weights());
    let chosen = Arc::new(set.only(&measured(set)));
    let weights = network.weights;
    let mut engine = Engine::for_training(ops, weights.architecture, &weights.parameters)?
        .recomputing(settings.low_memory);
    let epochs = (0..).flat_map(|epoch| epoch_order(set, settings.seed, epoch, true, 1));
    let order = epochs.take(most as usize).collect();
    let mut feed = Feed::start(set, &sets.sampler, 0, order, LoaderOptions::default());
    let mut progress = Progress::new(most, &format!("{}: relearning", network.name));
    let mut relearned = Relearned { steps: None, ..Relearned::at_once(first) };
    let checks = checks(most);
    for step in 1..=most {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        feed.arrive(&mut engine)?;
        engine.submit(loss, Objective::DESCENT)?;
        engine.submit_update(AdamStep::new(settings.relearn_lr, step, settings.clip));
        let check = checks.contains(&step);
        if !check {
            // Not where the engine is to reconstruct first: what was put would be lost.
            feed.put_next(&mut engine);
        }
        let Results { losses, grad_norm, .. } = engine.results()?;
        let mut finite = grad_norm.is_finite() && losses.iter().all(|value| value.loss.is_finite());
        if finite && check {
            let volumes = on_set(&mut engine, &chosen, &sets.sampler, loss, || {})?;
            let now = volumes.as_deref().and_then(|volumes| begin(&chosen, volumes));
            relearned.curve.extend(now.map(|loss| CurvePoint { step, loss }));
            finite = now.is_some();
            if now.is_some_and(|now| now <= goal) {
                relearned.steps = Some(step);
                break;
            }
        }
        if !finite {
            relearned.diverged = true;
            break;
        }
        progress.step("");
    }
    progress.finish();
    Ok(Some(relearned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_lie_ever_further_apart_and_end_with_the_last() {
        assert_eq!(checks(1), [1]);
        assert_eq!(checks(7), [1, 2, 3, 4, 6, 7]);
        assert_eq!(checks(40), [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40]);
        assert_eq!(*checks(u64::MAX).last().unwrap(), u64::MAX);
    }
}
