//! `kerase report`.

use std::path::{Path, PathBuf};

use crate::atomic;
use crate::audit::Audit;
use crate::cli::output::{check_file, print};
use crate::error::{Error, Result};
use crate::experiment::results::Results;
use crate::report::audit;
use crate::report::study::Report;

const EXAMPLE: &str = "\
Examples:
  kerase report my-experiment
  kerase report my-experiment --out /tmp/mine/page.html
  kerase report unlearned";

/// Makes one self-contained page of what an experiment found, with its tables and figures, or of a run's audit
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Directory of an experiment, with its results.json, or of an unlearning run, with its audit.json
    run: PathBuf,

    /// The page; an experiment's tables/ and figures/ are written beside it. Without this, they go into RUN, as report.html
    /// or audit.html, over those of a report before
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Replace the page that --out names
    #[arg(long)]
    overwrite: bool,
}

impl Args {
    /// # Errors
    /// A directory without results, images that are not there, and a page that cannot be written.
    pub fn run(self) -> Result<()> {
        let [results, record] = ["results.json", "audit.json"].map(|name| self.run.join(name));
        let run = self.run.display();
        if results.is_file() {
            self.of_experiment(&results)
        } else if record.is_file() {
            self.of_audit(&record)
        } else if self.run.join("unlearning.json").is_file() {
            Err(Error::input(format!(
                "{run} is an unlearning run without an audit.json: make one with  kerase audit --run {run} --unseen SET"
            )))
        } else if self.run.is_dir() {
            Err(Error::input(format!(
                "{run} holds no results.json: kerase report takes the directory of an experiment that has ended, or of a \
                 run with an audit.json"
            )))
        } else {
            Err(Error::input(format!(
                "there is no directory {run}: kerase report takes that of an experiment"
            )))
        }
    }

    /// Where the page goes.
    fn page(&self, name: &str) -> Result<PathBuf> {
        let page = self.out.clone().unwrap_or_else(|| self.run.join(name));
        check_file(&page, self.overwrite || self.out.is_none())?;
        Ok(page)
    }

    fn of_experiment(&self, results: &Path) -> Result<()> {
        let page = self.page("report.html")?;
        let results = Results::read(results)?;
        let report = Report::new(&results, &self.run)?;
        report.write(&page)?;
        for finding in &report.findings {
            print(format!("{}. {} {}", finding.number, finding.claim, finding.verdict.name()))?;
        }
        print(format!("look at {}", page.display()))
    }

    fn of_audit(&self, record: &Path) -> Result<()> {
        let path = self.page("audit.html")?;
        let audit = Audit::read(record)?;
        atomic::write_bytes(&path, audit::page::page(&audit)?.as_bytes())?;
        for flag in &audit.flags {
            print(format!("flag, {}: {}", flag.kind.name(), flag.text))?;
        }
        print(format!("look at {}", path.display()))
    }
}
