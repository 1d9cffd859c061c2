//! What was asked, and what was found, in a paragraph each.

use maud::{Markup, html};

use super::{Section, unbroken};
use crate::experiment::results::Measure;
use crate::report::study::Report;
use crate::report::study::condition::Study;
use crate::report::study::findings::{Finding, Verdict};
use crate::report::study::numbers;

pub fn section(report: &Report) -> Section {
    let body = html! {
        h3 { "What was asked" }
        p { (asked(&report.study)) }
        h3 { "What was found" }
        p { (unbroken(&found(&report.study, &report.findings))) }
        (verdicts(&report.findings))
        p.note { (crate::unlearn::record::NOTE) }
    };
    Section { id: "summary", title: "Summary".into(), body }
}

fn verdicts(findings: &[Finding]) -> Markup {
    html! {
        ol.verdicts {
            @for finding in findings {
                li { (badge(finding.verdict)) " " (finding.claim) }
            }
        }
    }
}

/// The verdict as a word in a frame; colour is not all that tells.
pub fn badge(verdict: Verdict) -> Markup {
    let (class, sign) = match verdict {
        Verdict::Shown => ("shown", "✓"),
        Verdict::NotShown => ("not-shown", "✗"),
        Verdict::CannotBeJudged => ("unjudged", "?"),
    };
    html! { span class={ "badge " (class) } { (sign) " " (verdict.name()) } }
}

fn asked(study: &Study) -> String {
    let methods: Vec<&str> = study.compared().map(|c| c.label).collect();
    let mut seeds: Vec<u64> = study.results.runs.iter().map(|run| run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let sweep = match study.sweeps().len() {
        0 => String::new(),
        n => format!(
            ", {} of them at several fractions of the retain data",
            if n == 1 { "one".into() } else { n.to_string() }
        ),
    };
    format!(
        "A network G learned a retain set and a forget set together; then the forget set had to go. Can a short \
         unlearning run make G behave like the oracle, a network that was trained on the retain set alone: as good on \
         the one, and no better on the other? Compared: {}{sweep}; {}. Every network was measured on unseen volumes of the \
         retain set's kind (BTA: {} test), of the forget set's (KTA: {} test) and on the forget set itself (UA).",
        listed(&methods),
        if seeds.len() == 1 { "one seed".into() } else { format!("{} seeds", seeds.len()) },
        study.results.kinds.retain,
        study.results.kinds.forget,
    )
}

fn found(study: &Study, findings: &[Finding]) -> String {
    let mut sentences = Vec::new();
    let of = |verdict: Verdict| -> Vec<String> {
        findings.iter().filter(|f| f.verdict == verdict).map(|f| f.number.to_string()).collect()
    };
    let [shown, not_shown, unjudged] = [Verdict::Shown, Verdict::NotShown, Verdict::CannotBeJudged].map(of);
    let parts: Vec<String> = [("shows", shown), ("does not show", not_shown), ("cannot judge", unjudged)]
        .into_iter()
        .filter(|(_, numbers)| !numbers.is_empty())
        .map(|(does, numbers)| match numbers.len() {
            all if all == findings.len() => format!("{does} any of them").replace("shows any", "shows all"),
            _ => format!("{does} {}", listed(&numbers)),
        })
        .collect();
    sentences.push(format!("Of the paper's {} findings this study {}.", findings.len(), parts.join("; ")));
    if let Some((nearest, _)) = study.nearest() {
        let gaps: Vec<String> = Measure::ALL
            .iter()
            .filter_map(|&m| Some(format!("{:.2} dB on {}", study.gap(nearest, m)?.mean, m.name())))
            .collect();
        let time = study.against_retraining(nearest).map_or(String::new(), |share| {
            format!(", after {} of the time that retraining takes", numbers::percent_spread(share))
        });
        let label = nearest.label;
        sentences.push(format!("Nearest to the oracle comes {label}: |Δ| of {}{time}.", listed(&gaps)));
    } else {
        sentences.push("No method could be measured against an oracle.".into());
    }
    let diverged: Vec<String> = study
        .unlearned()
        .filter(|c| c.seeds().diverged > 0)
        .map(|c| {
            let at = c.fraction.map_or(String::new(), |f| format!(" at {}", numbers::percent(f)));
            format!("{}{at} ({} of {} seeds)", c.label, c.seeds().diverged, c.seeds().all)
        })
        .collect();
    let idle: Vec<&str> = study.compared().filter(|c| study.does_nothing(c)).map(|c| c.label).collect();
    if !idle.is_empty() {
        sentences.push(format!("Nothing was done to the network by {}.", listed(&idle)));
    }
    if !diverged.is_empty() {
        sentences.push(format!("Diverged: {}.", listed(&diverged)));
    }
    sentences.join(" ")
}

/// "a, b and c".
fn listed<S: std::borrow::Borrow<str>>(words: &[S]) -> String {
    match words {
        [] => "nothing".into(),
        [word] => word.borrow().to_string(),
        [first @ .., last] => format!("{} and {}", first.join(", "), last.borrow()),
    }
}
