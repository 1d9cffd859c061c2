//! Audits: the statistics against definitions and known answers, the record of a run from end to end, and what verify
//! says of things that were changed.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use kerase::audit::evidence::{Each, Kind};
use kerase::audit::gather::{Findings, Seen};
use kerase::audit::interval::{Estimate, Interval, t_quantile};
use kerase::audit::membership::{Auc, AucDifference};
use kerase::audit::network::Network;
use kerase::audit::record::digest;
use kerase::audit::settings::SetRole;
use kerase::audit::{Audit, AuditSettings, Observed, Request, Subject};
use kerase::cpu::Cpu;
use kerase::model::Weights;
use kerase::provenance::Provenance;
use kerase::simulate::Anatomy;
use kerase::unlearn::config::NamedSet;
use kerase::unlearn::trained_on::TrainedOn;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use run_support::{NETWORK_OPTIONS, SAMPLING, Sets};
use support::Folder;

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

/// As the definition has it: every pair of slices.
fn brute(forget: &[Vec<f64>], unseen: &[Vec<f64>]) -> f64 {
    let (forget, unseen) = (forget.concat(), unseen.concat());
    let pairs = forget.iter().flat_map(|f| unseen.iter().map(move |u| (f, u)));
    let won = pairs.map(|(f, u)| {
        if f < u {
            1.0
        } else if f == u {
            0.5
        } else {
            0.0
        }
    });
    won.sum::<f64>() / (forget.len() * unseen.len()) as f64
}

#[test]
fn the_auc_is_that_of_all_pairs() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for round in 0..50 {
        let mut volumes = |count: usize| -> Vec<Vec<f64>> {
            (0..count)
                .map(|_| {
                    let slices = random.random_range(1..6);
                    // A few values only: many ties.
                    (0..slices).map(|_| f64::from(random.random_range(0..6u8)) / 7.0).collect()
                })
                .collect()
        };
        let (forget, unseen) = (volumes(1 + round % 5), volumes(1 + round % 7));
        let found = Auc::of(&forget, &unseen).unwrap();
        near(found.auc, brute(&forget, &unseen));
        // Seen from the other side.
        let back = Auc::of(&unseen, &forget).unwrap();
        near(found.auc + back.auc, 1.0);
        if let (Some(Interval { low, high }), Some(other)) = (found.interval, back.interval) {
            assert!(low <= found.auc && found.auc <= high);
            near(high - low, other.high - other.low);
        }
        if forget.len() == 1 || unseen.len() == 1 {
            assert_eq!(found.interval, None, "one volume has no spread");
        }
    }
}

