//! Runs that differ in nothing but their seed, taken together, and the numbers that they give.

use serde::Serialize;

use crate::experiment::results::{Epoch, Measure, Measured, Part, Results, RunResult};
use crate::metrics::{Scores, Spread};

/// The runs of one label and retain fraction.
#[derive(Clone, Debug)]
pub struct Condition<'r> {
    pub part: Part,
    pub label: &'r str,
    pub title: &'r str,
    pub method: Option<&'r str>,
    pub fraction: Option<f64>,
    pub compared: bool,
    /// One a seed.
    pub runs: Vec<&'r RunResult>,
}

/// What became of a condition's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Seeds {
    pub all: usize,
    /// Left a network that was measured.
    pub measured: usize,
    /// Left a network whose images are not finite.
    pub diverged: usize,
}

/// How well a condition does on a set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Over seeds, of the mean over volumes.
    pub psnr: Spread,
    pub ssim: Spread,
    /// Over volumes: the root of the mean of the seeds' variances. None for one volume.
    pub psnr_sd_over_volumes: Option<f64>,
    pub ssim_sd_over_volumes: Option<f64>,
    /// At the most, of a seed.
    pub volumes: usize,
}

impl<'r> Condition<'r> {
    /// A number over the seeds that give one.
    pub fn over_seeds(&self, number: impl Fn(&RunResult) -> Option<f64>) -> Option<Spread> {
        Spread::of(&self.runs.iter().filter_map(|run| number(run)).collect::<Vec<_>>())
    }

    /// A number of a run and the run of the same seed in another condition, over the seeds that both have.
    pub fn with(
        &self,
        other: &Condition,
        number: impl Fn(&RunResult, &RunResult) -> Option<f64>,
    ) -> Option<Spread> {
        self.over_seeds(|run| number(run, other.of_seed(run.seed)?))
    }

    pub fn of_seed(&self, seed: u64) -> Option<&'r RunResult> {
        self.runs.iter().find(|run| run.seed == seed).copied()
    }

    pub fn seeds(&self) -> Seeds {
        let count = |wanted: fn(&RunResult) -> bool| self.runs.iter().filter(|run| wanted(run)).count();
        Seeds {
            all: self.runs.len(),
            measured: count(|run| run.last().is_some()),
            diverged: count(|run| run.epochs.last().is_some_and(|epoch| epoch.measured.is_none())),
        }
    }

    /// Of the networks that the runs left.
    pub fn quality(&self, measure: Measure) -> Option<Quality> {
        Quality::of(self.runs.iter().filter_map(|run| run.last()), measure)
    }

    /// Of the networks after an epoch.
    pub fn quality_after(&self, epoch: u64, measure: Measure) -> Option<Quality> {
        Quality::of(self.runs.iter().filter_map(|run| after(run, epoch)?.measured.as_ref()), measure)
    }

    pub fn seconds(&self) -> Option<Spread> {
        self.over_seeds(|run| Some(run.seconds))
    }

    pub fn seconds_per_step(&self) -> Option<Spread> {
        self.over_seeds(|run| (run.steps > 0).then(|| run.seconds / run.steps as f64))
    }
}

impl Quality {
    fn of<'m>(networks: impl Iterator<Item = &'m Measured>, measure: Measure) -> Option<Self> {
        let (mut psnr, mut ssim, mut volumes) = (Vec::new(), Vec::new(), 0);
        for network in networks {
            let over_volumes = |number: fn(&Scores) -> f64| {
                Spread::of(&network.of(measure).iter().map(|v| number(&v.scores)).collect::<Vec<_>>())
            };
            psnr.extend(over_volumes(|scores| scores.psnr));
            ssim.extend(over_volumes(|scores| scores.ssim));
            volumes = volumes.max(network.of(measure).len());
        }
        let over_seeds = |of: &[Spread]| Spread::of(&of.iter().map(|s| s.mean).collect::<Vec<_>>());
        Some(Self {
            psnr: over_seeds(&psnr)?,
            ssim: over_seeds(&ssim)?,
            psnr_sd_over_volumes: pooled(&psnr),
            ssim_sd_over_volumes: pooled(&ssim),
            volumes,
        })
    }
}

