//! `kerase experiment`: the paper's whole study from one file.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::Serialize;

use super::args::DeviceArgs;
use super::bench::problem::Problem;
use super::loader_args::LoaderArgs;
use super::output::{json, print};
use super::stop::{self, Stop};
use crate::atomic;
use crate::backend::{Backend, ImageShape};
use crate::cuda::driver::gpus;
use crate::data::set::VolumeSet;
use crate::device::{Device, DeviceChoice, Work};
use crate::engine::{Engine, Task as EngineTask};
use crate::error::{Error, Result};
use crate::experiment::gather::{Machine, gather};
use crate::experiment::graph::Task;
use crate::experiment::pictures::pictures;
use crate::experiment::results::Results;
use crate::experiment::settings::SetSource;
use crate::experiment::{Experiment, Graph, Settings};
use crate::model::VarNet;
use crate::plan::Plan;
use crate::report::study::Report;
use crate::report::table::{Style, render};
use crate::run::Outcome;

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
    type Output = Result<Option<Vec<crate::experiment::results::Picture>>>;

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
        let mut device = self.device.clone();
        if self.jobs > 1 && device.threads.threads.is_none() {
            let all = std::thread::available_parallelism().map_or(1, usize::from);
            device.threads.threads = u16::try_from(all / usize::from(self.jobs)).ok().map(|n| n.max(1));
        }
        let on = device.start()?;
        let graph = Graph::plan(&settings, &out, on.precision())?;
        graph.nodes.iter().try_for_each(|node| node.check_version())?;
        if self.dry_run {
            return on.run(DryRun { settings: &settings, graph: &graph, device: on })?;
        }
        let stop = stop::on_signals()?;
        if self.worker {
            // Without the process that waits for it, it would go on unseen. Where that cannot be had, it does.
            let _ = set_parent_process_death_signal(Some(Signal::TERM));
        }
        std::fs::create_dir_all(&out).map_err(|e| Error::io("create", &out, e))?;
        let helpers = self.helpers(&out, on, device.threads.threads)?;
        let (leads, loader, provenance) = (!self.worker, self.loader.options(), super::audit::provenance(on));
        let experiment =
            Experiment { settings: &settings, graph: &graph, stop: &stop, leads, loader, provenance };
        let study = Study { experiment, settings: &settings, out: &out, worker: self.worker };
        let done = on.run(study).flatten();
        self.join(helpers, &stop)?;
        let Some(pictures) = done? else {
            if !self.worker {
                print(format!(
                    "stopped, unfinished: continue with  kerase experiment {} --out {}",
                    self.file.display(),
                    out.display()
                ))?;
            }
            stop.exit()
        };
        if self.worker {
            return Ok(());
        }
        let machine = Machine {
            device: on.described(),
            machine: machine(on),
            commit: option_env!("KERASE_COMMIT").map(String::from),
        };
        let results = Results { pictures, ..gather(&settings, &graph, &out, &name, machine)? };
        let path = out.join("results.json");
        atomic::write_bytes(&path, (json(&results)? + "\n").as_bytes())?;
        let page = out.join("report.html");
        Report::new(&results, &out)?.write(&page)?;
        print(format!("finished: results in {}, look at {}", path.display(), page.display()))
    }

    /// The processes that work beside this one.
    fn helpers(&self, out: &Path, device: Device, threads: Option<u16>) -> Result<Vec<Child>> {
        let program = std::env::current_exe().map_err(|e| Error::io("find", "kerase itself", e))?;
        let helper = |number: usize| {
            let mut command = Command::new(&program);
            command.arg("experiment").arg(&self.file).arg("--out").arg(out).arg("--worker");
            command.arg("--device").arg(beside(device, number).to_string());
            if let Some(precision) = self.device.precision {
                command.arg("--precision").arg(precision.to_string());
            }
            command.arg("--cache-gib").arg(self.loader.cache_gib.to_string());
            if let Some(threads) = threads {
                command.arg("--threads").arg(threads.to_string());
            }
            // Ctrl-C is for this process, which hands it on.
            command.process_group(0);
            command.spawn().map_err(|e| Error::io("start", &program, e))
        };
        (1..usize::from(self.jobs)).map(helper).collect()
    }

    /// Waits for helpers; one that failed has said why.
    fn join(&self, helpers: Vec<Child>, stop: &Stop) -> Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        for mut helper in helpers {
            if stop.load(Relaxed) {
                // It may have ended by itself.
                let _ = kill_process(Pid::from_child(&helper), Signal::TERM);
            }
            let status = helper.wait().map_err(|e| Error::io("wait for", "a process of --jobs", e))?;
            if !status.success() && !stop.load(Relaxed) {
                return Err(Error::Device(format!(
                    "a process of --jobs ended with {status}; its message is above"
                )));
            }
        }
        Ok(())
    }
}

