//! What stands out in an audit, and what it cannot say. The bounds stand here, and in docs/audit.md.

use std::cmp::Ordering;

use crate::audit::evidence::{Audit, Flag, Kind, NetworkScores, SetEvidence, WeightsFile};
use crate::audit::interval::{Estimate, Interval};
use crate::audit::membership::{Auc, AucDifference};
use crate::audit::relearn::Relearned;
use crate::audit::settings::SetRole;

/// Differences of the mean PSNR that are smaller are not worth a flag, in dB.
pub const SMALLEST: f64 = 0.1;

/// All that stands out.
pub fn flags(audit: &Audit) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut flag = |kind: Kind, text: String| flags.push(Flag { kind, text });
    if let Some(text) = diverged(audit) {
        flag(Kind::Diverged, text);
    }
    for set in &audit.sets {
        let Some(difference) = set.against_oracle_psnr else { continue };
        let kind = if set.role == SetRole::Test { Kind::RetainDamaged } else { Kind::OverForgetting };
        let clearly = difference.interval.is_some_and(|interval| interval.high < 0.0);
        if clearly && difference.mean < -SMALLEST {
            flag(kind, format!("{}: PSNR is {} against the oracle's", set.set, decibels(difference)));
        }
    }
    if let Some(text) = nothing_forgotten(audit) {
        flag(Kind::NothingForgotten, text);
    }
    if let Some((kind, text)) = membership(audit) {
        flag(kind, text);
    }
    if let Some(text) = relearns_fast(audit) {
        flag(Kind::RelearnsFast, text);
    }
    flags
}

fn diverged(audit: &Audit) -> Option<String> {
    if audit.weights.after.is_none() {
        return Some(
            "the run's loss or gradient was no longer finite, and it stopped: there is no network to look at"
                .into(),
        );
    }
    let sets: Vec<&str> =
        audit.sets.iter().filter(|set| set.scores.after.is_none()).map(|set| set.set.as_str()).collect();
    if !sets.is_empty() {
        return Some(format!("the network's images are not finite on: {}", sets.join(", ")));
    }
    let relearned = audit.relearning.as_ref()?.networks.after.as_ref()?;
    relearned.diverged.then(|| "a loss was not finite while the network relearned the forget set".into())
}

fn nothing_forgotten(audit: &Audit) -> Option<String> {
    let moved = audit.distances.last()?.after?;
    if moved.changed == 0.0 {
        return Some("no weight has changed".into());
    }
    let change = audit.forget().change_psnr?;
    // Also where a network has become better.
    (change.mean > -SMALLEST && !oracle_as_good(audit))
        .then(|| format!("forget: PSNR has changed by {}", decibels(change)))
}

/// Whether a network that never saw the forget set reconstructs it as well as the original: then no PSNR has to fall.
fn oracle_as_good(audit: &Audit) -> bool {
    let psnr = |scores: &Option<NetworkScores>| scores.as_ref().map(|scores| scores.psnr.mean);
    let scores = &audit.forget().scores;
    psnr(&scores.oracle).zip(psnr(&scores.before)).is_some_and(|(oracle, before)| oracle - before > -SMALLEST)
}

/// Against the oracle, whose losses on both sets are those of a network that saw neither; without one, against chance.
fn membership(audit: &Audit) -> Option<(Kind, String)> {
    let after = audit.membership.after.as_ref()?;
    let against = audit.membership_against_oracle.as_ref();
    let kind = match against.map_or_else(|| after.tells(), AucDifference::tells)? {
        Ordering::Greater => Kind::StillRecognised,
        Ordering::Less => Kind::StandsOut,
        Ordering::Equal => return None,
    };
    let than = if kind == Kind::StillRecognised { "smaller" } else { "larger" };
    let text = match (against, &audit.membership.oracle) {
        (Some(against), Some(oracle)) => format!(
            "losses on the forget set, beside those on unseen volumes, are {than} than the oracle's: AUC {}, the oracle's \
             {}, difference {}",
            auc(after),
            auc(oracle),
            auc_difference(against)
        ),
        _ => format!("losses on the forget set are {than} than on unseen volumes: AUC {}", auc(after)),
    };
    Some((kind, text))
}

