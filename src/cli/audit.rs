//! `kerase audit`: evidence of what an unlearning run did.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::args::DeviceArgs;
use super::labelled::weights_argument;
use super::output::{check_file, print};
use super::request_args::named_set;
use crate::audit::evidence::{Audit, Request};
use crate::audit::gather::audit;
use crate::audit::opened::Opened;
use crate::audit::settings::{AuditSettings, RELEARN_STEPS};
use crate::audit::subject::Subject;
use crate::backend::Backend;
use crate::device::Work;
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::report::audit::{text, write_page};
use crate::unlearn::config::NamedSet;

const EXAMPLE: &str = "\
Example:
  kerase audit --run unlearned --unseen knee/test --test brain=brain/test --oracle oracle/model.safetensors \\
      --request-id 2026-117 --reason \"consent withdrawn\"

It writes unlearned/audit.json, and audit.html to read; kerase verify says later whether record, data and weights still belong together. What each
number means, and what it does not show: docs/audit.md.";

/// Gathers evidence of forgetting for an unlearning run: scores, membership inference, relearning, weight distances
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Directory of a finished run of kerase unlearn; audit.json is written there
    #[arg(long, value_name = "RUN")]
    run: PathBuf,

    /// Directory, file or manifest of volumes of the forget set's kind that no network was trained on; several are joined
    #[arg(long, value_name = "SET", required = true)]
    unseen: Vec<PathBuf>,

    /// Another set that no network was trained on, such as one like the retain set; may be given several times
    #[arg(long = "test", value_name = "NAME=SET", value_parser = named_set)]
    tests: Vec<NamedSet>,

    /// Weights of the same network trained without the forget set, or the run that left them
    #[arg(long, value_name = "FILE", value_parser = weights_argument)]
    oracle: Option<PathBuf>,

    /// What the request to forget is called, for the record
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,

    /// Why the data had to be forgotten, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// The most steps of relearning the forget set; 0 for none
    #[arg(long, value_name = "N", default_value_t = RELEARN_STEPS, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    relearn_steps: u64,

    /// Seed of the order in which slices are relearned [default: the run's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Replace the audit.json that is there
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

impl Work for Opened {
    type Output = Result<Option<Audit>>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        // Nothing is saved on the way: a signal ends the program as it always does.
        audit(ops, self, &AtomicBool::new(false))
    }
}

impl Args {
    /// # Errors
    /// A run, sets or weights that cannot be audited, before anything is computed; later what data or device refuse.
    pub fn run(self) -> Result<()> {
        let path = self.run.join("audit.json");
        let subject = Subject::read(&self.run, false)?;
        if path.exists() && !self.overwrite {
            return Err(Error::input(format!(
                "{} exists: give --overwrite, or move it away to keep it",
                path.display()
            )));
        }
        check_file(&path, true)?;
        let device = self.device.start()?;
        let mut settings = AuditSettings::new(&subject.config, &self.unseen, self.tests);
        settings.relearn_steps = self.relearn_steps;
        settings.seed = self.seed.unwrap_or(settings.seed);
        let request = Request { id: self.request_id, reason: self.reason };
        let opened = Opened::new(subject, settings, self.oracle, request, Provenance::of(device))?;
        let record = device.run(opened)??.expect("nobody asked it to stop");
        record.write(&path)?;
        let page = write_page(&path)?;
        print(text(&record))?;
        print(format!("evidence: {}; SHA-256 of the record: {}", path.display(), record.sha256))?;
        print(format!("look at {}", page.display()))
    }
}
