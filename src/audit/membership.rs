//! How well losses tell the forget set from unseen volumes of the same kind: the attack of Yeom et al. 2018, which takes
//! a slice with a small loss for one that the network was trained on.
//!
//! The AUC is the probability that a slice of the forget set has a smaller loss than an unseen one, ties counting half
//! (Mann and Whitney): 0.5 where losses tell nothing. The variance is DeLong's with volumes as clusters (Obuchowski 1997),
//! as the slices of a volume are not independent; the interval has t's quantile at Satterthwaite's degrees of freedom, as
//! volumes are few, and is symmetric about the AUC's logit: about the AUC itself, it holds an AUC of 0.9 too seldom. It
//! needs no resampling and no seed.
//!
//! Two networks that saw the same slices are compared by the difference of their AUCs, slice by slice: what makes one set
//! easier than the other, for a network that saw neither, then counts for neither, as long as it leaves AUCs room to differ.

use std::cmp::Ordering;

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

/// By how much one network's AUC is larger than another's over the same slices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AucDifference {
    pub difference: f64,
    /// None as in [`Auc::interval`].
    pub interval: Option<Interval>,
}

/// How likely chance may at the most put every volume of one set beyond every volume of the other, for that to say
/// something: of all ways to deal volumes that differ in nothing, two do.
const BY_CHANCE: f64 = 0.05;

impl Auc {
    /// From the losses of each volume's slices. None where a set is empty or a loss is not a number.
    pub fn of(forget: &[Vec<f64>], unseen: &[Vec<f64>]) -> Option<Self> {
        let Places { auc, forget, unseen } = Places::of(forget, unseen)?;
        let interval = match [&forget, &unseen].map(|set| set.spread(auc)) {
            [Some(forget), Some(unseen)] => about_logit(auc, [forget, unseen]),
            _ => None,
        };
        Some(Self { auc, interval, forget: forget.size(), unseen: unseen.size() })
    }

    /// Whether the losses tell the sets apart by more than chance over volumes; larger than 0.5 or smaller.
    pub fn tells(&self) -> Option<Ordering> {
        let apart = match self.interval {
            Some(interval) => !interval.contains(0.5),
            // Every slice of one set beyond every slice of the other.
            None => [0.0, 1.0].contains(&self.auc) && 2.0 / self.ways() <= BY_CHANCE,
        };
        apart.then(|| self.auc.total_cmp(&0.5))
    }

    /// Whether losses could: of too few volumes they cannot.
    pub fn can_tell(&self) -> bool {
        self.interval.is_some() || 2.0 / self.ways() <= BY_CHANCE
    }

    /// In how many ways the volumes could be dealt into two sets of these sizes.
    fn ways(&self) -> f64 {
        let [few, many] = [self.forget.volumes, self.unseen.volumes];
        (1..=few).map(|i| (many + i) as f64 / i as f64).product()
    }
}

impl AucDifference {
    /// From the losses of each volume's slices of two networks on the same sets. None as in [`Auc::of`].
    pub fn of(
        [forget, unseen]: [&[Vec<f64>]; 2],
        [forget_of_other, unseen_of_other]: [&[Vec<f64>]; 2],
    ) -> Option<Self> {
        let mine = Places::of(forget, unseen)?;
        let other = Places::of(forget_of_other, unseen_of_other)?;
        let difference = mine.auc - other.auc;
        let parts = [mine.forget.minus(&other.forget), mine.unseen.minus(&other.unseen)];
        let interval = match parts.map(|set| set.spread(difference)) {
            [Some(forget), Some(unseen)] => half_width([forget, unseen])
                .map(|half| Interval { low: difference - half, high: difference + half }),
            _ => None,
        };
        Some(Self { difference, interval })
    }

    /// The interval for people: no AUC is further from another than 1.
    pub fn possible(&self) -> Option<Interval> {
        self.interval.map(|Interval { low, high }| Interval { low: low.max(-1.0), high: high.min(1.0) })
    }

    /// Whether it is other than 0 by more than chance over volumes; larger or smaller.
    pub fn tells(&self) -> Option<Ordering> {
        let apart = self.interval.is_some_and(|interval| !interval.contains(0.0));
        apart.then(|| self.difference.total_cmp(&0.0))
    }
}

