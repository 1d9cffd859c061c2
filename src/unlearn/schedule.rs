//! The steps of an unlearning epoch: pairs in one step, one shuffled stream, or one set after the other.

use crate::data::order::epoch_order;
use crate::data::set::{SliceId, VolumeSet};
use crate::run::schedule::{PlannedStep, Role, Schedule, TargetNoise, Term};
use crate::unlearn::hyperparameters::{Hyperparameters, filled};
use crate::unlearn::method::{Forgetting, Method, Recipe, Teacher, Trained};

/// What a method needs beside its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    pub recipe: Recipe,
    /// Factor of J on the forget set.
    pub forget_weight: f64,
    /// λ, standard deviation of the label noise.
    pub noise: f64,
    /// γ, weight of ‖θ‖₁, or of SCRUB's loss on the retain set.
    pub gamma: f64,
    /// With the method's defaults filled in.
    pub hyperparameters: Hyperparameters,
}

impl Term {
    fn towards(self, teacher: Teacher) -> Self {
        Self { teacher: Some(teacher as usize), ..self }
    }
}

/// The schedule of a method over the retain and forget sets that it uses.
pub struct UnlearnEpochs {
    method: Method,
    strength: Strength,
    /// The run's set: the retain set's volumes first.
    set: VolumeSet,
    retain: Option<VolumeSet>,
    forget: Option<VolumeSet>,
    seed: u64,
    shuffle: bool,
    batch: usize,
}

impl UnlearnEpochs {
    pub fn new(
        method: Method,
        strength: Strength,
        retain: &VolumeSet,
        forget: &VolumeSet,
        seed: u64,
        shuffle: bool,
        batch: usize,
    ) -> Self {
        let retain = method.retain.then(|| retain.clone());
        let forget = method.uses_forget_set().then(|| forget.clone());
        let sets = [&retain, &forget].into_iter().flatten().cloned();
        let set = sets.reduce(VolumeSet::join).expect("a method uses a set");
        Self { method, strength, set, retain, forget, seed, shuffle, batch }
    }

    /// The set whose volumes the schedule's slices are of.
    pub fn set(&self) -> &VolumeSet {
        &self.set
    }

    /// Volumes of the retain set: those of the forget set come after them.
    fn retain_volumes(&self) -> usize {
        self.retain.as_ref().map_or(0, |set| set.volumes().len())
    }

    fn role(&self, (volume, _): SliceId) -> Role {
        if volume < self.retain_volumes() { Role::Retain } else { Role::Forget }
    }

    /// What a batch contributes to a step.
    fn terms(&self, batch: Vec<SliceId>) -> Vec<Term> {
        match self.role(batch[0]) {
            Role::Retain => self.retain_terms(Term::new(Role::Retain, batch)),
            Role::Forget => vec![self.forget_term(Term::new(Role::Forget, batch))],
        }
    }

    fn retain_terms(&self, term: Term) -> Vec<Term> {
        let Strength { gamma, hyperparameters, .. } = self.strength;
        match self.method.forgetting {
            Forgetting::Balanced => vec![Term { weight: filled(hyperparameters.beta), ..term }],
            Forgetting::BadTeacher => vec![term.towards(Teacher::Original)],
            Forgetting::Scrub => {
                let obedient = term.clone().towards(Teacher::Original);
                vec![
                    Term { weight: filled(hyperparameters.alpha), ..obedient },
                    Term { weight: gamma, ..term },
                ]
            }
            Forgetting::None
            | Forgetting::Ascent
            | Forgetting::AscentL1
            | Forgetting::NoisyLabels
            | Forgetting::Dampening => vec![term],
        }
    }

    fn forget_term(&self, term: Term) -> Term {
        let Strength { recipe, forget_weight, noise, hyperparameters, .. } = self.strength;
        match self.method.forgetting {
            Forgetting::None | Forgetting::Dampening => unreachable!("no step uses the forget set"),
            Forgetting::Ascent => Term { weight: forget_weight * recipe.ascent(false), ..term },
            Forgetting::AscentL1 => Term { weight: forget_weight * recipe.ascent(true), ..term },
            Forgetting::NoisyLabels => {
                let noise = TargetNoise { lambda: noise, absolute: recipe.absolute_noise() };
                Term { weight: forget_weight, noise: Some(noise), ..term }
            }
            Forgetting::Balanced => Term { weight: filled(hyperparameters.beta) - 1.0, ..term },
            Forgetting::BadTeacher => term.towards(Teacher::Incompetent),
            Forgetting::Scrub => Term { weight: -1.0, ..term.towards(Teacher::Original) },
        }
    }

    fn step(&self, batches: impl IntoIterator<Item = Vec<SliceId>>) -> PlannedStep {
        let terms: Vec<Term> = batches.into_iter().flat_map(|batch| self.terms(batch)).collect();
        let forgets = terms.iter().any(|term| term.role == Role::Forget);
        let l1 =
            if forgets && self.method.forgetting == Forgetting::AscentL1 { self.strength.gamma } else { 0.0 };
        PlannedStep { terms, l1 }
    }