/// The device of the helper with this number.
fn beside(device: Device, number: usize) -> DeviceChoice {
    match device {
        Device::Cpu => DeviceChoice::Cpu,
        Device::Emulated(_) => DeviceChoice::Emulated,
        Device::Cuda(first, _) => {
            let gpus = gpus::devices().map_or(1, |devices| devices.len().max(1));
            DeviceChoice::Cuda((first + number) % gpus)
        }
    }
}

/// What the numbers were made on.
fn machine(device: Device) -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = model.map_or("a CPU", |(_, name)| name.trim());
    let cpu = format!("{cpu}, {} threads", rayon::current_num_threads());
    match device {
        Device::Cuda(number, _) => {
            let gpu = gpus::find(number).map_or_else(|_| "a GPU".to_string(), |info| info.name);
            format!("{gpu}; {cpu}")
        }
        Device::Cpu | Device::Emulated(_) => cpu,
    }
}

/// What would be run.
struct DryRun<'s> {
    settings: &'s Settings,
    graph: &'s Graph,
    device: Device,
}

#[derive(Serialize)]
struct Estimate {
    seconds_per_step: f64,
    seconds_per_slice: f64,
    training_bytes: u64,
}

impl Work for DryRun<'_> {
    type Output = Result<()>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let estimate = self.estimate(ops)?;
        let header = ["run", "steps", "slices measured", "expected time", "state"].map(String::from);
        let seconds = |node: &crate::experiment::graph::Node| {
            node.steps as f64 * estimate.seconds_per_step + node.measured as f64 * estimate.seconds_per_slice
        };
        let rows = self.graph.nodes.iter().map(|node| {
            let state = match (node.is_done(), node.directory.exists()) {
                (true, _) => "done",
                (_, true) => "begun",
                _ => "",
            };
            let time = match node.task {
                Task::Simulate(_) => String::new(),
                _ => duration(seconds(node)),
            };
            vec![node.name.clone(), node.steps.to_string(), node.measured.to_string(), time, state.into()]
        });
        print(render(Style::Terminal, header.to_vec(), rows, 1))?;
        let left: f64 = self.graph.nodes.iter().filter(|node| !node.is_done()).map(seconds).sum();
        let left = duration(left);
        print(format!(
            "{} runs; what is not done takes {left} on {} at {:.3} s a step and {:.3} s a slice (measured just now, data \
             in memory); a run needs {:.1} MiB",
            self.graph.nodes.len(),
            self.device.described(),
            estimate.seconds_per_step,
            estimate.seconds_per_slice,
            estimate.training_bytes as f64 / f64::from(1 << 20)
        ))
    }
}

impl DryRun<'_> {
    /// The shape of the retain set's first volume stands for all.
    fn shape(&self) -> Result<(ImageShape, [usize; 2])> {
        let n = self.settings.training.batch;
        let most = self.settings.sampling.virtual_coils.unwrap_or(usize::MAX);
        let coils = |stored: usize| stored.min(most);
        match &self.settings.sets.retain {
            SetSource::Path(path) => {
                let set = VolumeSet::open(path)?;
                let shape = set.shape(0);
                let [rows, columns] = shape.matrix;
                Ok((
                    ImageShape { n, coils: coils(shape.coils), rows, columns },
                    shape.target.unwrap_or(shape.matrix),
                ))
            }
            SetSource::Simulated(subjects) => {
                let config = self.settings.simulated(subjects.simulate)?;
                let [rows, columns] = config.matrix;
                Ok((ImageShape { n, coils: coils(config.coils), rows, columns }, config.recon))
            }
        }
    }

    fn estimate<B: Backend<Real = f32>>(&self, ops: &B) -> Result<Estimate> {
        let (shape, target) = self.shape()?;
        let network = self.settings.network;
        let net = VarNet::new(network)?;
        let recompute = self.settings.training.low_memory;
        let training =
            Plan::of(&net, shape, EngineTask::Learn { target, recompute }, self.device.precision())?;
        let problem = Problem::of(network, shape, target);
        let parameters = network.initial_parameters(0);
        let mut engine = Engine::for_training(ops, network, &parameters)?.recomputing(recompute);
        engine.put(&problem.batch, Some(&problem.reference))?;
        let seconds_per_step = second_time(|| problem.train(&mut engine))?;
        let mut engine = Engine::new(ops, network, &parameters)?;
        let single = Problem::of(network, ImageShape { n: 1, ..shape }, target);
        engine.put(&single.batch, None)?;
        let seconds_per_slice = second_time(|| single.reconstruct(&mut engine))?;
        Ok(Estimate { seconds_per_step, seconds_per_slice, training_bytes: training.total() })
    }
}

/// The first time makes what is made once.
fn second_time(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let started = std::time::Instant::now();
    run()?;
    Ok(started.elapsed().as_secs_f64())
}

fn duration(seconds: f64) -> String {
    indicatif::HumanDuration(std::time::Duration::from_secs_f64(seconds)).to_string()
}