#[test]
fn aucs_that_one_knows() {
    let of = |forget: &[&[f64]], unseen: &[&[f64]]| {
        let own = |volumes: &[&[f64]]| volumes.iter().map(|volume| volume.to_vec()).collect::<Vec<_>>();
        Auc::of(&own(forget), &own(unseen))
    };
    let apart = of(&[&[0.1], &[0.2, 0.3]], &[&[0.4], &[0.5]]).unwrap();
    assert_eq!((apart.auc, apart.interval), (1.0, None));
    // Of m + n volumes that differ in nothing, n are all beyond the others in 2 of so many ways to deal them: 6, 20, 36, 45
    // and 70.
    for (forget, unseen, tells) in
        [(2, 2, false), (3, 3, false), (2, 7, false), (2, 8, true), (8, 2, true), (4, 4, true)]
    {
        let volumes = |count: usize, loss: f64| vec![vec![loss]; count];
        let found = Auc::of(&volumes(forget, 0.1), &volumes(unseen, 0.2)).unwrap();
        assert_eq!(found.tells(), tells.then_some(Ordering::Greater), "{forget} and {unseen} volumes");
        let beyond = Auc::of(&volumes(forget, 0.2), &volumes(unseen, 0.1)).unwrap();
        assert_eq!((beyond.auc, beyond.tells()), (0.0, tells.then_some(Ordering::Less)));
    }
    let equal = of(&[&[0.5], &[0.5]], &[&[0.5], &[0.5]]).unwrap();
    assert_eq!((equal.auc, equal.interval, equal.tells()), (0.5, None, None));
    let single = of(&[&[0.1, 0.2]], &[&[0.4], &[0.5]]).unwrap();
    assert_eq!((single.auc, single.tells()), (1.0, None), "one volume is not enough to say");
    assert_eq!((single.forget.volumes, single.forget.slices), (1, 2));
    assert_eq!(of(&[&[f64::NAN]], &[&[0.5]]), None);
    assert_eq!(of(&[&[]], &[&[0.5]]), None);
    // An infinite loss is larger than all others.
    assert_eq!(of(&[&[f64::INFINITY]], &[&[0.5]]).unwrap().auc, 0.0);

    // DeLong by hand: forget 1, 3 and unseen 2, 4. Places ψ: 1 and 1/2 of the forget set, 1/2 and 1 of the unseen one, each
    // with sample variance 1/8; the variance of the AUC is 1/8/2 + 1/8/2.
    let found = of(&[&[1.0], &[3.0]], &[&[2.0], &[4.0]]).unwrap();
    let Interval { low, high } = found.interval.unwrap();
    near(found.auc, 0.75);
    // On the scale of ln(0.75 / 0.25), whose slope is 1 / (0.75 · 0.25). Two volumes leave one degree of freedom.
    let half = t_quantile(1) * (1.0f64 / 8.0).sqrt() / (0.75 * 0.25);
    for (end, logit) in [(low, 3f64.ln() - half), (high, 3f64.ln() + half)] {
        near(end, 1.0 / (1.0 + (-logit).exp()));
    }
    // Slices of one volume that say the same are one observation: only the number of volumes counts.
    let copies = of(&[&[1.0; 5], &[3.0; 5]], &[&[2.0; 3], &[4.0; 3]]).unwrap();
    near(copies.auc, 0.75);
    near(copies.interval.unwrap().low, low);
}

/// How often of `rounds` a 95 % interval holds the truth.
fn coverage(rounds: u32, mut round: impl FnMut() -> bool) -> f64 {
    f64::from((0..rounds).filter(|_| round()).count() as u32) / f64::from(rounds)
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut normal = move || -> f64 { StandardNormal.sample(&mut random) };
    for volumes in [3, 5, 20] {
        let found = coverage(2000, || {
            let values: Vec<f64> = (0..volumes).map(|_| 7.0 + 2.0 * normal()).collect();
            Estimate::of(&values).unwrap().interval.unwrap().contains(7.0)
        });
        assert!((found - 0.95).abs() < 0.02, "{volumes} volumes: {found}");
    }
    // Losses with a part that all slices of a volume share and one of their own, both of variance 1; the unseen ones are
    // larger by a shift. AUC = Φ(shift / √(2 · 2)).
    for (volumes, shift, auc) in
        [(3, 0.0, 0.5), (6, 0.0, 0.5), (6, 1.0, 0.691_462), (20, 1.0, 0.691_462), (20, 2.5, 0.894_350)]
    {
        let found = coverage(1000, || {
            let mut set = |mean: f64| -> Vec<Vec<f64>> {
                let mut volume = || {
                    let own = normal();
                    (0..4).map(|_| mean + own + normal()).collect()
                };
                (0..volumes).map(|_| volume()).collect()
            };
            let (forget, unseen) = (set(0.0), set(shift));
            Auc::of(&forget, &unseen).unwrap().interval.is_some_and(|interval| interval.contains(auc))
        });
        assert!((0.935..0.995).contains(&found), "{volumes} volumes, AUC {auc}: {found}");
    }
}

