//! What stands out in an audit. The bounds stand here, and in docs/audit.md.

use std::cmp::Ordering;

use crate::audit::evidence::{Audit, Difference, Flag, HalfWay, Kind, NetworkScores, SetEvidence};
use crate::audit::interval::{Estimate, Interval};
use crate::audit::membership::{Auc, AucDifference};
use crate::audit::relearn::Relearned;
use crate::audit::settings::SetRole;

/// Differences of the mean PSNR that are smaller are not worth a flag, in dB.
pub const SMALLEST: f64 = 0.1;
/// Likewise of the mean SSIM.
pub const SMALLEST_SSIM: f64 = 0.005;

/// All that stands out.
pub fn flags(audit: &Audit) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut flag = |kind: Kind, text: Option<String>| flags.extend(text.map(|text| Flag { kind, text }));
    flag(Kind::Diverged, diverged(audit));
    for set in &audit.sets {
        match set.role {
            SetRole::Test => flag(Kind::RetainDamaged, damaged(set)),
            SetRole::Forget | SetRole::Unseen => {
                flag(Kind::OverForgetting, beside_oracle(set, Ordering::Less));
                flag(Kind::UnderForgetting, beside_oracle(set, Ordering::Greater));
            }
        }
    }
    flag(Kind::NothingForgotten, nothing_forgotten(audit));
    if let Some((kind, text)) = membership(audit) {
        flag(kind, Some(text));
    }
    flag(Kind::RelearnsFast, relearns_fast(audit));
    flags
}

