//! Evidence of forgetting: what the audits of the compared runs found.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{Section, parts, unbroken};
use crate::audit::evidence::Kind;
use crate::experiment::results::AuditResult;
use crate::report::page::grid;
use crate::report::study::Report;
use crate::report::study::evidence::{self, audits};
use crate::report::study::figures::{DISTANCE, RELEARN};

/// The seeds that have a flag, with what it says.
type OfSeeds<'r> = Vec<(u64, &'r str)>;

/// Each method's flags, of all its seeds together.
fn flagged<'r>(audits: &[&'r AuditResult]) -> Vec<(&'r str, Kind, OfSeeds<'r>)> {
    let mut found: Vec<(&str, Kind, OfSeeds)> = Vec::new();
    for audit in audits {
        for flag in &audit.flags {
            let known =
                found.iter_mut().find(|(label, kind, _)| (*label, *kind) == (&audit.label, flag.kind));
            match known {
                Some((_, _, of_seeds)) => of_seeds.push((audit.seed, &flag.text)),
                None => found.push((&audit.label, flag.kind, vec![(audit.seed, &flag.text)])),
            }
        }
    }
    found
}

/// Which method has which flag, in how many of its audits.
fn overview(audits: &[&AuditResult], flagged: &[(&str, Kind, OfSeeds)]) -> Markup {
    let kinds: BTreeSet<Kind> = flagged.iter().map(|(_, kind, _)| *kind).collect();
    let mut labels: Vec<&str> = audits.iter().map(|audit| audit.label.as_str()).collect();
    labels.dedup();
    let count = |label: &str, kind: Kind| {
        let has = |audit: &&&AuditResult| audit.flags.iter().any(|flag| flag.kind == kind);
        let of = audits.iter().filter(|audit| audit.label == label);
        match of.clone().filter(has).count() {
            0 => "–".to_string(),
            some => format!("{some} of {}", of.count()),
        }
    };
    let header: Vec<String> =
        ["method"].into_iter().chain(kinds.iter().map(|kind| kind.name())).map(String::from).collect();
    let rows: Vec<Vec<String>> = labels
        .iter()
        .map(|label| {
            [(*label).to_string()].into_iter().chain(kinds.iter().map(|kind| count(label, *kind))).collect()
        })
        .collect();
    grid(&header, &rows, 1, false)
}

/// None where the study has no audits.
pub fn section(report: &Report) -> Option<Section> {
    let table = report.tables.iter().find(|table| table.name == evidence::NAME)?;
    let audits = audits(&report.study);
    let flagged = flagged(&audits);
    // What holds for every run of a seed is said once.
    let mut notes: Vec<&String> = audits.iter().flat_map(|audit| &audit.notes).collect();
    notes.sort();
    notes.dedup();
    let figures = report.figures.iter().filter(|figure| [RELEARN, DISTANCE].contains(&figure.name));
    let body = html! {
        p {
            "Three questions to each network: do losses tell the forget set from unseen volumes of its kind; how soon does \
             it relearn the forget set; how far have its weights moved? The oracle's answers are those of a network that \
             never saw the forget set."
        }
        (parts::whole(table))
        h3 { "What stands out" }
        @if flagged.is_empty() { p { "Nothing: no audit has a flag." } }
        @else {
            (overview(&audits, &flagged))
            p.caption { "So many of a method's audits, one for each seed, have a flag." }
            details {
                summary { "Every flag" }
                @for (label, kind, of_seeds) in &flagged {
                    p {
                        b { (label) ", " (kind.name()) }
                        @for (seed, text) in of_seeds { br; "seed " (seed) ": " (unbroken(text)) }
                    }
                }
            }
        }
        @if !notes.is_empty() {
            h3 { "What cannot be said" }
            ul { @for note in notes { li { (note) } } }
        }
        @for figure in figures { (parts::figure(figure)) }
        p.caption {
            "Each run's record is the file audit.json in its directory, and audit.html beside it shows all of it: the list \
             of what was forgotten, digests, scores with their intervals. " code { "kerase verify" } " says whether \
             record, data and weights still belong together. " (crate::unlearn::record::NOTE)
        }
    };
    Some(Section { id: "evidence", title: "Evidence of forgetting".into(), body })
}
