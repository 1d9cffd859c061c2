//! What follows from what was measured.

use crate::audit::evidence::{Audit, Each, NetworkScores, SetEvidence};
use crate::audit::flags;
use crate::audit::interval::Estimate;
use crate::audit::membership::{Auc, AucDifference};
use crate::audit::network::VolumeObserved;
use crate::metrics::Scores;

impl Audit {
    /// With all that follows from what was measured worked out: means and intervals, differences, AUCs, flags and notes.
    pub fn concluded(mut self) -> Self {
        for set in &mut self.sets {
            set.scores = set.scores.as_ref().and_then(|scores| NetworkScores::of(scores.volumes.clone()));
            let Each { before, after, oracle } = &set.scores;
            let above = |other: &Option<NetworkScores>| after.as_ref()?.psnr_above(other.as_ref()?);
            (set.change_psnr, set.against_oracle_psnr) = (above(before), above(oracle));
        }
        let losses = self.sets[0].losses().zip(self.sets[1].losses());
        self.membership = losses.as_ref().and_then(|(forget, unseen)| Auc::of(forget, unseen));
        let Each { after, oracle, .. } = losses;
        self.membership_against_oracle = after
            .zip(oracle)
            .and_then(|(after, oracle)| AucDifference::of([&after.0, &after.1], [&oracle.0, &oracle.1]));
        (self.flags, self.notes) = (flags::flags(&self), flags::notes(&self));
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

    /// By how many dB this network's PSNR is above another's, over the volumes that both saw.
    fn psnr_above(&self, other: &Self) -> Option<Estimate> {
        let pairs = self.volumes.iter().zip(&other.volumes);
        Estimate::of(&pairs.map(|(a, b)| a.scores.psnr - b.scores.psnr).collect::<Vec<_>>())
    }
}

impl SetEvidence {
    /// Of each network: those of each volume's slices.
    fn losses(&self) -> Each<Vec<Vec<f64>>> {
        let of = |scores: &NetworkScores| scores.volumes.iter().map(|volume| volume.losses.clone()).collect();
        self.scores.as_ref().and_then(|scores| Some(of(scores)))
    }
}
