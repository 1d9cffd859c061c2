//! A table in the forms in which it is written: Markdown and HTML for people, CSV and JSON with every digit.

use std::path::Path;

use serde::Serialize;

use crate::atomic;
use crate::error::Result;
use crate::json;
use crate::metrics::Spread;
use crate::table::{Style, csv, render};

#[derive(Clone, Debug)]
pub struct Table {
    /// Stem of its files.
    pub name: &'static str,
    pub title: String,
    /// What its numbers are.
    pub caption: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// So many columns are words and stand left.
    pub words: usize,
    pub csv: String,
    pub json: String,
}

/// What people see of a table.
pub struct Shown {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub words: usize,
}

impl Table {
    /// `rows` are what the JSON file holds, and what `record` makes a line of the CSV file of.
    pub(super) fn new<R: Serialize>(
        name: &'static str,
        title: impl Into<String>,
        caption: String,
        shown: Shown,
        rows: &[R],
        record: impl Fn(&R) -> Record,
    ) -> Result<Self> {
        #[derive(Serialize)]
        struct Document<'a, R> {
            table: &'a str,
            title: &'a str,
            caption: &'a str,
            rows: &'a [R],
        }
        let title = title.into();
        let document = Document { table: name, title: &title, caption: &caption, rows };
        let json = json::text(&document)?;
        let records: Vec<Record> = rows.iter().map(record).collect();
        let columns: Vec<&str> =
            records.first().map_or(Vec::new(), |r| r.0.iter().map(|(column, _)| column.as_str()).collect());
        let csv =
            csv(&columns, records.iter().map(|r| r.0.iter().map(|(_, value)| value.clone()).collect()))?;
        let Shown { header, rows, words } = shown;
        Ok(Self { name, title, caption, header, rows, words, csv, json: json + "\n" })
    }

    pub fn markdown(&self) -> String {
        let table = render(Style::Markdown, self.header.clone(), self.rows.iter().cloned(), self.words);
        format!("**{}**\n\n{table}\n\n{}\n", self.title, self.caption)
    }

    /// Writes name.md, name.csv and name.json.
    ///
    /// # Errors
    /// From the disk.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let texts = [("md", &self.markdown()), ("csv", &self.csv), ("json", &self.json)];
        texts.into_iter().try_for_each(|(extension, text)| {
            atomic::write_bytes(directory.join(self.name).with_extension(extension), text.as_bytes())
        })
    }
}

/// A line of a CSV file: columns by name.
#[derive(Default)]
pub(super) struct Record(Vec<(String, String)>);

impl Record {
    pub fn put(mut self, column: impl Into<String>, value: impl ToString) -> Self {
        self.0.push((column.into(), value.to_string()));
        self
    }

    /// Empty for none.
    pub fn put_option(self, column: impl Into<String>, value: Option<impl ToString>) -> Self {
        self.put(column, value.map_or(String::new(), |v| v.to_string()))
    }

    /// A column for the mean and one for the deviation, which says over what it is.
    pub fn put_spread(self, column: &str, value: Option<Spread>) -> Self {
        self.put_option(column, value.map(|s| s.mean))
            .put_option(format!("{column}_sd_over_seeds"), value.and_then(|s| s.sd))
    }
}