#[test]
fn a_difference_of_aucs_is_made_slice_by_slice() {
    let volumes = |losses: &[f64]| losses.iter().map(|&loss| vec![loss]).collect::<Vec<_>>();
    // Places of the forget set 1 and 1/2, of the unseen one 1/2 and 1, as above; of the other network 1/2 and 0, 0 and 1/2.
    let (one, other) = ([&[1.0, 3.0], &[2.0, 4.0]], [&[2.0, 4.0], &[1.0, 3.0]]);
    let [[forget, unseen], [forget_of_other, unseen_of_other]] =
        [one, other].map(|sets| sets.map(|s| volumes(s)));
    let found = AucDifference::of([&forget, &unseen], [&forget_of_other, &unseen_of_other]).unwrap();
    near(found.difference, 0.5);
    // Volume by volume they differ by 1/2 and 1/2: nothing to tell a spread from.
    assert_eq!((found.interval, found.tells()), (None, None));
    let same = AucDifference::of([&forget, &unseen], [&forget, &unseen]).unwrap();
    assert_eq!((same.difference, same.interval), (0.0, None));
    // By hand: a third network has places 1 and 1, 1 and 1. The first's are less by 0 and 1/2, and 1/2 and 0: 1/8 each way.
    let [low, high] = [volumes(&[1.0, 1.0]), volumes(&[2.0, 2.0])];
    let found = AucDifference::of([&forget, &unseen], [&low, &high]).unwrap();
    near(found.difference, -0.25);
    let Interval { low, high } = found.interval.unwrap();
    near(high - low, 2.0 * t_quantile(1) * (1.0f64 / 8.0).sqrt());
    near(high + low, -0.5);
    // Two volumes say nothing, and people are not told of what cannot be.
    assert_eq!(found.possible(), Some(Interval { low: -1.0, high: 1.0 }));
}

/// Where the unseen volumes are harder, for networks that saw neither set too: an AUC is far from 0.5, its difference from
/// the oracle's is not far from 0.
#[test]
fn what_makes_one_set_easier_counts_for_neither_network() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut normal = move || -> f64 { StandardNormal.sample(&mut random) };
    for ([few, volumes], shift) in
        [([4, 4], 0.0), ([4, 4], 1.0), ([10, 10], 1.0), ([10, 10], 2.5), ([2, 20], 0.0), ([2, 40], 0.0)]
    {
        let (mut recognised, mut missed, rounds) = (0, 0, 1000);
        for _ in 0..rounds {
            let mut set = |mean: f64, volumes: usize| -> [Vec<Vec<f64>>; 2] {
                let mut networks = [vec![], vec![]];
                for _ in 0..volumes {
                    let own = normal();
                    let slices: Vec<f64> = (0..4).map(|_| mean + own + normal()).collect();
                    // Two networks agree in part on what is hard.
                    for network in &mut networks {
                        let of_volume = 0.5 * normal();
                        network.push(slices.iter().map(|loss| loss + of_volume + 0.5 * normal()).collect());
                    }
                }
                networks
            };
            let ([forget, forget_of_oracle], [unseen, unseen_of_oracle]) =
                (set(0.0, few), set(shift, volumes));
            let found =
                AucDifference::of([&forget, &unseen], [&forget_of_oracle, &unseen_of_oracle]).unwrap();
            missed += usize::from(found.tells().is_some());
            recognised += usize::from(Auc::of(&forget, &unseen).unwrap().tells().is_some());
        }
        let share = |count: usize| count as f64 / rounds as f64;
        println!("{volumes} volumes, shift {shift}: {} {}", share(missed), share(recognised));
        assert!(share(missed) < 0.07, "{volumes} volumes, shift {shift}: {}", share(missed));
        assert!(shift < 2.0 || share(recognised) > 0.9, "{}", share(recognised));
    }
}

