//! One self-contained HTML page: nothing is loaded from elsewhere, charts are inline, images are data.
//!
//! A page is a list of [`Section`]s, a file each. Whatever else is to be on it is one more section in [`page`].

mod evidence;
mod images;
mod parts;
mod summary;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Report;
use crate::error::Result;

/// A part of the page with an entry in its contents.
pub struct Section {
    /// In links; letters and dashes.
    pub id: &'static str,
    pub title: String,
    pub body: Markup,
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The browser itself refuses whatever would be loaded.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Numbers stay on the line of their unit and their deviation.
fn unbroken(text: &str) -> String {
    [(" %", "\u{a0}%"), (" dB", "\u{a0}dB"), (" ± ", "\u{a0}±\u{a0}")]
        .into_iter()
        .fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// The whole page.
///
/// # Errors
/// An image that cannot be encoded.
pub fn page(report: &Report) -> Result<String> {
    let results = report.study.results;
    let sections: Vec<Section> = [
        Some(summary::section(report)),
        Some(parts::findings(report)),
        Some(parts::tables(report)),
        parts::figures(report),
        images::section(report)?,
        evidence::section(report),
        Some(parts::runs(report)),
        Some(parts::settings(report)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="color-scheme" content="light dark";
                title { (results.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kicker { "Unlearning study · " (results.name) }
                    h1 { (results.title) }
                    nav aria-label="Contents" {
                        @for section in &sections { a href={ "#" (section.id) } { (section.title) } " " }
                    }
                }
                main {
                    @for section in &sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            (section.body)
                        }
                    }
                }
                footer {
                    p { (crate::unlearn::record::NOTE) }
                    p { "Made by kerase " (results.kerase) "." }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}