/// Where each slice lies among those of the other set.
struct Places {
    /// Their mean, over either set.
    auc: f64,
    forget: PlacesOfSet,
    unseen: PlacesOfSet,
}

/// Volume by volume, empty ones left out.
struct PlacesOfSet(Vec<Vec<f64>>);

impl Places {
    fn of(forget: &[Vec<f64>], unseen: &[Vec<f64>]) -> Option<Self> {
        let sorted = |volumes: &[Vec<f64>]| {
            let mut all: Vec<f64> = volumes.concat();
            all.sort_unstable_by(f64::total_cmp);
            (!all.is_empty() && !all.iter().any(|loss| loss.is_nan())).then_some(all)
        };
        let [all_forget, all_unseen] = [sorted(forget)?, sorted(unseen)?];
        let places = |volumes: &[Vec<f64>], place: &dyn Fn(f64) -> f64| {
            let filled = volumes.iter().filter(|volume| !volume.is_empty());
            PlacesOfSet(filled.map(|volume| volume.iter().map(|&loss| place(loss)).collect()).collect())
        };
        // Of an unseen slice with this loss: how much of the forget set lies below it.
        let below = |loss: f64| share_below(&all_forget, loss);
        let auc = all_unseen.iter().map(|&loss| below(loss)).sum::<f64>() / all_unseen.len() as f64;
        Some(Self {
            auc,
            forget: places(forget, &|loss| 1.0 - share_below(&all_unseen, loss)),
            unseen: places(unseen, &below),
        })
    }
}

impl PlacesOfSet {
    fn size(&self) -> Size {
        Size { volumes: self.0.len(), slices: self.0.iter().map(Vec::len).sum() }
    }

    fn minus(&self, other: &Self) -> Self {
        let volumes = self.0.iter().zip(&other.0);
        let slices =
            |(mine, other): (&Vec<f64>, &Vec<f64>)| mine.iter().zip(other).map(|(a, b)| a - b).collect();
        Self(volumes.map(slices).collect())
    }

    /// What the sampling of the set's volumes adds to the variance of the mean over all slices, and its degrees of
    /// freedom. None for one volume.
    fn spread(&self, mean: f64) -> Option<(f64, f64)> {
        let Size { volumes, slices } = self.size();
        if volumes < 2 {
            return None;
        }
        let deviation = |volume: &Vec<f64>| volume.iter().map(|place| place - mean).sum::<f64>().powi(2);
        let squares: f64 = self.0.iter().map(deviation).sum();
        let (count, slices) = (volumes as f64, slices as f64);
        Some((count / (count - 1.0) * squares / (slices * slices), count - 1.0))
    }
}

/// The share of sorted values that are smaller, equal ones counting half.
fn share_below(sorted: &[f64], value: f64) -> f64 {
    let smaller = sorted.partition_point(|&other| other < value);
    let up_to = sorted.partition_point(|&other| other <= value);
    (smaller + up_to) as f64 / (2 * sorted.len()) as f64
}

/// Of a symmetric interval, from what each set adds to the variance, with its degrees of freedom.
fn half_width([(a, a_freedom), (b, b_freedom)]: [(f64, f64); 2]) -> Option<f64> {
    let variance = a + b;
    // Rounding in the places' differences from their mean.
    if variance < 1e-24 {
        return None;
    }
    // The variance that two volumes have of each other is hardly known, which Satterthwaite's formula takes too lightly.
    let freedom = match a_freedom.min(b_freedom) {
        least if least < 2.0 => 1.0,
        // Rounded down, but for rounding: rather too wide.
        _ => (variance * variance / (a * a / a_freedom + b * b / b_freedom) + 1e-9).floor().max(1.0),
    };
    Some(t_quantile(freedom as usize) * variance.sqrt())
}

/// Symmetric on the scale of ln(AUC / (1 − AUC)), whose slope is 1 / (AUC · (1 − AUC)).
fn about_logit(auc: f64, spreads: [(f64, f64); 2]) -> Option<Interval> {
    let half = half_width(spreads)? / (auc * (1.0 - auc));
    let middle = (auc / (1.0 - auc)).ln();
    let back = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    Some(Interval { low: back(middle - half), high: back(middle + half) })
}