/// A folder with sets, an original, an oracle, and a run that forgot the knees.
fn unlearned() -> Folder {
    let folder = Folder::new();
    folder.add("brain", Anatomy::Brain, 1..=2);
    folder.add("knee", Anatomy::Knee, 1..=2);
    folder.add("unseen", Anatomy::Knee, 11..=13);
    folder.add("test", Anatomy::Brain, 11..=13);
    let options = format!("{NETWORK_OPTIONS} {SAMPLING} --epochs 30 --lr 3e-3");
    folder.kerase(&format!("train --data brain --data knee --out trained {options}")).succeeded();
    folder.kerase(&format!("train --data brain --out oracle {options}")).succeeded();
    let line = "unlearn --method ga-ft --model trained/model.safetensors --retain brain --forget knee --out run \
                --optimizer-state fresh --retain-fraction 1 --epochs 3";
    folder.kerase(&format!("{line} {SAMPLING}")).succeeded();
    folder
}

const AUDIT: &str = "audit --run run --unseen unseen --test brain=test --oracle oracle/model.safetensors";

#[test]
fn an_audit_says_what_was_done_and_is_verified() {
    let folder = unlearned();
    let said =
        folder.kerase(&format!("{AUDIT} --relearn-steps 12 --request-id R-7 --reason withdrawn")).succeeded();
    for part in ["request: R-7", "membership AUC", "cascades.0", "no certificate", "SHA-256 of the record"] {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
    let bytes = folder.read("run/audit.json");
    let audit = Audit::read(&folder.path("run/audit.json")).unwrap();
    assert_eq!(audit.request, Request { id: Some("R-7".into()), reason: Some("withdrawn".into()) });
    let record = folder.json("run/unlearning.json");
    assert_eq!(serde_json::to_value(&audit.forget().files).unwrap(), record["forgotten"]);
    assert_eq!(audit.weights.before.as_ref().unwrap().sha256, record["weights_before_sha256"]);
    assert_eq!(audit.weights.after.as_ref().unwrap().sha256, record["weights_after_sha256"]);
    let shown: Vec<_> = audit.sets.iter().map(|set| (set.set.as_str(), set.role, set.slices)).collect();
    assert_eq!(
        shown,
        [("forget", SetRole::Forget, 6), ("unseen", SetRole::Unseen, 9), ("brain", SetRole::Test, 9)]
    );

    // The record's numbers follow from the losses and scores that it has itself, and those are kerase evaluate's.
    let forget = audit.sets[0].scores.after.as_ref().unwrap();
    let line =
        format!("evaluate --model run/model.safetensors --data forget=knee {SAMPLING} --out metrics.json");
    folder.kerase(&line).succeeded();
    let metrics = folder.json("metrics.json");
    for (volume, slices) in forget.volumes.iter().zip(metrics["slices"].as_array().unwrap().chunks(3)) {
        for (loss, slice) in volume.losses.iter().zip(slices) {
            let of_ssim = 1.0 - slice["ssim"].as_f64().unwrap();
            assert!((loss - of_ssim).abs() < 1e-5 && *loss >= of_ssim, "{loss} and {slice}");
        }
    }
    assert_eq!(forget.psnr.mean, metrics["summary"][0]["scores"]["psnr"]["mean"].as_f64().unwrap());
    let losses = |set: usize| -> Vec<Vec<f64>> {
        let volumes = &audit.sets[set].scores.after.as_ref().unwrap().volumes;
        volumes.iter().map(|volume| volume.losses.clone()).collect()
    };
    assert_eq!(audit.membership.after, Auc::of(&losses(0), &losses(1)));
    let relearning = audit.relearning.as_ref().unwrap();
    assert_eq!(relearning.networks.before.as_ref().unwrap().steps, Some(0));
    let curve = &relearning.networks.oracle.as_ref().unwrap().curve;
    assert!(curve.len() > 1 && curve[0].loss > relearning.goal, "{curve:?}");
    assert!(
        curve[curve.len() - 1].loss < curve[0].loss,
        "fine-tuning on the forget set teaches it: {curve:?}"
    );
    let parts: Vec<&str> = audit.distances.iter().map(|part| part.part.as_str()).collect();
    assert_eq!(parts, ["sens_net", "cascades.0", "all"]);

    let verified = folder.kerase("verify run/audit.json").succeeded();
    assert!(verified.contains("8 files, 24 slices and 3 networks agree"), "{verified}");
    folder.kerase(&format!("{AUDIT} --relearn-steps 12")).failed(2, &["audit.json exists", "--overwrite"]);
    let again =
        format!("{AUDIT} --relearn-steps 12 --request-id R-7 --reason withdrawn --overwrite --threads");
    for threads in [1, 3] {
        folder.kerase(&format!("{again} {threads}")).succeeded();
        assert!(folder.read("run/audit.json") == bytes, "the same bytes with {threads} threads");
    }

    the_page_has_it_all(&folder, &audit);
    tampering(&folder);
    refusals(&folder);
    one_volume(&folder);
    diverged(&folder);
}

/// Left in target/tmp/audit.html, to be looked at.
fn the_page_has_it_all(folder: &Folder, audit: &Audit) {
    let html = String::from_utf8(folder.read("run/audit.html")).unwrap();
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit.html"), &html).unwrap();
    let forgotten = &audit.forget().files;
    let files = forgotten.iter().map(|volume| &volume.sha256);
    let slices = forgotten.iter().flat_map(|volume| volume.slices.iter().map(|slice| &slice.sha256));
    let others = audit.sets[1..].iter().flat_map(|set| set.files.iter().map(|volume| &volume.sha256));
    let networks = audit.weights.named().map(|(_, file)| &file.sha256);
    let digests: Vec<&String> =
        files.chain(slices).chain(others).chain(networks).chain([&audit.sha256]).collect();
    assert_eq!(digests.len(), 2 + 6 + 6 + 3 + 1);
    for digest in digests {
        assert!(html.contains(digest.as_str()), "{digest}");
    }
    let psnr = audit.sets[1].scores.oracle.as_ref().unwrap().psnr;
    let interval = psnr.interval.unwrap();
    let shown = format!("{:.2}\u{a0}dB ({:.2} to {:.2})", psnr.mean, interval.low, interval.high);
    for part in
        [&shown, "R-7", "withdrawn", "cascades.0", "no certificate", "retain_fraction", "<svg class=\"plot\""]
    {
        assert!(html.contains(part), "'{part}' is not on the page");
    }
    for flag in &audit.flags {
        assert!(html.contains(flag.kind.name()), "{flag:?}");
    }
    assert!(!html.contains("http://") && !html.contains("https://"));

    folder.kerase("report run --out page.html").succeeded();
    assert!(folder.read("page.html") == html.as_bytes());
    folder.kerase("report trained").failed(2, &["no results.json"]);
    std::fs::create_dir(folder.path("unaudited")).unwrap();
    std::fs::copy(folder.path("run/unlearning.json"), folder.path("unaudited/unlearning.json")).unwrap();
    folder.kerase("report unaudited").failed(2, &["kerase audit --run unaudited"]);
}

/// Changes one thing at a time, and puts it back.
fn tampering(folder: &Folder) {
    let changed = |file: &str, change: &dyn Fn(&mut Vec<u8>), parts: &[&str]| {
        let kept = folder.read(file);
        let mut bytes = kept.clone();
        change(&mut bytes);
        std::fs::write(folder.path(file), bytes).unwrap();
        folder.kerase("verify run/audit.json").failed(1, parts);
        std::fs::write(folder.path(file), kept).unwrap();
        folder.kerase("verify run").succeeded();
    };
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(from), "{from}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        }
    };
    // In the middle of a file lies k-space.
    let middle = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    };
    changed("knee/file1000002.h5", &middle, &["file1000002.h5: SHA-256 is", "file1000002.h5 slice "]);
    // What is no number of a slice.
    let after = |bytes: &mut Vec<u8>| bytes.push(0);
    changed("knee/file1000001.h5", &after, &["file1000001.h5: SHA-256", "the same numbers still"]);
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(100);
    changed("knee/file1000001.h5", &cut, &["file1000001.h5"]);
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    changed("run/model.safetensors", &last, &["weights after", "run/model.safetensors"]);
    changed("trained/model.safetensors", &last, &["weights before", "trained/model.safetensors"]);
    changed("oracle/model.safetensors", &last, &["weights of the oracle", "oracle/model.safetensors"]);
    changed("run/config.toml", &replace("epochs = 3", "epochs = 4"), &["config.toml"]);
    changed(
        "run/unlearning.json",
        &replace("\"slice\": 1", "\"slice\": 2"),
        &["unlearning.json", "lists other"],
    );
    changed(
        "run/audit.json",
        &replace("withdrawn", "mistaken"),
        &["the record was changed after it was made"],
    );
    changed("run/audit.json", &replace("1000001.h5", "1000003.h5"), &["was changed", "file1000003.h5"]);

    // Sets that numbers are of, beside the forget set.
    changed("unseen/file1000012.h5", &middle, &["unseen/file1000012.h5: SHA-256 is"]);
    changed("test/file_brain_AXT2_200_0000013.h5", &cut, &["test/file_brain_AXT2_200_0000013.h5"]);
    // Somebody who changes what is concluded, and makes a digest for it.
    let concluded = |place: &'static str, value: serde_json::Value| {
        move |bytes: &mut Vec<u8>| {
            let mut record: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            *record.pointer_mut(place).unwrap() = value.clone();
            record["sha256"] = digest(&record).into();
            *bytes = serde_json::to_vec(&record).unwrap();
        }
    };
    for (place, value, said) in [
        ("/membership/after/auc", 0.5.into(), "membership.after.auc does not follow"),
        ("/membership/oracle/interval/low", 0.25.into(), "membership.oracle.interval.low does not follow"),
        ("/flags", serde_json::json!([{"kind": "diverged", "text": "it did"}]), "flags does not follow"),
        ("/notes", serde_json::json!(["all is well"]), "notes does not follow"),
        ("/sets/0/scores/after/psnr/mean", 30.0.into(), "sets[0].scores.after.psnr.mean does not follow"),
        ("/sets/1/against_oracle", serde_json::Value::Null, "sets[1].against_oracle does not follow"),
        ("/relearning/networks/after/steps", 1.into(), "relearning.networks.after.steps does not follow"),
        ("/relearning/half/steps/oracle", 1.into(), "relearning.half.steps.oracle does not follow"),
        (
            "/distances/0/after/changed",
            0.125.into(),
            "distances[0].after.changed does not follow from the weights",
        ),
        ("/sets/0/scores/after/volumes/0/losses/0", 0.001.into(), "does not follow"),
    ] {
        changed("run/audit.json", &concluded(place, value), &[said]);
    }

    // All of it is named, not only the first.
    let two = |bytes: &mut Vec<u8>| {
        concluded("/membership/after/auc", 0.5.into())(bytes);
        concluded("/sets/0/scores/after/psnr/mean", 30.0.into())(bytes);
    };
    changed(
        "run/audit.json",
        &two,
        &["membership.after.auc does not", "sets[0].scores.after.psnr.mean does not"],
    );

    let kept = folder.read("run/audit.json");
    for broken in ["{}", "no JSON", "{\"format\": 99}"] {
        std::fs::write(folder.path("run/audit.json"), broken).unwrap();
        folder.kerase("verify run/audit.json").failed(2, &["audit.json"]);
    }
    std::fs::write(folder.path("run/audit.json"), kept).unwrap();

    // Everything moved: the run's own files are found beside the record, the rest under a root.
    let places = ["knee", "unseen", "test", "trained", "oracle", "run"];
    std::fs::create_dir(folder.path("archive")).unwrap();
    places.iter().for_each(|p| std::fs::rename(folder.path(p), folder.path("archive").join(p)).unwrap());
    folder.kerase("verify archive/run/audit.json").failed(1, &["file1000001.h5", "weights before"]);
    folder.kerase("verify archive/run/audit.json --root archive").succeeded();
    folder.kerase("verify archive/run/audit.json --data-root nowhere").failed(2, &["nowhere"]);
    places.iter().for_each(|p| std::fs::rename(folder.path("archive").join(p), folder.path(p)).unwrap());
}

