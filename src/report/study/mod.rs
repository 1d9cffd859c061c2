//! A whole study for people: from the results of an experiment its tables, its findings, its figures, and one page.
//!
//! [`condition`] takes runs of several seeds together, [`tables`] and [`findings`] turn them into numbers, [`figures`]
//! draws them, [`page`] puts everything on one self-contained page. Nothing here computes on a device.

pub mod condition;
pub mod evidence;
pub mod figures;
pub mod findings;
pub mod fit;
pub mod numbers;
pub mod page;
pub mod table;
pub mod tables;

use std::path::{Path, PathBuf};

use crate::atomic;
use crate::error::{Error, Result};
use crate::experiment::results::Results;

use condition::Study;
use figures::Figure;
use figures::pictures::Loaded;
use findings::Finding;
use table::Table;

/// Everything that a study's results are made into.
pub struct Report<'r> {
    pub study: Study<'r>,
    pub findings: Vec<Finding>,
    /// The paper's, then that of the findings, and that of the audits where there are any.
    pub tables: Vec<Table>,
    pub figures: Vec<Figure>,
    pub pictures: Vec<Loaded<'r>>,
}

impl<'r> Report<'r> {
    /// `experiment` is the directory that paths in the results are relative to.
    ///
    /// # Errors
    /// An image file that is missing or of the wrong size.
    pub fn new(results: &'r Results, experiment: &Path) -> Result<Self> {
        let study = Study::new(results);
        let findings = findings::findings(&study);
        let mut tables = vec![tables::table1(&study)?, tables::table2(&study)?];
        tables.extend(tables::table3(&study)?);
        tables.push(findings::table(&findings)?);
        tables.extend(evidence::table(&study)?);
        let pictures: Vec<Loaded> = results
            .pictures
            .iter()
            .map(|picture| Loaded::read(picture, &results.kinds, experiment))
            .collect::<Result<_>>()?;
        let figures = figures::figures(&study, &pictures)?;
        Ok(Self { study, findings, tables, figures, pictures })
    }

    /// Writes the page, and tables/ and figures/ beside it, over those of a report before.
    ///
    /// # Errors
    /// From the disk.
    pub fn write(&self, page: &Path) -> Result<()> {
        let beside = page.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let directory = |name: &str| -> Result<PathBuf> {
            let path = beside.join(name);
            std::fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
            Ok(path)
        };
        let (tables, figures) = (directory("tables")?, directory("figures")?);
        self.tables.iter().try_for_each(|table| table.write(&tables))?;
        self.figures.iter().try_for_each(|figure| figure.write(&figures))?;
        atomic::write_bytes(page, self.page()?.as_bytes())
    }

    /// The page as HTML.
    ///
    /// # Errors
    /// An image that cannot be encoded.
    pub fn page(&self) -> Result<String> {
        page::page(self)
    }
}