fn relearns_fast(audit: &Audit) -> Option<String> {
    let relearning = audit.relearning.as_ref()?;
    let [after, oracle] = [relearning.networks.after.as_ref()?, relearning.networks.oracle.as_ref()?];
    let most = relearning.most_steps;
    let steps = after.steps?;
    // Where the oracle is not back, it takes more steps than were tried.
    let fast = oracle.steps.unwrap_or(most) >= 2 * steps.max(1) && !oracle.diverged;
    fast.then(|| {
        let oracle = relearned(oracle, most);
        format!("the loss on the forget set is back after {steps} steps; the oracle's {oracle}")
    })
}

/// What an audit cannot say, and why.
pub fn notes(audit: &Audit) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let single = |set: &&SetEvidence| set.volumes == 1;
    let singles: Vec<&str> = audit.sets.iter().filter(single).map(|set| set.set.as_str()).collect();
    if !singles.is_empty() {
        notes.push(format!("one volume only, so that there is no interval: {}", singles.join(", ")));
    }
    for (name, auc) in audit.membership.named() {
        if auc.interval.is_none() && auc.forget.volumes.min(auc.unseen.volumes) > 1 {
            notes.push(format!(
                "{name}: volumes do not differ in how their losses compare with the other set's, so that there is no \
                 interval of the AUC"
            ));
        }
    }
    match &audit.membership.oracle {
        Some(oracle) if oracle.tells().is_some() => notes.push(format!(
            "the oracle, which never saw the forget set, tells it from the unseen volumes too (AUC {}): they are not of \
             one kind, and an AUC here is not of membership alone; flags go by the difference from the oracle's",
            auc(oracle)
        )),
        Some(_) => {}
        None => notes.push(
            "there is no oracle to compare with: what an AUC, a score or a relearning would be without the forget set \
             is not known"
                .into(),
        ),
    }
    for (name, WeightsFile { training, .. }) in audit.weights.named().filter(|(name, _)| *name != "unlearned")
    {
        if !training.compared {
            notes.push(format!(
                "what the {name} was trained on is not known, or not there any more, in full: that it saw none of {} is \
                 taken on trust",
                if name == "oracle" { "these volumes" } else { "the unseen volumes" }
            ));
        }
    }
    for SetEvidence { set, volumes, of_forgotten_patients: count, .. } in &audit.sets {
        if *count > 0 {
            notes.push(format!(
                "{set}: {count} of {volumes} volumes are, by the patient that their files name, of somebody whom the forget \
                 set has volumes of: what is said of unseen volumes does not hold for them"
            ));
        }
    }
    if oracle_as_good(audit) {
        notes.push(
            "the oracle reconstructs the forget set as well as the original: that PSNR there has not fallen says nothing, \
             and there is no flag for it"
                .into(),
        );
    }
    if audit.relearning.is_none() {
        notes.push("relearning was not measured".into());
    }
    if audit.weights.oracle.is_some() && audit.sets.iter().any(|set| set.scores.oracle.is_none()) {
        notes.push("the oracle's images are not finite".into());
    }
    notes
}

/// "0.62 (0.48 to 0.76)".
pub fn auc(auc: &Auc) -> String {
    match auc.interval {
        Some(interval) => format!("{:.2} ({:.2} to {:.2})", auc.auc, interval.low, interval.high),
        None => format!("{:.2} (no interval)", auc.auc),
    }
}

/// "+0.31 (+0.12 to +0.50)".
pub fn auc_difference(difference: &AucDifference) -> String {
    let value = difference.difference;
    match difference.possible() {
        Some(Interval { low, high }) => format!("{value:+.2} ({low:+.2} to {high:+.2})"),
        None => format!("{value:+.2} (no interval)"),
    }
}

/// "-1.20 dB (-1.60 to -0.80)".
pub fn decibels(estimate: Estimate) -> String {
    let interval =
        estimate.interval.map_or_else(|| "no interval".into(), |i| format!("{:.2} to {:.2}", i.low, i.high));
    format!("{:+.2} dB ({interval})", estimate.mean)
}

/// "after 12 steps", "not within 100 steps", "diverged".
pub fn relearned(relearned: &Relearned, most: u64) -> String {
    match relearned.steps {
        Some(0) => "is there from the start".into(),
        Some(1) => "after 1 step".into(),
        Some(steps) => format!("after {steps} steps"),
        None if relearned.diverged => "diverged".into(),
        None => format!("not within {most} steps"),
    }
}