fn refusals(folder: &Folder) {
    let again = |rest: &str| format!("audit --run run --overwrite {rest}");
    folder.kerase(&again("--unseen knee")).failed(2, &["forget", "unseen", "the same file"]);
    folder.kerase(&again("--unseen unseen --test a=brain")).failed(2, &["retain", "the same file"]);
    folder.kerase(&again("--unseen unseen --test unseen=test")).failed(2, &["unseen", "already"]);
    folder.kerase(&again("--unseen unseen --oracle nowhere")).failed(2, &["nowhere"]);
    for (weights, name) in [("trained", "original"), ("run", "unlearned")] {
        std::fs::copy(folder.path(weights).join("model.safetensors"), folder.path("copy.safetensors"))
            .unwrap();
        let line = again("--unseen unseen --oracle copy.safetensors");
        folder.kerase(&line).failed(2, &["copy.safetensors", name, "an oracle was trained without"]);
    }
    // Further from the original, but of a run that learnt the knees.
    let options = format!("{NETWORK_OPTIONS} {SAMPLING} --epochs 1");
    folder.kerase(&format!("train --data brain --data knee --out learnt {options}")).succeeded();
    // What was trained on the forget set is no oracle; the original was trained on more than the retain set may say.
    let oracle = "--unseen unseen --oracle learnt/model.safetensors";
    folder.kerase(&again(oracle)).failed(2, &["the oracle's training", "forget", "the same file"]);
    let config = folder.read("trained/config.toml");
    let more = String::from_utf8(config.clone()).unwrap();
    let (first, last) = more.split_once("data = [").unwrap();
    let unseen = folder.path("unseen");
    std::fs::write(folder.path("trained/config.toml"), format!("{first}data = [{unseen:?}, {last}")).unwrap();
    folder
        .kerase(&again("--unseen unseen"))
        .failed(2, &["the original's training", "unseen", "the same file"]);
    std::fs::write(folder.path("trained/config.toml"), config).unwrap();
    folder.kerase("audit --run trained --unseen unseen").failed(2, &["kerase train"]);
    folder.kerase("audit --run knee --unseen unseen").failed(2, &["config.toml"]);
    // A run that was stopped, and weights of another.
    let line = "unlearn --method ft --model trained/model.safetensors --retain brain --forget knee --out other \
                --no-measure --epochs 1";
    folder.kerase(&format!("{line} {SAMPLING} --retain-fraction 1")).succeeded();
    let weights = folder.read("other/model.safetensors");
    std::fs::copy(folder.path("run/model.safetensors"), folder.path("other/model.safetensors")).unwrap();
    folder.kerase("audit --run other --unseen unseen").failed(2, &["does not hold the weights of"]);
    std::fs::write(folder.path("other/model.safetensors"), weights).unwrap();
    std::fs::remove_file(folder.path("other/unlearning.json")).unwrap();
    folder.kerase("audit --run other --unseen unseen").failed(2, &["unlearn --resume --out other"]);
}

