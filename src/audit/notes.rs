//! What an audit cannot say, and why.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::audit::evidence::{Audit, Each, SetEvidence, WeightsFile};
use crate::audit::flags::{auc, auc_difference, clearly, decibels, oracle_as_good};
use crate::audit::membership::Auc;
use crate::audit::settings::SetRole;

/// An oracle that is worse than the original on other volumes by more is a poor one, in dB.
const POOR: f64 = 0.5;
/// An oracle's weights are further from the original's than this, relative to their norm: it comes of a training of its own.
const OWN_TRAINING: f64 = 0.1;
/// Beyond these an oracle's AUC leaves the unlearned network's little room to differ.
const ROOM: [f64; 2] = [0.15, 0.85];

/// All of it.
pub fn notes(audit: &Audit) -> Vec<String> {
    let parts =
        [volumes(audit), membership(audit), trust(audit), oracle(audit), patients(audit), relearning(audit)];
    parts.concat()
}

/// Of sets whose volumes are too few, or not as many as they seem.
fn volumes(audit: &Audit) -> Vec<String> {
    let mut notes = Vec::new();
    let single = |set: &&SetEvidence| set.volumes == 1;
    let singles: Vec<&str> = audit.sets.iter().filter(single).map(|set| set.set.as_str()).collect();
    if !singles.is_empty() {
        notes.push(format!("one volume only, so that there is no interval: {}", singles.join(", ")));
    }
    for set in &audit.sets {
        // Whatever the files are called, and whatever else is in them.
        let first = set.files.iter().filter_map(|file| Some(&file.slices.first()?.sha256));
        let different = first.collect::<HashSet<_>>().len();
        if different < set.files.len() {
            notes.push(format!(
                "{}: {} of {} volumes are copies of others, and intervals take them for further ones",
                set.set,
                set.files.len() - different,
                set.files.len()
            ));
        }
    }
    notes
}

fn membership(audit: &Audit) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, auc) in audit.membership.named() {
        if auc.interval.is_none() && auc.forget.volumes.min(auc.unseen.volumes) > 1 {
            notes.push(format!(
                "{name}: volumes do not differ in how their losses compare with the other set's, so that there is no \
                 interval of the AUC"
            ));
        }
    }
    let Each { before, oracle, .. } = &audit.membership;
    let of_original = &audit.membership_of_original;
    let known = match of_original {
        Some(less_oracle) => less_oracle.tells(),
        None => before.as_ref().and_then(Auc::tells),
    };
    if before.is_some() && known != Some(Ordering::Greater) {
        let said = match (of_original, before) {
            (Some(less_oracle), _) => format!("AUC less the oracle's {}", auc_difference(less_oracle)),
            (None, Some(before)) => format!("AUC {}", auc(before)),
            (None, None) => String::new(),
        };
        notes.push(format!(
            "losses do not tell the forget set even for the original, which learned it ({said}): that they do not for the \
             unlearned network says nothing"
        ));
    }
    if let Some(oracle) = oracle {
        if oracle.tells().is_some() {
            notes.push(format!(
                "the oracle, which never saw the forget set, tells it from the unseen volumes too (AUC {}): they are not of \
                 one kind, and an AUC here is not of membership alone; flags go by the difference from the oracle's",
                auc(oracle)
            ));
        }
        if oracle.auc < ROOM[0] || oracle.auc > ROOM[1] {
            notes.push(format!(
                "the oracle's AUC, {:.2}, leaves the unlearned network's little room to differ: take unseen volumes that are as \
                 easy as those of the forget set",
                oracle.auc
            ));
        }
    }
    notes
}

/// What nobody could look at.
fn trust(audit: &Audit) -> Vec<String> {
    let unknown = audit
        .weights
        .named()
        .filter(|(name, WeightsFile { training, .. })| *name != "unlearned" && !training.compared);
    let mut notes: Vec<String> = unknown
        .map(|(name, _)| {
            format!(
                "what the {name} was trained on is not known, or not there any more as it was, in full: that it saw {} is \
                 taken on trust",
                if name == "oracle" { "none of these volumes" } else { "the forget set, and none of the unseen volumes," }
            )
        })
        .collect();
    if audit.weights.oracle.is_none() {
        notes.push(
            "there is no oracle to compare with: what an AUC, a score or a relearning would be without the forget set \
             is not known"
                .into(),
        );
    }
    notes
}

