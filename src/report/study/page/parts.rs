//! Sections that show what is already there: findings, tables, figures, runs, settings.

use maud::{Markup, html};

use super::{Section, summary, unbroken};
use crate::experiment::results::{Part, RunResult};
use crate::report::page::{chart, data, grid};
use crate::report::study::Report;
use crate::report::study::evidence;
use crate::report::study::figures::{DISTANCE, Figure, RELEARN};
use crate::report::study::findings::{Check, RULE};
use crate::report::study::numbers;
use crate::report::study::table::Table;

pub fn findings(report: &Report) -> Section {
    let checks = |checks: &[Check]| {
        let header = ["number", "value", "has to be", "is it"].map(String::from);
        let rows = checks.iter().map(|check| {
            let note = check.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
            let what = format!("{}{note}", check.what);
            vec![what, check.value_text(), check.bound_text(), check.met_text().into()]
        });
        grid(&header, &rows.collect::<Vec<_>>(), 1, true)
    };
    let body = html! {
        p { (RULE) }
        @for finding in &report.findings {
            article.finding {
                h3 { (finding.number) ". " (finding.claim) " " (summary::badge(finding.verdict)) }
                p { b { "Counts as shown if: " } (unbroken(&finding.criterion)) }
                (checks(&finding.checks))
                p.caption { "In the paper: " (unbroken(finding.paper)) "." }
            }
        }
    };
    Section { id: "findings", title: "Findings".into(), body }
}

pub fn tables(report: &Report) -> Section {
    // These have sections of their own.
    let tables = report.tables.iter().filter(|table| !["findings", evidence::NAME].contains(&table.name));
    let body = html! { @for table in tables { (whole(table)) } };
    Section { id: "tables", title: "Tables".into(), body }
}

pub fn whole(table: &Table) -> Markup {
    html! {
        h3 { (table.title) }
        (grid(&table.header, &table.rows, table.words, false))
        p.caption { (table.caption) }
    }
}

pub fn figures(report: &Report) -> Option<Section> {
    // Those of the audits stand with them.
    let figures: Vec<&Figure> =
        report.figures.iter().filter(|figure| ![RELEARN, DISTANCE].contains(&figure.name)).collect();
    let body = html! { @for figure in &figures { (self::figure(figure)) } };
    (!figures.is_empty()).then(|| Section { id: "figures", title: "Figures".into(), body })
}

pub fn figure(figure: &Figure) -> Markup {
    html! {
        figure id={ "figure-" (figure.name) } {
            h3 { (figure.title) }
            div.scroll tabindex="0" { (drawn(figure)) }
            figcaption { (figure.caption) }
        }
    }
}

fn drawn(figure: &Figure) -> Markup {
    match &figure.svg {
        Some(svg) => chart(&figure.title, svg),
        None => html! { img.panel src=(data(&figure.png)) alt=(figure.title); },
    }
}

pub fn runs(report: &Report) -> Section {
    let runs = &report.study.results.runs;
    let mut header = ["run", "retain data", "seed", "steps", "time", "directory"].map(String::from).to_vec();
    let chosen = runs.iter().any(|run| run.kept_epoch.is_some());
    if chosen {
        header.push("epoch kept".into());
    }
    // Where all were computed by the same, the settings' section says by what.
    let several = runs.iter().any(|run| run.machine() != runs[0].machine());
    if several {
        header.push("computed on".into());
    }
    let mut builds: Vec<String> =
        runs.iter().map(|run| run.build().unwrap_or_else(|| "a kerase that is not known".into())).collect();
    builds.sort_unstable();
    builds.dedup();
    let row = |run: &RunResult| {
        let mut cells = vec![
            run.label.clone(),
            run.fraction.map_or_else(|| "–".into(), numbers::percent),
            run.seed.to_string(),
            run.steps.to_string(),
            numbers::duration(run.seconds),
            run.directory.display().to_string(),
        ];
        if chosen {
            cells.push(run.kept_epoch.map_or_else(|| "–".into(), |epoch| epoch.to_string()));
        }
        if several {
            cells.push(run.machine().unwrap_or_else(|| "–".into()));
        }
        cells
    };
    let warned: Vec<&RunResult> = runs.iter().filter(|run| !run.warnings.is_empty()).collect();
    let mut titles: Vec<(&str, &str)> = Vec::new();
    for run in runs.iter().filter(|run| run.part == Part::Unlearned) {
        if !titles.contains(&(&run.label, &run.title)) {
            titles.push((&run.label, &run.title));
        }
    }
    let body = html! {
        dl { @for (label, title) in titles { dt { (label) } dd { (title) } } }
        @if builds.len() > 1 || !warned.is_empty() {
            h3 { "Warnings" }
            ul.warnings {
                @if builds.len() > 1 {
                    li {
                        "The runs were computed by different builds (" (builds.join("; ")) "), which may round otherwise: \
                         a training then ends elsewhere, and small differences between methods may be of that."
                    }
                }
                @for run in warned {
                    @for warning in &run.warnings {
                        li { b { (run.label) ", seed " (run.seed) ": " } (warning) }
                    }
                }
            }
        }
        h3 { "All runs" }
        (grid(&header, &runs.iter().map(row).collect::<Vec<_>>(), 1, false))
        p.caption {
            "Time is what was spent in steps; loading, saving and measuring are not in it."
            @if chosen {
                " Epoch kept: after which a training's network was the best on the validation sets; it is what was measured \
                 and made to forget."
            }
        }
    };
    Section { id: "runs", title: "Runs".into(), body }
}

pub fn settings(report: &Report) -> Section {
    let results = report.study.results;
    let body = html! {
        dl {
            dt { "Device" } dd { (results.device) }
            dt { "Machine" } dd { (results.machine) }
            dt { "kerase" } dd { (results.kerase) }
            dt { "Commit" } dd { (results.commit.as_deref().unwrap_or("not known")) }
            dt { "Experiment" } dd { (results.name) }
        }
        h3 { "The experiment's file" }
        pre.scroll tabindex="0" { (results.settings) }
    };
    Section { id: "settings", title: "Settings, hardware and versions".into(), body }
}