/// The root of the mean of the variances.
fn pooled(spreads: &[Spread]) -> Option<f64> {
    let variances: Option<Vec<f64>> = spreads.iter().map(|s| s.sd.map(|sd| sd * sd)).collect();
    Spread::of(&variances?).map(|variance| variance.mean.sqrt())
}

/// A run at the end of one of its epochs.
pub fn after(run: &RunResult, epoch: u64) -> Option<&Epoch> {
    run.epochs.iter().find(|e| e.epoch == epoch)
}

/// Mean PSNR over a set's volumes, of the network that a run left.
pub fn psnr(run: &RunResult, measure: Measure) -> Option<f64> {
    mean(run, measure, |scores| scores.psnr)
}

/// Likewise SSIM.
pub fn ssim(run: &RunResult, measure: Measure) -> Option<f64> {
    mean(run, measure, |scores| scores.ssim)
}

fn mean(run: &RunResult, measure: Measure, number: fn(&Scores) -> f64) -> Option<f64> {
    let volumes: Vec<f64> = run.last()?.of(measure).iter().map(|v| number(&v.scores)).collect();
    Spread::of(&volumes).map(|spread| spread.mean)
}

/// A study's runs by condition: G first, the oracle second, methods in the order in which they first occur.
#[derive(Clone, Debug)]
pub struct Study<'r> {
    pub results: &'r Results,
    conditions: Vec<Condition<'r>>,
}

/// A method at several retain fractions, the smallest first.
#[derive(Clone, Debug)]
pub struct Sweep<'s, 'r> {
    pub label: &'r str,
    pub method: Option<&'r str>,
    pub conditions: Vec<&'s Condition<'r>>,
}

impl<'r> Study<'r> {
    pub fn new(results: &'r Results) -> Self {
        let mut conditions: Vec<Condition> = Vec::new();
        for part in [Part::Original, Part::Oracle, Part::Unlearned] {
            for run in results.of_part(part) {
                let known = conditions
                    .iter_mut()
                    .find(|c| (c.part, c.label, c.fraction) == (part, run.label.as_str(), run.fraction));
                match known {
                    Some(condition) => {
                        condition.runs.push(run);
                        condition.compared |= run.compared;
                    }
                    None => conditions.push(Condition {
                        part,
                        label: &run.label,
                        title: &run.title,
                        method: run.method.as_deref(),
                        fraction: run.fraction,
                        compared: run.compared,
                        runs: vec![run],
                    }),
                }
            }
        }
        Self { results, conditions }
    }

    pub fn conditions(&self) -> &[Condition<'r>] {
        &self.conditions
    }

