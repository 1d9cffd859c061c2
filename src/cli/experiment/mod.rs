//! `kerase experiment`: the paper's whole study from one file.

mod dry_run;
mod helpers;

use std::path::{Path, PathBuf};

use super::args::DeviceArgs;
use super::loader_args::LoaderArgs;
use super::output::print;
use super::stop;
use crate::backend::Backend;
use crate::device::{DeviceChoice, Work};
use crate::error::{Error, Result};
use crate::experiment::gather::gather;
use crate::experiment::node_files::check_results_are_own;
use crate::experiment::pictures::pictures;
use crate::experiment::results::{Picture, Results};
use crate::experiment::{Experiment, Graph, Settings};
use crate::json;
use crate::progress::warn;
use crate::provenance::Provenance;
use crate::report::audit::write_page;
use crate::report::study::Report;
use crate::run::{Outcome, RunDirectory};
use dry_run::DryRun;
use helpers::Helpers;

const EXAMPLE: &str = "\
Example:
  kerase experiment experiments/tiny.toml --out tiny
  kerase experiment experiments/paper.toml --out paper --dry-run
  kerase experiment experiments/paper.toml --out paper --device cuda:0 --jobs 4

What was interrupted goes on when the same command is given again, finished runs are not repeated, and a changed setting
makes again only what depends on it. Commands with one --out share the work, also from several machines with one disk.";

/// Runs the paper's study: trains, makes forget, measures every epoch, and reports
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The experiment: sets, network, training, methods and retain fractions
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,

    /// Directory for data, runs and results [default: the file's name without its ending]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Say what would be run, with the time and memory that it would take, and leave it at that
    #[arg(long)]
    dry_run: bool,

    /// Runs side by side, each in a process of its own: with --device cuda:N on that GPU and those after it, on the CPU
    /// with a part of its threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,

    /// Only take part in the work, and leave results to another process
    #[arg(long, hide = true)]
    worker: bool,

    #[command(flatten)]
    loader: LoaderArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A study on its device: everything but its results.
struct Study<'s> {
    experiment: Experiment<'s>,
    settings: &'s Settings,
    out: &'s Path,
    worker: bool,
}

impl Work for Study<'_> {
    /// The pictures, where the study came to its end.
    type Output = Result<Option<Vec<Picture>>>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        match self.experiment.run(ops, &|line| print(line))? {
            Outcome::Stopped => Ok(None),
            Outcome::Finished if self.worker => Ok(Some(Vec::new())),
            Outcome::Finished => pictures(ops, self.settings, self.experiment.graph, self.out).map(Some),
        }
    }
}

impl Args {
    /// # Errors
    /// A study that cannot be, before anything starts; later the first failure of one of its runs.
    pub fn run(self) -> Result<()> {
        let settings = Settings::read(&self.file)?;
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(&name));
        if out.exists() && !out.is_dir() {
            return Err(Error::input(format!(
                "--out {}: it is a file; an experiment needs a directory",
                out.display()
            )));
        }
        RunDirectory::refuse_as_study(&out)?;
        check_results_are_own(&out)?;
        let mut device = self.device.clone();
        if device.device == DeviceChoice::Auto {
            device.device = settings.device.unwrap_or_default();
        }
        device.precision = device.precision.or(settings.precision);
        if self.jobs > 1 && device.threads.threads.is_none() {
            let all = std::thread::available_parallelism().map_or(1, usize::from);
            device.threads.threads = u16::try_from(all / usize::from(self.jobs)).ok().map(|n| n.max(1));
        }
        let on = device.start()?;
        let graph = Graph::plan(&settings, &out, on.precision())?;
        graph.nodes.iter().try_for_each(|node| node.check_version())?;
        if self.dry_run {
            return on.run(DryRun { settings: &settings, graph: &graph, device: on, jobs: self.jobs })?;
        }
        let stop = stop::on_signals()?;
        if self.worker {
            helpers::end_with_the_lead();
        }
        std::fs::create_dir_all(&out).map_err(|e| Error::io("create", &out, e))?;
        let results_path = out.join("results.json");
        if results_path.exists() && !graph.nodes.iter().all(|node| node.is_done()) {
            // Those of a study with other settings. A script takes them for the end of this one.
            std::fs::remove_file(&results_path).map_err(|e| Error::io("remove", &results_path, e))?;
        }
        let helpers = Helpers::start(&self, &device, on, &out)?;
        let by = Provenance::of(on);
        let experiment = Experiment {
            settings: &settings,
            graph: &graph,
            stop: &stop,
            leads: !self.worker,
            loader: self.loader.options(),
            by: by.clone(),
        };
        let study = Study { experiment, settings: &settings, out: &out, worker: self.worker };
        let done = on.run(study).flatten();
        let joined = helpers.join(&stop, done.is_err());
        // The first to fail here is the one to be told of, not what ended because of it.
        let pictures = done?;
        let Some(pictures) = pictures else {
            joined?;
            if !self.worker {
                print(format!(
                    "stopped, unfinished: continue with  kerase experiment {} --out {}",
                    self.file.display(),
                    out.display()
                ))?;
            }
            stop.exit()
        };
        if let Err(error) = joined {
            warn(&format!("{error}; all parts are done all the same"));
        }
        if self.worker {
            return Ok(());
        }
        let results = Results { pictures, ..gather(&settings, &graph, &out, &name, (&by, on.described()))? };
        json::write(&results_path, &results)?;
        let page = out.join("report.html");
        Report::new(&results, &out)?.write(&page)?;
        results.audits.iter().try_for_each(|audit| write_page(&out.join(&audit.audit)).map(drop))?;
        print(format!("finished: results in {}, look at {}", results_path.display(), page.display()))
    }
}
