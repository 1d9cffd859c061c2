//! A study as one page.
//!
//! A page is a list of [`Section`]s, a file each. Whatever else is to be on it is one more section in [`page()`].

mod evidence;
mod images;
mod parts;
mod summary;

use super::Report;
use crate::error::Result;
use crate::report::page::{self, Section, unbroken};

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
    let kicker = format!("Unlearning study · {}", results.name);
    Ok(page::page(&kicker, &results.title, &sections, &results.kerase))
}
