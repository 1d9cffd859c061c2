//! Evidence of forgetting: what the audits of the compared runs found.

use maud::html;

use super::{Section, parts};
use crate::audit::flags::Kind;
use crate::experiment::results::AuditResult;
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
        h3 { "Flags" }
        @if flagged.is_empty() { p { "None." } }
        ul.warnings {
            @for (label, kind, of_seeds) in flagged {
                li {
                    b { (label) ", " (kind.name()) ": " }
                    @for (i, (seed, text)) in of_seeds.iter().enumerate() {
                        @if i > 0 { "; " }
                        "seed " (seed) ", " (text)
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
            "Each run's record is the file audit.json in its directory; " code { "kerase verify" } " says whether record, \
             data and weights still belong together. " (crate::unlearn::record::NOTE)
        }
    };
    Some(Section { id: "evidence", title: "Evidence of forgetting".into(), body })
}
