//! Made-up results of experiments: as small as a test needs them, or a whole study with the paper's numbers.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use kerase::audit::distance::{Moved, PartDistance};
use kerase::audit::evidence::{Each, Flag, HalfWay, Kind, Relearning};
use kerase::audit::interval::Interval;
use kerase::audit::membership::{Auc, AucDifference, Size};
use kerase::audit::relearn::{CurvePoint, Relearned};
use kerase::experiment::results::{
    AuditResult, Epoch, Kinds, LossPoint, Measure, Measured, NamedScores, Part, Picture, Results, RunResult,
};
use kerase::metrics::Scores;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Epochs of the training that comes before.
pub const TRAINED: u64 = 50;
/// Size of the pictures.
pub const SIZE: [usize; 2] = [96, 80];

/// Three volumes a set, at the mean PSNR and one dB to either side; SSIM is a fiftieth of it.
pub fn measured(psnr: [f64; 3]) -> Measured {
    let volumes = |mean: f64| -> Vec<NamedScores> {
        let volume = |(i, psnr): (usize, f64)| NamedScores {
            volume: format!("volume{i}.h5"),
            scores: Scores { psnr, ssim: psnr / 50.0, nmse: 1.0 / psnr },
        };
        [mean - 1.0, mean, mean + 1.0].into_iter().enumerate().map(volume).collect()
    };
    Measured { bta: volumes(psnr[0]), kta: volumes(psnr[1]), ua: volumes(psnr[2]) }
}

/// A run of training with mean PSNR on BTA, KTA and UA: 1000 s in 2000 steps.
pub fn training(part: Part, seed: u64, psnr: [f64; 3]) -> RunResult {
    let label = if part == Part::Original { "G" } else { "oracle" };
    RunResult {
        part,
        label: label.into(),
        title: format!("{label} of the study"),
        method: None,
        fraction: None,
        compared: false,
        seed,
        directory: format!("runs/{label}-{seed}").into(),
        steps: 2000,
        seconds: 1000.0,
        epochs: vec![Epoch { epoch: TRAINED, seconds: 1000.0, measured: Some(measured(psnr)) }],
        kept_epoch: None,
        loss: Vec::new(),
        warnings: Vec::new(),
        by: None,
        threads: 0,
    }
}

/// A run of unlearning, measured after its one epoch: 100 s in 400 steps. None diverged.
pub fn unlearning(label: &str, method: &str, fraction: f64, seed: u64, psnr: Option<[f64; 3]>) -> RunResult {
    let epoch = Epoch { epoch: TRAINED + 1, seconds: 100.0, measured: psnr.map(measured) };
    RunResult {
        part: Part::Unlearned,
        label: label.into(),
        title: format!("{label} of the study"),
        method: Some(method.into()),
        fraction: Some(fraction),
        compared: true,
        directory: format!("runs/{label}-{fraction}-{seed}").into(),
        steps: 400,
        seconds: 100.0,
        epochs: vec![epoch],
        ..training(Part::Original, seed, [0.0; 3])
    }
}

pub fn results(runs: Vec<RunResult>) -> Results {
    Results {
        kinds: Kinds { retain: "brain".into(), forget: "knee".into() },
        kerase: "0.1.0".into(),
        commit: Some("0123abc".into()),
        name: "made-up".into(),
        title: "A made-up study with the paper's numbers".into(),
        settings: "# made up\nseeds = [1, 2, 3]\n\n[network]\ncascades = 12\n".into(),
        device: "cpu, 2 threads".into(),
        machine: "a machine that does not exist".into(),
        pictures: Vec::new(),
        runs,
        audits: Vec::new(),
    }
}

/// Label, method, fraction, and what Table 1 says of BTA, KTA and UA.
const METHODS: [(&str, &str, f64, [f64; 3]); 7] = [
    ("FT", "ft", 0.1, [39.18, 36.67, 37.18]),
    ("Full FT", "ft", 1.0, [39.12, 36.26, 36.60]),
    ("GA-ℓ1", "ga-l1", 0.0, [16.19, 14.15, 13.40]),
    ("GA", "ga", 0.0, [0.0; 3]),
    ("NL", "nl", 0.0, [16.44, 17.39, 17.04]),
    ("GA-ℓ1-FT", "ga-l1-ft", 0.1, [31.81, 27.09, 26.90]),
    ("NL-FT", "nl-ft", 0.1, [38.24, 31.18, 31.72]),
];

