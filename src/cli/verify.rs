//! `kerase verify`: whether an audit's record, data and weights still belong together.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Mutex;

use super::args::ThreadArgs;
use super::output::print;
use crate::audit::evidence::Audit;
use crate::audit::verify::verify;
use crate::error::{Error, Result};
use crate::progress::Progress;

const EXAMPLE: &str = "\
Examples:
  kerase verify unlearned/audit.json
  kerase verify unlearned/audit.json --root /mnt/archive

The exit code is 0 where everything agrees, 1 where something does not, and 2 for a record that cannot be read.";

/// Computes the digests of an audit record, its data and its weights again, and names what does not agree
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The record that kerase audit wrote, or the run that it is of
    #[arg(value_name = "AUDIT.json", value_parser = record)]
    audit: PathBuf,

    /// Where data and weights lie if they were moved: each file is looked for there by as much of its old path as there
    /// is. The run's own files are looked for beside the record first
    #[arg(long, visible_alias = "data-root", value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(flatten)]
    threads: ThreadArgs,
}

/// A run's record where a run is named.
fn record(text: &str) -> std::result::Result<PathBuf, Infallible> {
    let path = PathBuf::from(text);
    Ok(if path.is_dir() { path.join("audit.json") } else { path })
}

impl Args {
    /// # Errors
    /// [`Error::Mismatch`] with everything that does not agree; a record that cannot be read.
    pub fn run(self) -> Result<()> {
        self.threads.start()?;
        if let Some(root) = self.root.as_ref().filter(|root| !root.is_dir()) {
            return Err(Error::input(format!("--root {}: there is no such directory", root.display())));
        }
        let volumes = Audit::read(&self.audit)?.sets.iter().map(|set| set.files.len()).sum::<usize>();
        let progress = Mutex::new(Progress::new(volumes as u64, "verifying"));
        let step = || progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner).step("");
        let found = verify(&self.audit, self.root.as_deref(), &step)?;
        drop(progress);
        let shown = self.audit.display();
        if found.mismatches.is_empty() {
            return print(format!(
                "{shown}: record, data and weights belong together: {} files, {} slices and {} networks agree; SHA-256 of \
                 the record: {}",
                found.files, found.slices, found.weights, found.sha256
            ));
        }
        let lines: String = found.mismatches.iter().map(|line| format!("\n  {line}")).collect();
        let missing = found.mismatches.iter().any(|line| line.contains("cannot read"));
        let remedy = match (missing, &self.root) {
            (true, None) => "\nwhat was moved is looked for where --root DIR says",
            _ => "",
        };
        Err(Error::Mismatch(format!("{shown}: this does not agree:{lines}{remedy}")))
    }
}
