//! The steps of an unlearning epoch: pairs in one step, one shuffled stream, or one set after the other.

use crate::data::order::epoch_order;
use crate::data::set::VolumeSet;
use crate::data::volume::SliceId;
use crate::run::optimisation::Optimisation;
use crate::run::schedule::{PlannedStep, Role, Schedule, Term};
use crate::unlearn::method::{Before, Method};
use crate::unlearn::mixing::Mixing;
use crate::unlearn::strength::Strength;

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
        [retain, forget]: [&VolumeSet; 2],
        &Optimisation { seed, shuffle, batch, .. }: &Optimisation,
    ) -> Self {
        let retain = method.uses_retain_set().then(|| retain.clone());
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

    fn step(&self, batches: impl IntoIterator<Item = Vec<SliceId>>) -> PlannedStep {
        let terms_of = |batch: Vec<_>| self.method.terms(self.role(batch[0]), &self.strength, batch);
        let terms: Vec<Term> = batches.into_iter().flat_map(terms_of).collect();
        let forgets = terms.iter().any(|term| term.role == Role::Forget);
        let l1 = if forgets && self.method.l1 { self.strength.gamma } else { 0.0 };
        PlannedStep { terms, l1 }
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
        match self.method.before {
            Before::Nothing => Vec::new(),
            Before::FindsSalient => of(Role::Forget).collect(),
            Before::Dampens => of(Role::Forget).chain(of(Role::Retain)).collect(),
        }
    }

    fn epoch(&self, epoch: u64) -> Vec<PlannedStep> {
        let Some(mixing) = self.method.steps else { return Vec::new() };
        match (&self.retain, &self.forget, mixing(&self.strength)) {
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