    pub fn original(&self) -> Option<&Condition<'r>> {
        self.conditions.iter().find(|c| c.part == Part::Original)
    }

    pub fn oracle(&self) -> Option<&Condition<'r>> {
        self.conditions.iter().find(|c| c.part == Part::Oracle)
    }

    /// Everything that unlearned, at every fraction.
    pub fn unlearned(&self) -> impl Iterator<Item = &Condition<'r>> {
        self.conditions.iter().filter(|c| c.part == Part::Unlearned)
    }

    /// The methods that are compared with each other.
    pub fn compared(&self) -> impl Iterator<Item = &Condition<'r>> {
        self.unlearned().filter(|c| c.compared)
    }

    /// G, the oracle, and the methods that are compared.
    pub fn rows(&self) -> impl Iterator<Item = &Condition<'r>> {
        self.original().into_iter().chain(self.oracle()).chain(self.compared())
    }

    /// Methods that were run at two fractions or more.
    pub fn sweeps(&self) -> Vec<Sweep<'_, 'r>> {
        let mut sweeps: Vec<Sweep> = Vec::new();
        for condition in self.unlearned().filter(|c| c.fraction.is_some()) {
            match sweeps.iter_mut().find(|sweep| sweep.label == condition.label) {
                Some(sweep) => sweep.conditions.push(condition),
                None => sweeps.push(Sweep {
                    label: condition.label,
                    method: condition.method,
                    conditions: vec![condition],
                }),
            }
        }
        sweeps.retain(|sweep| sweep.conditions.len() > 1);
        for sweep in &mut sweeps {
            sweep.conditions.sort_by(|a, b| a.fraction.unwrap_or(0.0).total_cmp(&b.fraction.unwrap_or(0.0)));
        }
        sweeps
    }

    /// A number for every label that unlearned: its colour and mark in every figure. Those of several fractions come
    /// first, as they share a plot.
    pub fn index(&self, label: &str) -> usize {
        let mut labels: Vec<&str> = self.sweeps().iter().map(|sweep| sweep.label).collect();
        for condition in self.unlearned() {
            if !labels.contains(&condition.label) {
                labels.push(condition.label);
            }
        }
        labels.iter().position(|known| *known == label).unwrap_or(labels.len())
    }

    /// |Δ|: how far a condition's mean PSNR on a set is from the oracle's of the same seed.
    pub fn gap(&self, condition: &Condition, measure: Measure) -> Option<Spread> {
        condition
            .with(self.oracle()?, |run, oracle| Some((psnr(run, measure)? - psnr(oracle, measure)?).abs()))
    }

    /// Time in steps, as a share of the oracle's of the same seed, over the seeds where one kind of machine computed both.
    pub fn against_retraining(&self, condition: &Condition) -> Option<Spread> {
        condition.with(self.oracle()?, |run, oracle| {
            let comparable = run.machine() == oracle.machine() && oracle.seconds > 0.0;
            comparable.then(|| run.seconds / oracle.seconds)
        })
    }

    /// How much of the PSNR that retraining costs on the test set of the forgotten kind a condition has lost: 0 is G,
    /// 1 the oracle. None where some seed's networks differ by less than [`SMALLEST_GAP`]: there is nothing to share.
    pub fn forgotten(&self, condition: &Condition) -> Option<Spread> {
        if !self.seeds_without_gap(condition).is_empty() {
            return None;
        }
        condition.with(self.original()?, |run, g| {
            Some((psnr(g, Measure::Kta)? - psnr(run, Measure::Kta)?) / self.loss_of_oracle(run.seed)?)
        })
    }

    /// The seeds of a condition's runs with which the oracle is not [`SMALLEST_GAP`] below G.
    pub fn seeds_without_gap(&self, condition: &Condition) -> Vec<u64> {
        let small = |seed: &u64| self.loss_of_oracle(*seed).is_some_and(|loss| loss < SMALLEST_GAP);
        condition.runs.iter().map(|run| run.seed).filter(small).collect()
    }

    /// G's PSNR less the oracle's on the test set of the forgotten kind.
    fn loss_of_oracle(&self, seed: u64) -> Option<f64> {
        let of = |other: &Condition| psnr(other.of_seed(seed)?, Measure::Kta);
        Some(of(self.original()?)? - of(self.oracle()?)?)
    }

    /// Whether every network of a condition is measured as G is, to the last bit: then nothing was done to it.
    pub fn does_nothing(&self, condition: &Condition) -> bool {
        let same = |run: &&RunResult| {
            let original = self.original().and_then(|original| original.of_seed(run.seed)?.last());
            original.is_some() && run.last() == original
        };
        condition.runs.iter().all(same)
    }

    /// The compared method that is nearest to the oracle, of those that do something: |Δ| in dB, summed over the three sets.
    pub fn nearest(&self) -> Option<(&Condition<'r>, f64)> {
        let distance = |condition: &Condition| -> Option<f64> {
            Measure::ALL.iter().map(|&measure| Some(self.gap(condition, measure)?.mean)).sum()
        };
        let whole = self.compared().filter(|c| c.seeds().diverged == 0 && !self.does_nothing(c));
        whole.filter_map(|c| Some((c, distance(c)?))).min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// In dB.
pub const SMALLEST_GAP: f64 = 0.5;
