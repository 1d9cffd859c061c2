//! Tables for the terminal, as Markdown and as CSV.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle, presets};

use crate::error::{Error, Result};
use crate::metrics::Spread;

/// How a table is ruled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Terminal,
    Markdown,
}

/// "39.07 ± 2.03", or the mean alone for one volume.
pub fn plus_minus(spread: Spread, decimals: usize) -> String {
    let mut text = format!("{:.decimals$}", spread.mean);
    if let Some(sd) = spread.sd {
        // Writing into a String cannot fail.
        let _ = write!(text, " ± {sd:.decimals$}");
    }
    text
}

/// Three rules and nothing else, as tables are set in print.
const RULED: TableStyle = {
    let rule = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule)
};

/// The first `words` columns stand left, the numbers after them right.
pub fn render(
    style: Style,
    header: Vec<String>,
    rows: impl Iterator<Item = Vec<String>>,
    words: usize,
) -> String {
    let align = |row: Vec<String>| {
        row.into_iter().enumerate().map(move |(i, text)| {
            // Markdown takes a bar for the next column.
            let text = if style == Style::Markdown { text.replace('|', "\\|") } else { text };
            let side = if i < words { CellAlignment::Left } else { CellAlignment::Right };
            Cell::new(text).set_alignment(side)
        })
    };
    let mut table = Table::new();
    table.load_style(match style {
        Style::Terminal => RULED,
        Style::Markdown => presets::ASCII_MARKDOWN,
    });
    table.set_header(align(header));
    for row in rows {
        table.add_row(align(row));
    }
    table.trim_fmt()
}

/// Lines of values under a header.
pub fn csv(header: &[&str], records: impl Iterator<Item = Vec<String>>) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Error::input(format!("cannot write the results as CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(|e| failed(&e))?;
    for record in records {
        writer.write_record(record).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}