fn one_volume(folder: &Folder) {
    folder.add("single", Anatomy::Knee, 21..=21);
    let line = "audit --run run --overwrite --unseen single --relearn-steps 0";
    let said = folder.kerase(line).succeeded();
    assert!(said.contains("note: one volume only, so that there is no interval: unseen"), "{said}");
    let audit = Audit::read(&folder.path("run/audit.json")).unwrap();
    assert_eq!(audit.membership.after.unwrap().interval, None);
    assert_eq!(audit.sets[1].scores.after.as_ref().unwrap().psnr.interval, None);
    assert!(audit.relearning.is_none() && audit.membership.oracle.is_none());
    assert!(audit.notes.iter().any(|note| note.contains("no oracle")));
}

/// Networks whose images are not finite, before, after and as the oracle, and a run that left none.
fn diverged(folder: &Folder) {
    let subject = || Subject::read(&folder.path("run"), false).unwrap();
    let tests = vec![NamedSet { name: "brain".into(), path: folder.path("test") }];
    let settings = AuditSettings {
        relearn_steps: 2,
        ..AuditSettings::new(&subject().config, &[folder.path("unseen")], tests)
    };
    let (cpu, stop) = (Cpu::<f32>::default(), AtomicBool::new(false));
    let look = |weights: &Weights, goal: Option<f64>| {
        let network = Network { name: "a network", weights, goal };
        Observed::of(&cpu, &network, &settings.open().unwrap(), &settings, &stop).unwrap().unwrap()
    };
    let wild =
        |weights: &Weights| Weights { parameters: vec![1e38; weights.parameters.len()], ..weights.clone() };
    let record = |subject: Subject, after: Option<Observed>, oracle: Option<Weights>| {
        let before = look(&subject.before, None);
        let seen = |weights: Weights| Seen {
            path: "oracle.safetensors".into(),
            observed: look(&weights, before.goal()),
            weights,
        };
        let oracle = oracle.map(seen);
        let provenance = Provenance {
            kerase: "0".into(),
            commit: None,
            device: "cpu".into(),
            machine: "none".into(),
            precision: "fp32".into(),
        };
        let (sets, settings) = (settings.open().unwrap(), settings.clone());
        let files = sets.digests().unwrap();
        subject.check_forgotten(sets.forget(), &files[0]).unwrap();
        let trained = || Some(TrainedOn { sets: vec!["somewhere".into()], compared: true });
        let findings = Findings {
            subject,
            sets,
            files,
            trained_on: Each { before: trained(), after: trained(), oracle: trained() },
            settings,
            before,
            after,
            oracle,
            request: Request::default(),
            provenance,
        };
        let audit = findings.record().unwrap();
        audit.write(&folder.path("diverged.json")).unwrap();
        assert_eq!(Audit::read(&folder.path("diverged.json")).unwrap(), audit, "it can be read again");
        audit
    };
    let kinds = |audit: &Audit| audit.flags.iter().map(|flag| flag.kind).collect::<Vec<_>>();

    let run = subject();
    let weights = run.after.clone().unwrap();
    let after = look(&wild(&weights), Some(0.1));
    assert_eq!(after.sets, [None, None, None]);
    assert_eq!(after.relearned, None);
    let audit = record(run, Some(after), Some(wild(&weights)));
    assert_eq!(kinds(&audit), [Kind::Diverged]);
    assert!(audit.sets.iter().all(|set| set.scores.after.is_none() && set.scores.before.is_some()));
    assert_eq!((&audit.membership.after, &audit.membership.oracle), (&None, &None));
    assert!(
        audit.notes.iter().any(|note| note.contains("oracle's images are not finite")),
        "{:?}",
        audit.notes
    );

    // The original itself, unlearned by nobody: nothing forgotten, back at once.
    let run = subject();
    let same = run.before.clone();
    let goal = look(&same, None).goal();
    let observed = look(&same, goal);
    let audit = record(Subject { after: Some(same.clone()), ..run }, Some(observed), Some(weights));
    assert!(kinds(&audit).contains(&Kind::NothingForgotten), "{:?}", audit.flags);
    assert_eq!(audit.relearning.unwrap().networks.after.unwrap().steps, Some(0));
    assert_eq!(audit.sets[0].change.unwrap().psnr.mean, 0.0);

    // A run that stopped because of its loss.
    let record_of_run = folder.read("run/unlearning.json");
    std::fs::remove_file(folder.path("run/unlearning.json")).unwrap();
    let run = Subject::read(&folder.path("run"), true).unwrap();
    let audit = record(run, None, None);
    assert_eq!(kinds(&audit), [Kind::Diverged]);
    assert_eq!(audit.weights.after, None);
    std::fs::write(folder.path("run/unlearning.json"), record_of_run).unwrap();
    folder
        .kerase("verify run/unlearning.json")
        .failed(2, &["run/unlearning.json", "kerase audit makes a record"]);
}