    fn mixing(&self) -> Mixing {
        Mixing::of(&self.method, self.strength.recipe, self.strength.hyperparameters)
    }

    fn order(&self, set: &VolumeSet, epoch: u64) -> Vec<Vec<SliceId>> {
        epoch_order(set, self.seed, epoch, self.shuffle, self.batch)
    }

    /// As the run's set numbers them.
    fn forget_order(&self, forget: &VolumeSet, epoch: u64) -> Vec<Vec<SliceId>> {
        let first = self.retain_volumes();
        let batches = self.order(forget, epoch).into_iter();
        batches
            .map(|batch| batch.into_iter().map(|(volume, slice)| (first + volume, slice)).collect())
            .collect()
    }
}

/// How the slices of two sets become the steps of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixing {
    NoSteps,
    /// A batch of each set in every step.
    Pairs,
    /// Steps of both in one order.
    Stream,
    /// First those of the forget set, in the first epochs, then those of the retain set.
    Turns {
        ascent_epochs: u64,
    },
}

impl Mixing {
    /// `hyperparameters` have the method's defaults filled in.
    pub fn of(method: &Method, recipe: Recipe, hyperparameters: Hyperparameters) -> Self {
        match method.forgetting {
            Forgetting::Dampening => Self::NoSteps,
            Forgetting::Balanced => Self::Pairs,
            Forgetting::BadTeacher => Self::Stream,
            Forgetting::Scrub => Self::Turns { ascent_epochs: filled(hyperparameters.ascent_epochs) },
            Forgetting::None | Forgetting::Ascent | Forgetting::AscentL1 | Forgetting::NoisyLabels => {
                match recipe {
                    Recipe::Text => Self::Pairs,
                    Recipe::Code => Self::Stream,
                }
            }
        }
    }

    /// How many batches of the retain and of the forget set an epoch goes through, and in how many steps, where there are
    /// so many of each; none of a set that the method does not use.
    pub fn count(self, epoch: u64, [retain, forget]: [usize; 2]) -> ([usize; 2], usize) {
        match self {
            Self::NoSteps => ([0, 0], 0),
            Self::Pairs if retain > 0 && forget > 0 => {
                let pairs = retain.max(forget);
                ([pairs; 2], pairs)
            }
            Self::Turns { ascent_epochs } if epoch >= ascent_epochs => ([retain, 0], retain),
            Self::Pairs | Self::Stream | Self::Turns { .. } => ([retain, forget], retain + forget),
        }
    }
}

impl Schedule for UnlearnEpochs {
    fn of_two_sets(&self) -> bool {
        self.retain.is_some() && self.forget.is_some()
    }

    /// Slice by slice, whatever the batch of the steps: a square of a mean is no mean of squares.
    fn preparation(&self) -> Vec<Term> {
        let of = |role| {
            let slices = self.set.slices().into_iter().filter(move |&slice| self.role(slice) == role);
            slices.map(move |slice| Term::new(role, vec![slice]))
        };
        match (self.method.forgetting, self.method.trained) {
            (Forgetting::Dampening, _) => of(Role::Forget).chain(of(Role::Retain)).collect(),
            (_, Trained::Salient) => of(Role::Forget).collect(),
            _ => Vec::new(),
        }
    }

    fn epoch(&self, epoch: u64) -> Vec<PlannedStep> {
        match (&self.retain, &self.forget, self.mixing()) {
            (_, _, Mixing::NoSteps) => Vec::new(),
            (Some(retain), Some(forget), Mixing::Pairs) => {
                let (retain, forget) = (self.order(retain, epoch), self.forget_order(forget, epoch));
                // Every slice of both sets at least once; the smaller set goes round.
                let pairs = retain.len().max(forget.len());
                let pair = |i: usize| [forget[i % forget.len()].clone(), retain[i % retain.len()].clone()];
                (0..pairs).map(|i| self.step(pair(i))).collect()
            }
            (Some(retain), Some(forget), Mixing::Turns { ascent_epochs }) => {
                let ascents = if epoch < ascent_epochs { self.forget_order(forget, epoch) } else { vec![] };
                let batches = ascents.into_iter().chain(self.order(retain, epoch));
                batches.map(|batch| self.step([batch])).collect()
            }
            _ => {
                // A batch holds slices of one set: a stream of single slices that happen to share a shape is mixed.
                let batches = self.order(&self.set, epoch).into_iter().flat_map(|batch| {
                    let (retain, forget): (Vec<_>, Vec<_>) =
                        batch.into_iter().partition(|&slice| self.role(slice) == Role::Retain);
                    [retain, forget].into_iter().filter(|part| !part.is_empty())
                });
                batches.map(|batch| self.step([batch])).collect()
            }
        }
    }
}
