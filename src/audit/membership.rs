//! How well losses tell the forget set from unseen volumes of the same kind: the attack of Yeom et al. 2018, which takes
//! a slice with a small loss for one that the network was trained on.
//!
//! The AUC is the probability that a slice of the forget set has a smaller loss than an unseen one, ties counting half
//! (Mann and Whitney): 0.5 where losses tell nothing. The variance is DeLong's with volumes as clusters (Obuchowski 1997),
//! as the slices of a volume are not independent; the interval has t's quantile at Satterthwaite's degrees of freedom, as
//! volumes are few, and is symmetric about the AUC's logit: about the AUC itself, it holds an AUC of 0.9 too seldom. It
//! needs no resampling and no seed.

use serde::{Deserialize, Serialize};

use crate::audit::interval::{Interval, t_quantile};

/// The area under the attack's ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Auc {
    pub auc: f64,
    /// None where a set has one volume, or volumes do not differ in how they compare with the other set.
    pub interval: Option<Interval>,
    pub forget: Size,
    pub unseen: Size,
}

/// Of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub volumes: usize,
    pub slices: usize,
}

impl Auc {
    /// From the losses of each volume's slices. None where a set is empty or a loss is not a number.
    pub fn of(forget: &[Vec<f64>], unseen: &[Vec<f64>]) -> Option<Self> {
        let sorted = |volumes: &[Vec<f64>]| {
            let mut all: Vec<f64> = volumes.concat();
            all.sort_unstable_by(f64::total_cmp);
            (!all.is_empty() && !all.iter().any(|loss| loss.is_nan())).then_some(all)
        };
        let [all_forget, all_unseen] = [sorted(forget)?, sorted(unseen)?];
        // Of an unseen slice with this loss: how much of the forget set lies below it.
        let below = |loss: f64| share_below(&all_forget, loss);
        let above = |loss: f64| 1.0 - share_below(&all_unseen, loss);
        let slices = all_unseen.len() as f64;
        let auc = all_unseen.iter().map(|&loss| below(loss)).sum::<f64>() / slices;
        let parts =
            [spread(forget, all_forget.len(), auc, above), spread(unseen, all_unseen.len(), auc, below)];
        let interval = match parts {
            [Some(forget), Some(unseen)] => interval(auc, [forget, unseen]),
            _ => None,
        };
        let size = |volumes: &[Vec<f64>], slices: &[f64]| Size {
            volumes: volumes.iter().filter(|volume| !volume.is_empty()).count(),
            slices: slices.len(),
        };
        Some(Self { auc, interval, forget: size(forget, &all_forget), unseen: size(unseen, &all_unseen) })
    }

    /// Whether the losses tell the sets apart by more than chance over volumes; larger than 0.5 or smaller.
    pub fn tells(&self) -> Option<std::cmp::Ordering> {
        let apart = match self.interval {
            Some(interval) => !interval.contains(0.5),
            // Every slice of one set beyond every slice of the other, in several volumes of both.
            None => [0.0, 1.0].contains(&self.auc) && self.forget.volumes.min(self.unseen.volumes) > 1,
        };
        apart.then(|| self.auc.total_cmp(&0.5))
    }
}

/// The share of sorted values that are smaller, equal ones counting half.
fn share_below(sorted: &[f64], value: f64) -> f64 {
    let smaller = sorted.partition_point(|&other| other < value);
    let up_to = sorted.partition_point(|&other| other <= value);
    (smaller + up_to) as f64 / (2 * sorted.len()) as f64
}

/// What the sampling of one set's volumes adds to the variance, and its degrees of freedom. None for one volume.
///
/// `place` is where a slice lies among the other set's; its mean over all slices is the AUC.
fn spread(volumes: &[Vec<f64>], slices: usize, auc: f64, place: impl Fn(f64) -> f64) -> Option<(f64, f64)> {
    let volumes: Vec<&Vec<f64>> = volumes.iter().filter(|volume| !volume.is_empty()).collect();
    let count = volumes.len() as f64;
    if count < 2.0 {
        return None;
    }
    let deviation = |volume: &&Vec<f64>| volume.iter().map(|&loss| place(loss) - auc).sum::<f64>().powi(2);
    let squares: f64 = volumes.iter().map(deviation).sum();
    let slices = slices as f64;
    Some((count / (count - 1.0) * squares / (slices * slices), count - 1.0))
}

fn interval(auc: f64, [(a, a_freedom), (b, b_freedom)]: [(f64, f64); 2]) -> Option<Interval> {
    let variance = a + b;
    // Rounding in the places' differences from their mean.
    if variance < 1e-24 {
        return None;
    }
    // Rounded down: rather too wide.
    let freedom = (variance * variance / (a * a / a_freedom + b * b / b_freedom)).floor().max(1.0);
    // On the scale of ln(AUC / (1 − AUC)), whose slope is 1 / (AUC · (1 − AUC)).
    let middle = (auc / (1.0 - auc)).ln();
    let half = t_quantile(freedom as usize) * variance.sqrt() / (auc * (1.0 - auc));
    let back = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    Some(Interval { low: back(middle - half), high: back(middle + half) })
}