/// Table 3: fraction, then BTA and KTA of FT, NL-FT and GA-ℓ1-FT.
const FRACTIONS: [(f64, [[f64; 2]; 3]); 6] = [
    (0.01, [[39.18, 36.74], [25.61, 31.17], [25.39, 26.82]]),
    (0.05, [[39.05, 36.73], [28.88, 31.30], [29.50, 25.92]]),
    (0.1, [[39.09, 35.45], [38.24, 31.19], [32.13, 30.17]]),
    (0.2, [[39.07, 35.15], [38.83, 31.47], [33.75, 30.15]]),
    (0.5, [[39.05, 35.12], [38.48, 31.15], [32.38, 29.84]]),
    (1.0, [[39.12, 36.26], [37.46, 31.12], [31.93, 29.46]]),
];

/// Slices of a retain and of the forget set, as in the paper.
const RETAIN: f64 = 5898.0;
const FORGET: f64 = 536.0;
const SECONDS_PER_STEP: f64 = 0.2;

/// The whole study with the paper's numbers, a little different for each seed; GA diverges. No pictures.
pub fn study(seeds: u64, sweep: bool) -> Results {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut runs = Vec::new();
    for seed in 1..=seeds {
        let mut near = |psnr: [f64; 3]| psnr.map(|p| p + random.random_range(-0.08..0.08));
        let mut original = training(Part::Original, seed, near([39.07, 36.65, 37.13]));
        timed(&mut original, TRAINED as f64 * (RETAIN + FORGET));
        let mut oracle = training(Part::Oracle, seed, near([39.36, 31.82, 31.74]));
        timed(&mut oracle, TRAINED as f64 * RETAIN);
        runs.extend([original, oracle]);
        for (label, method, fraction, psnr) in METHODS {
            let psnr = (method != "ga").then(|| near(psnr));
            runs.push(of_epochs(label, method, fraction, seed, psnr, true));
        }
        for (fraction, rows) in FRACTIONS.into_iter().filter(|_| sweep) {
            for ((label, method), [bta, kta]) in
                [("FT", "ft"), ("NL-FT", "nl-ft"), ("GA-ℓ1-FT", "ga-l1-ft")].into_iter().zip(rows)
            {
                if fraction != 0.1 {
                    let psnr = Some(near([bta, kta, kta]));
                    runs.push(of_epochs(label, method, fraction, seed, psnr, false));
                }
            }
        }
    }
    for run in &mut runs {
        run.loss = curve(run, &mut random);
    }
    if let Some(run) = runs.iter_mut().find(|run| run.label == "GA-ℓ1-FT") {
        run.warnings.push("over-forgetting: KTA is 4.7 dB below the oracle's".into());
    }
    results(runs)
}

fn of_epochs(
    label: &str,
    method: &str,
    fraction: f64,
    seed: u64,
    psnr: Option<[f64; 3]>,
    compared: bool,
) -> RunResult {
    let mut run = unlearning(label, method, fraction, seed, psnr);
    run.compared = compared;
    run.fraction = (fraction > 0.0).then_some(fraction);
    timed(&mut run, 5.0 * (RETAIN * fraction + if method == "ft" { 0.0 } else { FORGET }));
    let original = [39.07, 36.65, 37.13];
    run.epochs = (1..=5)
        .map(|epoch| {
            let share = epoch as f64 / 5.0;
            let between = |i: usize| psnr.map(|psnr| original[i] + (psnr[i] - original[i]) * share.powf(0.4));
            let here = [0, 1, 2].map(between);
            let measured = match here {
                [Some(bta), Some(kta), Some(ua)] => Some(measured([bta, kta, ua])),
                // Diverges in its third epoch.
                _ => (epoch < 3).then(|| measured([30.0 - 9.0 * epoch as f64; 3])),
            };
            Epoch { epoch: TRAINED + epoch, seconds: run.seconds * share, measured }
        })
        .collect();
    run
}

fn timed(run: &mut RunResult, steps: f64) {
    run.steps = steps as u64;
    run.seconds = run.steps as f64 * SECONDS_PER_STEP;
    for epoch in &mut run.epochs {
        epoch.seconds = run.seconds;
    }
}

