//! What follows from what was measured.

use crate::audit::evidence::{Audit, Difference, Each, HalfWay, NetworkScores, Relearning, SetEvidence};
use crate::audit::interval::Estimate;
use crate::audit::membership::{Auc, AucDifference};
use crate::audit::network::VolumeObserved;
use crate::audit::{flags, notes};
use crate::metrics::Scores;

/// Of a network's slices, volume by volume: of the forget set and of the unseen one.
type LossesOfBoth = (Vec<Vec<f64>>, Vec<Vec<f64>>);

impl Audit {
    /// With all that follows from what was measured worked out: means and intervals, differences, AUCs, flags and notes.
    pub fn concluded(mut self) -> Self {
        for set in &mut self.sets {
            set.scores = set.scores.as_ref().and_then(|scores| NetworkScores::of(scores.volumes.clone()));
            let Each { before, after, oracle } = &set.scores;
            let less = |one: &Option<NetworkScores>, other: &Option<NetworkScores>| {
                one.as_ref()?.less(other.as_ref()?)
            };
            set.change = less(after, before);
            set.against_oracle = less(after, oracle);
            set.oracle_against_original = less(oracle, before);
        }
        let losses = self.sets[0].losses().zip(self.sets[1].losses());
        self.membership = losses.as_ref().and_then(|(forget, unseen)| Auc::of(forget, unseen));
        let Each { before, after, oracle } = losses.as_ref();
        let difference =
            |((forget, unseen), (of_oracle, unseen_of_oracle)): (&LossesOfBoth, &LossesOfBoth)| {
                AucDifference::of([forget, unseen], [of_oracle, unseen_of_oracle])
            };
        self.membership_against_oracle = after.zip(oracle).and_then(difference);
        self.membership_of_original = before.zip(oracle).and_then(difference);
        if let Some(relearning) = &mut self.relearning {
            relearning.conclude();
        }
        (self.flags, self.not_judged) = (flags::flags(&self), flags::not_judged(&self));
        self.notes = notes::notes(&self);
        self
    }
}

impl NetworkScores {
    pub(super) fn of(volumes: Vec<VolumeObserved>) -> Option<Self> {
        let over = |number: fn(&Scores) -> f64| {
            Estimate::of(&volumes.iter().map(|v| number(&v.scores)).collect::<Vec<_>>())
        };
        let mean = |v: &VolumeObserved| v.losses.iter().sum::<f64>() / v.losses.len() as f64;
        Some(Self {
            psnr: over(|scores| scores.psnr)?,
            ssim: over(|scores| scores.ssim)?,
            nmse: over(|scores| scores.nmse)?,
            loss: Estimate::of(&volumes.iter().map(mean).collect::<Vec<_>>())?,
            volumes,
        })
    }

    /// What it scores more than another network, over the volumes that both saw.
    fn less(&self, other: &Self) -> Option<Difference> {
        let over = |number: fn(&Scores) -> f64| {
            let pairs = self.volumes.iter().zip(&other.volumes);
            Estimate::of(&pairs.map(|(a, b)| number(&a.scores) - number(&b.scores)).collect::<Vec<_>>())
        };
        Some(Difference { psnr: over(|scores| scores.psnr)?, ssim: over(|scores| scores.ssim)? })
    }
}

impl Relearning {
    /// When each network was back, and half-way back, by its losses.
    fn conclude(&mut self) {
        let Each { before, after, oracle } = &mut self.networks;
        for network in [before, after, oracle].into_iter().flatten() {
            network.steps = network.steps_to(self.goal);
        }
        let first = self.networks.oracle.as_ref().and_then(|oracle| Some(oracle.curve.first()?.loss));
        self.half = first.filter(|first| *first > self.goal).map(|first| {
            let loss = f64::midpoint(first, self.goal);
            HalfWay { loss, steps: self.networks.as_ref().and_then(|network| network.steps_to(loss)) }
        });
    }
}

impl SetEvidence {
    /// Of each network: those of each volume's slices.
    fn losses(&self) -> Each<Vec<Vec<f64>>> {
        let of = |scores: &NetworkScores| scores.volumes.iter().map(|volume| volume.losses.clone()).collect();
        self.scores.as_ref().and_then(|scores| Some(of(scores)))
    }
}