/// Whether the oracle is one to go by.
fn oracle(audit: &Audit) -> Vec<String> {
    let mut notes = Vec::new();
    if oracle_as_good(audit) {
        notes.push(
            "the oracle reconstructs the forget set as well as the original: that PSNR there has not fallen says nothing, \
             and there is no flag for it"
                .into(),
        );
    }
    for set in audit.sets.iter().filter(|set| set.role == SetRole::Test) {
        if let Some(difference) = set.oracle_against_original.map(|difference| difference.psnr)
            && clearly(difference, POOR) == Some(Ordering::Less)
        {
            notes.push(format!(
                "{}: the oracle is worse than the original, by {}: a poor oracle is easily reached, and hides what was damaged",
                set.set,
                decibels(difference)
            ));
        }
    }
    let moved = audit.distances.last().and_then(|all| all.oracle);
    if let Some(moved) = moved.filter(|moved| moved.relative_l2 < OWN_TRAINING) {
        notes.push(format!(
            "the oracle's weights are {:.4} of the original's norm away from them, too near for a training of its own: is it one \
             that never saw the forget set?",
            moved.relative_l2
        ));
    }
    if audit.weights.oracle.is_some() && audit.sets.iter().any(|set| set.scores.oracle.is_none()) {
        notes.push("the oracle's images are not finite".into());
    }
    notes
}

fn patients(audit: &Audit) -> Vec<String> {
    let of_forgotten = audit.sets.iter().filter(|set| set.of_forgotten_patients > 0);
    of_forgotten
        .map(|SetEvidence { set, volumes, of_forgotten_patients: count, .. }| {
            format!(
                "{set}: {count} of {volumes} volumes are, by the patient that their files name, of somebody whom the forget \
                 set has volumes of: what is said of unseen volumes does not hold for them"
            )
        })
        .collect()
}

fn relearning(audit: &Audit) -> Vec<String> {
    let Some(relearning) = &audit.relearning else { return vec!["relearning was not measured".into()] };
    let most = relearning.most_steps;
    let not_back =
        relearning.networks.oracle.as_ref().is_some_and(|oracle| oracle.steps.is_none() && !oracle.diverged);
    match &relearning.half {
        Some(half) if not_back && half.steps.oracle.is_none() => vec![format!(
            "the oracle was not even half-way back within {most} steps: networks that take more than half of these cannot be \
             told from it; more steps could (--relearn-steps)"
        )],
        Some(_) if not_back => vec![format!(
            "the oracle was not back within {most} steps: networks that take more than half of these are compared half-way \
             alone"
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::made_up::{AS_RETRAINED, MadeUp};

    #[test]
    fn what_weakens_an_audit_is_noted() {
        let noted = |made_up: MadeUp, what: &str| {
            let notes = made_up.audit().concluded().notes;
            (notes.iter().any(|note| note.contains(what)), notes)
        };
        let learnt = MadeUp { forget: [40.0, 28.0, 28.0], ..AS_RETRAINED };
        for (what, made_up, plain) in [
            ("even for the original", MadeUp { unseen: [40.0, 28.0, 28.0], ..learnt }, learnt),
            ("the oracle is worse than the original", MadeUp { test: [36.0, 36.0, 34.0], ..learnt }, learnt),
            ("too near for a training of its own", MadeUp { moved: [0.3, 0.02], ..learnt }, learnt),
            ("little room to differ", MadeUp { unseen: [20.0, 18.0, 18.0], ..learnt }, learnt),
            (
                "was not even half-way back",
                MadeUp { relearning: Some([&[0.1], &[0.5, 0.4, 0.4, 0.4], &[0.5, 0.4, 0.4, 0.4]]), ..learnt },
                learnt,
            ),
            (
                "compared half-way alone",
                MadeUp { relearning: Some([&[0.1], &[0.5, 0.4, 0.4, 0.2], &[0.5, 0.4, 0.4, 0.2]]), ..learnt },
                learnt,
            ),
            ("relearning was not measured", MadeUp { relearning: None, ..learnt }, learnt),
            ("there is no oracle", MadeUp { oracle: false, ..learnt }, learnt),
            ("one volume only", MadeUp { volumes: [1, 6], ..learnt }, learnt),
        ] {
            let (is, notes) = noted(made_up, what);
            assert!(is, "'{what}' is not in {notes:?}");
            let (is, notes) = noted(plain, what);
            assert!(!is, "'{what}' is in {notes:?}");
        }
        let mut audit = learnt.audit();
        let copied = audit.sets[0].files[0].slices.clone();
        audit.sets[0].files[3].slices = copied;
        let notes = audit.concluded().notes;
        assert!(notes.iter().any(|note| note.contains("forget: 1 of 6 volumes are copies")), "{notes:?}");
    }
}