fn curve(run: &RunResult, random: &mut ChaCha8Rng) -> Vec<LossPoint> {
    let mut noise = || random.random_range(0.9..1.1);
    (1..=300u64)
        .map(|i| {
            let share = i as f64 / 300.0;
            let step = (run.steps as f64 * share) as u64;
            let learnt = (0.1 + 0.3 * (-6.0 * share).exp()) * noise();
            let lost = (0.1 + 0.5 * share) * noise();
            let forgets = run.method.as_deref().is_some_and(|method| method != "ft");
            let retains = run.fraction.is_some();
            match run.part {
                Part::Unlearned => LossPoint {
                    step,
                    loss: if run.method.as_deref() == Some("ga") && share > 0.5 {
                        f64::NAN
                    } else {
                        learnt - lost
                    },
                    retain_loss: retains.then_some(0.12 * noise()),
                    forget_loss: forgets.then_some(lost),
                },
                _ => LossPoint { step, loss: learnt, retain_loss: None, forget_loss: None },
            }
        })
        .collect()
}

/// Gives the compared runs audits: ascent stands out, fine-tuning forgets nothing, GA left no network.
pub fn with_audits(results: &mut Results) {
    let mut random = ChaCha8Rng::seed_from_u64(13);
    let compared: Vec<RunResult> =
        results.of_part(Part::Unlearned).filter(|run| run.compared).cloned().collect();
    for run in compared {
        let mut near = |value: f64| value * random.random_range(0.95..1.05);
        let method = run.method.clone().unwrap();
        let (auc, start, speed) = match method.as_str() {
            "ft" => (0.71, 1.02, 0.2),
            "nl-ft" => (0.55, 1.5, 0.03),
            "nl" => (0.6, 1.3, 0.05),
            _ => (0.12, 3.0, 0.01),
        };
        let volumes = |auc: f64, half: f64| Auc {
            auc,
            interval: Some(Interval { low: (auc - half).max(0.0), high: (auc + half).min(1.0) }),
            forget: Size { volumes: 18, slices: 536 },
            unseen: Size { volumes: 100, slices: 3000 },
        };
        let relearned = |start: f64, speed: f64| {
            let curve = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 100].map(|step: u64| CurvePoint {
                step,
                loss: 0.2 * (0.9 + (start - 0.9) * (-speed * step as f64).exp()),
            });
            let back = curve.iter().position(|point| point.loss <= 0.2);
            Relearned {
                steps: back.map(|at| curve[at].step),
                curve: curve[..=back.unwrap_or(curve.len() - 1)].to_vec(),
                diverged: false,
            }
        };
        let left = (method != "ga").then_some(());
        let after = left.map(|()| volumes(near(auc), 0.08));
        let flag = |kind: Kind, text: &str| Flag { kind, text: text.into() };
        let flags = match method.as_str() {
            "ga" => vec![flag(Kind::Diverged, "the run's loss was no longer finite")],
            "ft" => vec![
                flag(Kind::NothingForgotten, "forget: PSNR has changed by +0.05 dB (0.01 to 0.09)"),
                flag(Kind::StillRecognised, "losses on the forget set are smaller than on unseen volumes"),
            ],
            "nl-ft" => Vec::new(),
            _ => vec![flag(
                Kind::OverForgetting,
                "forget: PSNR is -4.70 dB (-5.10 to -4.30) against the oracle's",
            )],
        };
        let mut part = |part: String, weights: usize| PartDistance {
            part,
            weights,
            after: left.map(|()| Moved { relative_l2: near(0.02 * start), changed: 1.0 }),
            oracle: Some(Moved { relative_l2: near(0.9), changed: 1.0 }),
        };
        let cascades = (0..12).map(|cascade| (format!("cascades.{cascade}"), 2_450_000));
        let parts = std::iter::once(("sens_net".to_string(), 480_000)).chain(cascades);
        let distances =
            parts.chain([("all".to_string(), 29_936_966)]).map(|(name, weights)| part(name, weights));
        let less_oracle = |auc: Auc| {
            let difference = auc.auc - 0.51;
            let interval = Interval { low: difference - 0.11, high: difference + 0.11 };
            AucDifference { difference, interval: Some(interval) }
        };
        results.audits.push(AuditResult {
            distances: distances.collect(),
            audit: run.directory.join("audit.json"),
            label: run.label,
            seed: run.seed,
            membership: Each { before: Some(volumes(0.72, 0.07)), after, oracle: Some(volumes(0.51, 0.09)) },
            membership_against_oracle: after.map(less_oracle),
            relearning: Some(half_way(Relearning {
                goal: 0.2,
                most_steps: 100,
                lr: 1e-4,
                measured_slices: 64,
                networks: Each {
                    before: Some(Relearned::at_once(0.2)),
                    after: left.map(|()| relearned(start, speed)),
                    oracle: Some(relearned(1.8, 0.025)),
                },
                half: None,
            })),
            flags,
            notes: Vec::new(),
        });
    }
}

