//! An audit as text for people, and the phrases that pages share with it.

use std::fmt::Write as _;

use crate::audit::distance::Moved;
use crate::audit::evidence::{Audit, Difference, HalfWay, NetworkScores};
use crate::audit::flags;
use crate::audit::interval::Estimate;
use crate::audit::relearn::Relearned;
use crate::table::{Style, render};

/// The whole record in tables and sentences, without its lists of digests.
pub fn text(audit: &Audit) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "{}: {}\nforgotten: {} slices of {} volumes; {} steps",
        audit.run.title,
        audit.run.objective,
        audit.forget().slices,
        audit.forget().volumes,
        audit.run.steps,
    );
    for (name, value) in [("request", &audit.request.id), ("reason", &audit.request.reason)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    let _ = writeln!(text, "\n{}\n\n{}\n", scores(audit), differences(audit));
    let _ = writeln!(text, "{}\n", networks(audit));
    let _ = writeln!(text, "{}\n", distances(audit));
    let percent = 100.0 * audit.confidence;
    let _ = writeln!(text, "In brackets: intervals of {percent} % over volumes.");
    for flag in &audit.flags {
        let _ = writeln!(text, "flag, {}: {}", flag.kind.name(), flag.text);
    }
    if audit.flags.is_empty() {
        let _ = writeln!(text, "{}", no_flags(audit));
    }
    if let Some(not_judged) = not_judged(audit) {
        let _ = writeln!(text, "{not_judged}");
    }
    for warning in &audit.run.warnings {
        let _ = writeln!(text, "warning of the run: {warning}");
    }
    for note in &audit.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = write!(text, "{}", audit.note);
    text
}

pub fn no_flags(audit: &Audit) -> &'static str {
    if audit.not_judged.is_empty() { "no flags" } else { "no flags, of those that could be raised" }
}

/// What could not have been flagged, if anything.
pub fn not_judged(audit: &Audit) -> Option<String> {
    let names: Vec<&str> = audit.not_judged.iter().map(|kind| kind.name()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "not judged, for want of an oracle, of a --test set, of relearning, or of volumes: {}",
            names.join(", ")
        )
    })
}

/// How the unlearned network differs from the others on every set.
fn differences(audit: &Audit) -> String {
    let header = ["unlearned less …", "PSNR, original", "PSNR, oracle", "SSIM, oracle"];
    let rows = audit.sets.iter().map(|set| {
        let psnr = |of: Option<Difference>| of.map(|of| flags::decibels(of.psnr));
        let ssim = set.against_oracle.map(|of| flags::ssim(of.ssim));
        row(&set.set, [psnr(set.change), psnr(set.against_oracle), ssim])
    });
    render(Style::Terminal, header.map(String::from).to_vec(), rows, 1)
}

/// PSNR of every set and network.
fn scores(audit: &Audit) -> String {
    let header = ["set", "volumes", "original", "unlearned", "oracle"];
    let rows = audit.sets.iter().map(|set| {
        let cell = |scores: &Option<NetworkScores>| {
            scores.as_ref().map_or_else(|| "–".into(), |scores| estimate(scores.psnr, 2, " dB"))
        };
        let each = &set.scores;
        let numbers = [&each.before, &each.after, &each.oracle].map(cell);
        [vec![set.set.clone(), set.volumes.to_string()], numbers.to_vec()].concat()
    });
    render(Style::Terminal, header.map(String::from).to_vec(), rows, 1)
}

fn networks(audit: &Audit) -> String {
    let header = ["", "original", "unlearned", "oracle"];
    let auc = &audit.membership;
    let mut rows = vec![row(
        "membership AUC",
        [&auc.before, &auc.after, &auc.oracle].map(|auc| auc.as_ref().map(flags::auc)),
    )];
    let less = [&audit.membership_of_original, &audit.membership_against_oracle]
        .map(|of| of.as_ref().map(flags::auc_difference));
    if let [of_original, of_unlearned] = less
        && (of_original.is_some() || of_unlearned.is_some())
    {
        rows.push(row("less the oracle's", [of_original, of_unlearned, None]));
    }
    if let Some(relearning) = &audit.relearning {
        let back = &relearning.networks;
        let steps =
            |of: &Option<Relearned>| of.as_ref().map(|of| flags::relearned(of, relearning.most_steps));
        if let Some(HalfWay { loss, .. }) = relearning.half {
            let half = |of: &Option<Relearned>| {
                let of = of.as_ref()?;
                Some(flags::back(of.steps_to(loss), relearning.most_steps, of.diverged))
            };
            rows.push(row("loss half-way back", [&back.before, &back.after, &back.oracle].map(half)));
        }
        rows.push(row("loss back", [&back.before, &back.after, &back.oracle].map(steps)));
    }
    render(Style::Terminal, header.map(String::from).to_vec(), rows.into_iter(), 1)
}

fn distances(audit: &Audit) -> String {
    let header = ["distance from the original", "unlearned", "oracle"];
    let rows = audit.distances.iter().map(|part| {
        let cell = |moved: Option<Moved>| {
            moved.map(|m| format!("{:.4}, {:.0} % changed", m.relative_l2, 100.0 * m.changed))
        };
        row(&part.part, [cell(part.after), cell(part.oracle)])
    });
    render(Style::Terminal, header.map(String::from).to_vec(), rows, 1)
}

fn row<const N: usize>(name: &str, cells: [Option<String>; N]) -> Vec<String> {
    let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".into()));
    std::iter::once(name.to_string()).chain(cells).collect()
}

/// "24.61 dB (24.20 to 25.02)".
pub fn estimate(estimate: Estimate, decimals: usize, unit: &str) -> String {
    let Estimate { mean, interval, .. } = estimate;
    let interval =
        interval.map_or(String::new(), |i| format!(" ({:.decimals$} to {:.decimals$})", i.low, i.high));
    format!("{mean:.decimals$}{unit}{interval}")
}
