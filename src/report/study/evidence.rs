//! The audits of a study as a table: a line for each compared run.

use serde::Serialize;

use super::condition::Study;
use super::table::{Record, Shown, Table};
use crate::audit::evidence::{Each, Flag, HalfWay, Relearning};
use crate::audit::flags;
use crate::audit::interval::CONFIDENCE;
use crate::audit::membership::{Auc, AucDifference};
use crate::audit::relearn::Relearned;
use crate::error::Result;
use crate::experiment::results::AuditResult;

/// Stem of the table's files.
pub const NAME: &str = "evidence";

/// What an audit found, without curves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvidenceRow {
    pub label: String,
    pub seed: u64,
    pub membership: Each<Auc>,
    /// The unlearned network's AUC minus the oracle's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership_against_oracle: Option<AucDifference>,
    /// Steps after which the loss on the forget set was back; none where it was not, or was not tried.
    pub relearned: Option<u64>,
    pub oracle_relearned: Option<u64>,
    /// Half-way from the oracle's loss.
    pub half_relearned: Option<u64>,
    pub oracle_half_relearned: Option<u64>,
    /// At the most.
    pub relearn_steps: Option<u64>,
    /// Of all weights from the original's, relative to their norm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<f64>,
    pub flags: Vec<Flag>,
}

/// The audits of the compared methods, in their order.
pub fn audits<'r>(study: &Study<'r>) -> Vec<&'r AuditResult> {
    let of =
        |label: &str| study.results.audits.iter().filter(|audit| audit.label == label).collect::<Vec<_>>();
    study.compared().flat_map(|condition| of(condition.label)).collect()
}

pub fn rows(study: &Study) -> Vec<EvidenceRow> {
    let row = |audit: &AuditResult| {
        let relearning = audit.relearning.as_ref();
        let steps = |of: Option<&Option<Relearned>>| of?.as_ref()?.steps;
        EvidenceRow {
            label: audit.label.clone(),
            seed: audit.seed,
            membership: audit.membership.clone(),
            membership_against_oracle: audit.membership_against_oracle,
            relearned: steps(relearning.map(|r| &r.networks.after)),
            oracle_relearned: steps(relearning.map(|r| &r.networks.oracle)),
            half_relearned: relearning.and_then(|r| r.half.as_ref()?.steps.after),
            oracle_half_relearned: relearning.and_then(|r| r.half.as_ref()?.steps.oracle),
            relearn_steps: relearning.map(|r| r.most_steps),
            moved: audit.distances.last().and_then(|all| all.after).map(|moved| moved.relative_l2),
            flags: audit.flags.clone(),
        }
    };
    audits(study).into_iter().map(row).collect()
}

/// None where the study has no audits.
///
/// # Errors
/// Numbers that JSON or CSV cannot take.
pub fn table(study: &Study) -> Result<Option<Table>> {
    let rows = rows(study);
    if rows.is_empty() {
        return Ok(None);
    }
    let header = [
        "method",
        "seed",
        "AUC of G",
        "AUC unlearned",
        "AUC of the oracle",
        "unlearned less oracle",
        "relearned half, all",
        "by the oracle",
        "moved",
        "flags",
    ];
    let auc = |auc: &Option<Auc>| auc.as_ref().map_or_else(|| "–".into(), flags::auc);
    let steps = |of: &Relearned, loss: f64, most: u64| match of.steps_to(loss) {
        Some(steps) => steps.to_string(),
        None if of.diverged => "diverged".into(),
        None => format!("> {most}"),
    };
    let back = |of: Option<&Relearned>, Relearning { goal, half, most_steps, .. }: &Relearning| match of {
        Some(of) => match half {
            Some(HalfWay { loss, .. }) => {
                format!("{}, {}", steps(of, *loss, *most_steps), steps(of, *goal, *most_steps))
            }
            None => steps(of, *goal, *most_steps),
        },
        None => "–".into(),
    };
    let shown = audits(study).into_iter().zip(&rows).map(|(audit, row)| {
        let AuditResult { membership, relearning, .. } = audit;
        let relearned = |of: fn(&Each<Relearned>) -> Option<&Relearned>| match relearning {
            Some(relearning) => back(of(&relearning.networks), relearning),
            None => "–".into(),
        };
        vec![
            row.label.clone(),
            row.seed.to_string(),
            auc(&membership.before),
            auc(&membership.after),
            auc(&membership.oracle),
            row.membership_against_oracle.as_ref().map_or_else(|| "–".into(), flags::auc_difference),
            relearned(|each| each.after.as_ref()),
            relearned(|each| each.oracle.as_ref()),
            row.moved.map_or_else(|| "–".into(), |moved| format!("{moved:.3}")),
            if row.flags.is_empty() { "–".into() } else { row.flags.len().to_string() },
        ]
    });
    let percent = 100.0 * CONFIDENCE;
    let caption = format!(
        "AUC: the probability that a slice of the forget set has a smaller loss than an unseen slice of the same kind; 0.5 \
         tells nothing, and flags go by its difference from the oracle's. In brackets the interval of {percent} % over volumes (DeLong's with volumes as clusters, t, by way \
         of the logit). Relearned: steps of fine-tuning on the forget set until its loss is half-way from the oracle's to G's, and until it is G's. Moved: \
         distance of all weights from G's, relative to their norm."
    );
    let shown = Shown { header: header.map(String::from).to_vec(), rows: shown.collect(), words: 1 };
    let table = Table::new(NAME, "Audits of the compared runs", caption, shown, &rows, |row| {
        let mut record = Record::default().put("label", &row.label).put("seed", row.seed);
        let Each { before, after, oracle } = row.membership.as_ref();
        for (name, auc) in [("original", before), ("unlearned", after), ("oracle", oracle)] {
            let interval = auc.and_then(|auc| auc.interval);
            record = record
                .put_option(format!("auc_{name}"), auc.map(|auc| auc.auc))
                .put_option(format!("auc_{name}_low"), interval.map(|i| i.low))
                .put_option(format!("auc_{name}_high"), interval.map(|i| i.high));
        }
        let against = row.membership_against_oracle;
        let interval = against.and_then(|difference| difference.interval);
        record = record
            .put_option("auc_less_oracle", against.map(|difference| difference.difference))
            .put_option("auc_less_oracle_low", interval.map(|i| i.low))
            .put_option("auc_less_oracle_high", interval.map(|i| i.high));
        let kinds: Vec<&str> = row.flags.iter().map(|flag| flag.kind.name()).collect();
        record
            .put_option("relearned_steps", row.relearned)
            .put_option("oracle_relearned_steps", row.oracle_relearned)
            .put_option("half_relearned_steps", row.half_relearned)
            .put_option("oracle_half_relearned_steps", row.oracle_half_relearned)
            .put_option("relearn_steps_tried", row.relearn_steps)
            .put_option("moved", row.moved)
            .put("flags", kinds.join("; "))
    })?;
    Ok(Some(table))
}
