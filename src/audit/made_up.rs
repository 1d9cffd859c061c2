//! Audits with made-up numbers, for tests of what is concluded from them.

use crate::audit::distance::{Moved, PartDistance};
use crate::audit::evidence::{
    Audit, Each, FORMAT, NetworkScores, Relearning, Request, RunPart, SetEvidence, WeightsFile,
};
use crate::audit::interval::CONFIDENCE;
use crate::audit::network::VolumeObserved;
use crate::audit::relearn::{CurvePoint, Relearned};
use crate::audit::settings::{AuditSettings, SetRole};
use crate::batch::Sampling;
use crate::data::digest::{SliceDigest, VolumeDigest};
use crate::metrics::Scores;
use crate::provenance::Provenance;
use crate::run::optimisation::Loss;
use crate::unlearn::trained_on::TrainedOn;

/// What networks are like on a set: PSNR of the original, the unlearned network and the oracle.
#[derive(Clone, Copy)]
pub struct MadeUp {
    pub forget: [f64; 3],
    pub unseen: [f64; 3],
    pub test: [f64; 3],
    /// Of the forget and the unseen set; of the test set always 6.
    pub volumes: [usize; 2],
    /// What SSIM has beside what follows from PSNR, of the unlearned network.
    pub extra_ssim: f64,
    pub oracle: bool,
    /// Losses while each network relearns the forget set, after 0, 1, 2, 4 … steps.
    pub relearning: Option<[&'static [f64]; 3]>,
    /// Distances of the unlearned network and the oracle.
    pub moved: [f64; 2],
}

/// Unlearning that came out as retraining does.
pub const AS_RETRAINED: MadeUp = MadeUp {
    forget: [34.0, 28.0, 28.0],
    unseen: [32.0, 28.0, 28.0],
    test: [36.0, 36.0, 36.0],
    volumes: [6, 6],
    extra_ssim: 0.0,
    oracle: true,
    relearning: Some([&[0.1], &[0.5, 0.4, 0.2, 0.1], &[0.5, 0.4, 0.2, 0.1]]),
    moved: [0.3, 0.8],
};

/// Volumes differ alike for all networks, and each a little by itself.
fn scores(psnr: f64, network: usize, volumes: usize, extra_ssim: f64) -> Option<NetworkScores> {
    let volume = |i: usize| {
        let own = 0.02 * ((7 * i + 3 * network) % 5) as f64;
        let psnr = psnr + [-2.0, 1.0, 2.0, -1.0, 0.5, -0.5][i % 6] + own;
        let ssim = psnr / 50.0 + if network == 1 { extra_ssim } else { 0.0 };
        VolumeObserved {
            volume: format!("{i}.h5"),
            scores: Scores { psnr, ssim, nmse: 0.01 },
            slices: vec![0, 1],
            losses: vec![1.0 - ssim, 1.001 - ssim],
        }
    };
    NetworkScores::of((0..volumes).map(volume).collect())
}

fn set(name: &str, role: SetRole, psnr: [f64; 3], volumes: usize, made_up: &MadeUp) -> SetEvidence {
    let of = |network: usize| scores(psnr[network], network, volumes, made_up.extra_ssim);
    let file = |i: usize| VolumeDigest {
        path: format!("{name}/{i}.h5").into(),
        sha256: format!("{name} {i}"),
        slices: vec![SliceDigest { slice: 0, sha256: format!("{name} {i} 0") }],
    };
    SetEvidence {
        set: name.into(),
        role,
        paths: vec![name.into()],
        volumes,
        slices: 2 * volumes,
        of_forgotten_patients: 0,
        files: (0..volumes).map(file).collect(),
        scores: Each { before: of(0), after: of(1), oracle: of(2).filter(|_| made_up.oracle) },
        change: None,
        against_oracle: None,
        oracle_against_original: None,
    }
}

fn relearned(losses: &[f64]) -> Relearned {
    let point = |(i, &loss): (usize, &f64)| CurvePoint { step: (1 << i) >> 1, loss };
    Relearned { steps: None, curve: losses.iter().enumerate().map(point).collect(), diverged: false }
}

impl MadeUp {
    /// The record, before anything is concluded.
    pub fn audit(&self) -> Audit {
        let Self { forget, unseen, test, volumes, oracle, moved, .. } = *self;
        let weights = |name: &str| {
            let training = TrainedOn { sets: Vec::new(), compared: true };
            Some(WeightsFile { path: name.into(), sha256: name.into(), training })
        };
        let moved =
            moved.map(|relative_l2| Some(Moved { relative_l2, changed: f64::from(relative_l2 > 0.0) }));
        Audit {
            format: FORMAT,
            provenance: Provenance {
                kerase: "0".into(),
                commit: None,
                device: "cpu".into(),
                machine: "none".into(),
                precision: "fp32".into(),
            },
            request: Request::default(),
            run: RunPart {
                directory: "run".into(),
                method: "ft".into(),
                title: String::new(),
                objective: String::new(),
                steps: 1,
                epochs: 1,
                seconds: 1.0,
                by: None,
                warnings: Vec::new(),
                settings: String::new(),
                config_sha256: String::new(),
                unlearning_sha256: None,
            },
            weights: Each {
                before: weights("original"),
                after: weights("unlearned"),
                oracle: weights("oracle").filter(|_| oracle),
            },
            parameters: 1,
            settings: AuditSettings {
                forget: vec!["forget".into()],
                unseen: vec!["unseen".into()],
                tests: Vec::new(),
                sampling: Sampling::default(),
                loss: Loss::SsimL1,
                clip: None,
                low_memory: false,
                relearn_steps: 4,
                relearn_lr: 1e-4,
                seed: 1,
            },
            confidence: CONFIDENCE,
            sets: vec![
                set("forget", SetRole::Forget, forget, volumes[0], self),
                set("unseen", SetRole::Unseen, unseen, volumes[1], self),
                set("brain", SetRole::Test, test, 6, self),
            ],
            membership: Each { before: None, after: None, oracle: None },
            membership_against_oracle: None,
            membership_of_original: None,
            relearning: self.relearning.map(|[before, after, of_oracle]| Relearning {
                goal: before[0],
                most_steps: 4,
                lr: 1e-4,
                measured_slices: 2,
                networks: Each {
                    before: Some(relearned(before)),
                    after: Some(relearned(after)),
                    oracle: Some(relearned(of_oracle)).filter(|_| oracle),
                },
                half: None,
            }),
            distances: vec![PartDistance {
                part: "all".into(),
                weights: 1,
                after: moved[0],
                oracle: moved[1].filter(|_| oracle),
            }],
            flags: Vec::new(),
            not_judged: Vec::new(),
            notes: Vec::new(),
            note: String::new(),
            sha256: String::new(),
        }
    }
}