/// Flags that nothing in this audit could have raised, whatever the network does.
pub fn not_judged(audit: &Audit) -> Vec<Kind> {
    if diverged(audit).is_some() {
        // There is nothing else to judge.
        return Vec::new();
    }
    let oracle = audit.weights.oracle.is_some();
    let several =
        |roles: &[SetRole]| audit.sets.iter().any(|set| roles.contains(&set.role) && set.volumes > 1);
    let losses_tell = audit.membership.after.as_ref().is_some_and(|after| {
        after.can_tell() || audit.membership_against_oracle.is_some_and(|against| against.interval.is_some())
    });
    let beside_oracle = oracle && several(&[SetRole::Forget, SetRole::Unseen]);
    [
        (Kind::OverForgetting, beside_oracle),
        (Kind::UnderForgetting, beside_oracle),
        (Kind::RetainDamaged, several(&[SetRole::Test])),
        (Kind::StillRecognised, losses_tell),
        (Kind::StandsOut, losses_tell),
        (Kind::RelearnsFast, oracle && audit.relearning.is_some()),
    ]
    .into_iter()
    .filter_map(|(kind, judged)| (!judged).then_some(kind))
    .collect()
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

/// Whether a difference is larger than what is worth a flag, with its whole interval on one side of zero; which side.
pub(super) fn clearly(difference: Estimate, smallest: f64) -> Option<Ordering> {
    let Interval { low, high } = difference.interval?;
    let mean = difference.mean;
    if mean > smallest && low > 0.0 {
        Some(Ordering::Greater)
    } else if mean < -smallest && high < 0.0 {
        Some(Ordering::Less)
    } else {
        None
    }
}

impl Difference {
    /// Each measure: which way it clearly differs, and its words.
    fn measures(&self) -> [(Option<Ordering>, String); 2] {
        [
            (clearly(self.psnr, SMALLEST), format!("PSNR is {}", decibels(self.psnr))),
            (clearly(self.ssim, SMALLEST_SSIM), format!("SSIM is {}", ssim(self.ssim))),
        ]
    }
}

/// What is clearly more, or less, than the oracle's.
fn beside_oracle(set: &SetEvidence, way: Ordering) -> Option<String> {
    let measures = set.against_oracle?.measures().into_iter();
    let found: Vec<String> =
        measures.filter(|(found, _)| *found == Some(way)).map(|(_, text)| text).collect();
    (!found.is_empty()).then(|| format!("{}: {} against the oracle's", set.set, found.join(", ")))
}

/// What is clearly less than the original's, and the oracle's where there is one: below the oracle alone may be that one's
/// luck in training.
fn damaged(set: &SetEvidence) -> Option<String> {
    let lost = set.change?.measures();
    let below = set.against_oracle.map(|against| against.measures());
    let less = |found: &Option<Ordering>| *found == Some(Ordering::Less);
    let found: Vec<String> = lost
        .into_iter()
        .enumerate()
        .filter(|(i, (found, _))| less(found) && below.as_ref().is_none_or(|below| less(&below[*i].0)))
        .map(|(i, (_, text))| match &below {
            Some(below) => format!("{text} against the original's ({} against the oracle's)", below[i].1),
            None => format!("{text} against the original's"),
        })
        .collect();
    (!found.is_empty()).then(|| format!("{}: {}", set.set, found.join(", ")))
}

fn nothing_forgotten(audit: &Audit) -> Option<String> {
    let moved = audit.distances.last()?.after?;
    if moved.changed == 0.0 {
        return Some("no weight has changed".into());
    }
    let change = audit.forget().change?.psnr;
    // Also where a network has become better.
    if change.mean > -SMALLEST && !oracle_as_good(audit) {
        return Some(format!("forget: PSNR has changed by {}", decibels(change)));
    }
    let relearning = audit.relearning.as_ref()?;
    let at_once = |network: &Option<Relearned>| network.as_ref().is_some_and(|of| of.steps == Some(0));
    (at_once(&relearning.networks.after) && !at_once(&relearning.networks.oracle))
        .then(|| "the mean loss on the forget set is no larger than the original's".into())
}

/// Whether a network that never saw the forget set reconstructs it as well as the original: then no PSNR has to fall.
pub(super) fn oracle_as_good(audit: &Audit) -> bool {
    let psnr = |scores: &Option<NetworkScores>| scores.as_ref().map(|scores| scores.psnr.mean);
    let scores = &audit.forget().scores;
    psnr(&scores.oracle).zip(psnr(&scores.before)).is_some_and(|(oracle, before)| oracle - before > -SMALLEST)
}

/// Against the oracle, whose losses on both sets are those of a network that saw neither; without one, or where the two are
/// too few volumes to be compared and the oracle's losses tell nothing, against chance.
fn membership(audit: &Audit) -> Option<(Kind, String)> {
    let after = audit.membership.after.as_ref()?;
    let oracle = audit.membership.oracle.as_ref();
    let against = audit.membership_against_oracle.as_ref().filter(|against| {
        against.interval.is_some() || oracle.is_some_and(|oracle| oracle.tells().is_some())
    });
    let kind = match against.map_or_else(|| after.tells(), AucDifference::tells)? {
        Ordering::Greater => Kind::StillRecognised,
        Ordering::Less => Kind::StandsOut,
        Ordering::Equal => return None,
    };
    let than = if kind == Kind::StillRecognised { "smaller" } else { "larger" };
    let text = match (against, oracle) {
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

/// In half of the oracle's steps or fewer, to the original's loss or half-way there from the oracle's.
fn relearns_fast(audit: &Audit) -> Option<String> {
    let relearning = audit.relearning.as_ref()?;
    let [after, oracle] = [relearning.networks.after.as_ref()?, relearning.networks.oracle.as_ref()?];
    let most = relearning.most_steps;
    // Where the oracle is not there, it takes more steps than were tried.
    let fast = |own: Option<u64>, oracles: Option<u64>| {
        own.is_some_and(|steps| oracles.unwrap_or(most) >= 2 * steps.max(1)) && !oracle.diverged
    };
    let text = |how: &str, own: Option<u64>, oracles: Option<u64>| {
        format!(
            "the loss on the forget set is {how} {}; the oracle's {}",
            back(own, most, false),
            back(oracles, most, oracle.diverged)
        )
    };
    if fast(after.steps, oracle.steps) {
        return Some(text("back", after.steps, oracle.steps));
    }
    let HalfWay { steps, .. } = relearning.half.as_ref()?;
    fast(steps.after, steps.oracle).then(|| text("half-way back", steps.after, steps.oracle))
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
    format!("{:+.2} dB ({})", estimate.mean, bounds(estimate, 2))
}

/// "-0.120 (-0.160 to -0.080)".
pub fn ssim(estimate: Estimate) -> String {
    format!("{:+.3} ({})", estimate.mean, bounds(estimate, 3))
}

/// "-1.60 to -0.80".
fn bounds(estimate: Estimate, decimals: usize) -> String {
    estimate
        .interval
        .map_or_else(|| "no interval".into(), |i| format!("{:+.decimals$} to {:+.decimals$}", i.low, i.high))
}

/// "after 12 steps", "not within 100 steps", "diverged".
pub fn relearned(relearned: &Relearned, most: u64) -> String {
    back(relearned.steps, most, relearned.diverged)
}

/// As [`relearned`].
pub fn back(steps: Option<u64>, most: u64, diverged: bool) -> String {
    match steps {
        Some(0) => "from the start".into(),
        Some(1) => "after 1 step".into(),
        Some(steps) => format!("after {steps} steps"),
        None if diverged => "diverged".into(),
        None => format!("not within {most} steps"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::made_up::{AS_RETRAINED, MadeUp};

    fn raised(made_up: MadeUp) -> Vec<Kind> {
        let audit = made_up.audit().concluded();
        let mut kinds: Vec<Kind> = audit.flags.iter().map(|flag| flag.kind).collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn flags_are_raised_by_what_they_speak_of_alone() {
        use Kind::*;
        let as_retrained = AS_RETRAINED;
        let alone = MadeUp { oracle: false, ..AS_RETRAINED };
        for (what, made_up, expected) in [
            ("as retrained", as_retrained, vec![]),
            ("without an oracle", alone, vec![]),
            // On the forget set, and on what is like it.
            (
                "worse than the oracle",
                MadeUp { forget: [34.0, 27.0, 28.0], ..as_retrained },
                vec![OverForgetting, StandsOut],
            ),
            (
                "both worse",
                MadeUp { forget: [34.0, 27.0, 28.0], unseen: [32.0, 27.0, 28.0], ..as_retrained },
                vec![OverForgetting],
            ),
            (
                "better than the oracle",
                MadeUp { forget: [34.0, 29.0, 28.0], unseen: [32.0, 29.0, 28.0], ..as_retrained },
                vec![UnderForgetting],
            ),
            ("by SSIM alone", MadeUp { extra_ssim: 0.05, ..as_retrained }, vec![UnderForgetting]),
            (
                "a little better",
                MadeUp { forget: [34.0, 28.05, 28.0], unseen: [32.0, 28.05, 28.0], ..as_retrained },
                vec![],
            ),
            (
                "only the forget set",
                MadeUp { forget: [34.0, 30.0, 28.0], ..as_retrained },
                vec![UnderForgetting, StillRecognised],
            ),
            // Retained quality: what was lost, and is not the oracle's luck.
            (
                "brains worse than both",
                MadeUp { test: [36.0, 35.0, 36.0], ..as_retrained },
                vec![RetainDamaged],
            ),
            ("brains below the oracle alone", MadeUp { test: [36.0, 36.0, 37.0], ..as_retrained }, vec![]),
            (
                "brains worse than the original",
                MadeUp { test: [36.0, 35.0, 36.0], ..alone },
                vec![RetainDamaged],
            ),
            ("brains as the oracle's", MadeUp { test: [36.0, 35.0, 35.0], ..as_retrained }, vec![]),
            // As before.
            ("no weight", MadeUp { moved: [0.0, 0.8], ..as_retrained }, vec![NothingForgotten]),
            (
                "as good as before",
                MadeUp { forget: [34.0, 34.0, 28.0], unseen: [32.0, 32.0, 28.0], ..as_retrained },
                vec![UnderForgetting, NothingForgotten, StillRecognised],
            ),
            (
                "back at once",
                MadeUp { relearning: Some([&[0.1], &[0.1], &[0.1]]), ..alone },
                vec![NothingForgotten],
            ),
            // Relearning.
            (
                "back in half of the steps",
                MadeUp {
                    relearning: Some([&[0.1], &[0.5, 0.4, 0.1], &[0.5, 0.4, 0.2, 0.1]]),
                    ..as_retrained
                },
                vec![RelearnsFast],
            ),
            (
                "half-way back alone",
                MadeUp {
                    relearning: Some([&[0.1], &[0.5, 0.3, 0.2, 0.2], &[0.5, 0.4, 0.4, 0.2]]),
                    ..as_retrained
                },
                vec![RelearnsFast],
            ),
            (
                "half-way from the start",
                MadeUp {
                    relearning: Some([&[0.1], &[0.25, 0.2, 0.2, 0.2], &[0.5, 0.4, 0.2, 0.2]]),
                    ..as_retrained
                },
                vec![RelearnsFast],
            ),
            (
                "slower than the oracle",
                MadeUp {
                    relearning: Some([&[0.1], &[0.9, 0.8, 0.6, 0.5], &[0.5, 0.3, 0.1]]),
                    ..as_retrained
                },
                vec![],
            ),
        ] {
            assert_eq!(raised(made_up), expected, "{what}: {:?}", made_up.audit().concluded().flags);
        }
    }

    #[test]
    fn losses_are_held_against_the_oracles_or_chance() {
        // The forget set is easier for a network that saw neither, too.
        let easier = MadeUp { forget: [36.0, 32.0, 32.0], ..AS_RETRAINED };
        assert_eq!(raised(easier), []);
        assert_eq!(raised(MadeUp { oracle: false, ..easier }), [Kind::StillRecognised]);
        // One volume has no interval; that it lies beyond forty says something, unless it does for the oracle too.
        let one = MadeUp { forget: [40.0, 40.0, 28.0], unseen: [28.0; 3], volumes: [1, 40], ..AS_RETRAINED };
        assert!(raised(one).contains(&Kind::StillRecognised), "{:?}", one.audit().concluded().flags);
        let both = MadeUp { forget: [40.0; 3], ..one };
        assert!(!raised(both).contains(&Kind::StillRecognised));
    }

    #[test]
    fn what_could_not_be_flagged_is_listed() {
        use Kind::*;
        let listed = |made_up: MadeUp| made_up.audit().concluded().not_judged;
        assert_eq!(listed(AS_RETRAINED), []);
        let alone = MadeUp { oracle: false, ..AS_RETRAINED };
        assert_eq!(listed(alone), [OverForgetting, UnderForgetting, RelearnsFast]);
        assert_eq!(listed(MadeUp { relearning: None, ..AS_RETRAINED }), [RelearnsFast]);
        let single = MadeUp { volumes: [1, 1], ..AS_RETRAINED };
        assert_eq!(listed(single), [OverForgetting, UnderForgetting, StillRecognised, StandsOut]);
    }
}