/// With the loss half-way from the oracle's to the goal, as an audit has it.
fn half_way(relearning: Relearning) -> Relearning {
    let first = relearning.networks.oracle.as_ref().unwrap().curve[0].loss;
    let loss = f64::midpoint(first, relearning.goal);
    let steps = relearning.networks.as_ref().and_then(|network| network.steps_to(loss));
    Relearning { half: Some(HalfWay { loss, steps }), ..relearning }
}

/// Gives the results pictures, and writes their files: a middle slice of two volumes a set, and of every method a
/// worst one.
pub fn with_pictures(results: &mut Results, experiment: &Path) {
    let mut labels: Vec<String> = Vec::new();
    for run in &results.runs {
        if !labels.contains(&run.label) {
            labels.push(run.label.clone());
        }
    }
    std::fs::create_dir_all(experiment.join("pictures")).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut picture =
        |measure: Measure, volume: usize, slice: usize, shown: &[String], worst_of: Option<String>| {
            let number = results.pictures.len();
            let stem = |name: &str| PathBuf::from(format!("pictures/{number}-{name}.f32"));
            let target = phantom(measure, volume);
            write(&experiment.join(stem("target")), &target);
            let mut images = Vec::new();
            for (i, label) in shown.iter().enumerate() {
                let psnr = psnr_of(results, label, measure);
                let amplitude = if psnr.is_finite() { 10f64.powf(-psnr / 20.0) * 3.4 } else { f64::NAN };
                let image: Vec<f32> = target
                    .iter()
                    .map(|t| (t + (amplitude * random.random_range(-0.5..0.5)) as f32).abs())
                    .collect();
                write(&experiment.join(stem(&i.to_string())), &image);
                images.push((label.clone(), stem(&i.to_string())));
            }
            results.pictures.push(Picture {
                measure,
                volume: format!(
                    "{}{volume:06}.h5",
                    if measure == Measure::Bta { "file_brain_" } else { "file1" }
                ),
                slice,
                worst_of,
                size: SIZE,
                max: 1.0,
                target: stem("target"),
                images,
            });
        };
    for measure in Measure::ALL {
        for volume in 0..2 {
            picture(measure, volume, 8, &labels, None);
        }
    }
    for (i, label) in
        labels.iter().enumerate().filter(|(_, label)| !["G", "oracle"].contains(&label.as_str()))
    {
        picture(Measure::Bta, i, i, &["G".into(), label.clone()], Some(label.clone()));
    }
}

fn psnr_of(results: &Results, label: &str, measure: Measure) -> f64 {
    let run = results.runs.iter().find(|run| run.label == label).unwrap();
    run.last().map_or(f64::NAN, |network| network.of(measure)[1].scores.psnr)
}

/// Ellipses within ellipses.
fn phantom(measure: Measure, volume: usize) -> Vec<f32> {
    let [height, width] = SIZE;
    let shift = volume as f64 * 0.04;
    let inside =
        |x: f64, y: f64, [cx, cy, a, b]: [f64; 4]| ((x - cx) / a).powi(2) + ((y - cy) / b).powi(2) < 1.0;
    let pixel = |i: usize| {
        let x = (i % width) as f64 / width as f64 * 2.0 - 1.0;
        let y = (i / width) as f64 / height as f64 * 2.0 - 1.0;
        let mut value: f32 = 0.0;
        let parts: &[([f64; 4], f32)] = match measure {
            Measure::Bta => &[
                ([0.0, 0.0, 0.8, 0.92], 0.9),
                ([0.0, 0.0, 0.72, 0.85], -0.45),
                ([-0.25, -0.1, 0.15, 0.35], 0.4),
                ([0.25, -0.1, 0.15, 0.35], 0.4),
            ],
            _ => &[
                ([0.0, -0.5, 0.7, 0.42], 0.6),
                ([0.0, 0.5, 0.65, 0.4], 0.6),
                ([-0.55, 0.0, 0.2, 0.12], 0.35),
                ([0.1, -0.5, 0.2, 0.2], 0.25),
            ],
        };
        for &([cx, cy, a, b], level) in parts {
            if inside(x, y, [cx + shift, cy, a, b]) {
                value += level;
            }
        }
        value.max(0.0)
    };
    (0..height * width).map(pixel).collect()
}

fn write(path: &Path, image: &[f32]) {
    let bytes: Vec<u8> = image.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(path, bytes).unwrap();
}
