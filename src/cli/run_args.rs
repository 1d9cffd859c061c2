//! Options of a run, which training and unlearning share.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde::Serialize;

use crate::cli::loader_args::LoaderArgs;
use crate::cli::output::print;
use crate::cli::stop::Stop;
use crate::error::{Error, Result};
use crate::ranks::Ranks;
use crate::run::optimisation::{Loss, Optimisation};
use crate::run::plateau::PlateauSettings;
use crate::run::{Outcome, RunDirectory, RunState, Session, Start};

/// How the optimiser runs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Optimisation")]
pub struct OptimisationArgs {
    /// What is minimised [default: what a network that is there already was trained with; otherwise ssim+l1,
    /// (1 - SSIM) + 1e-5 L1]
    #[arg(long, value_enum)]
    pub loss: Option<Loss>,

    /// Adam's learning rate [default: in unlearning, as the network was trained; otherwise 1e-3]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,

    /// Global norm that gradients are clipped to; inf for no clip [default: as a network that is there already was trained;
    /// otherwise 0.5]
    #[arg(long, value_name = "NORM")]
    pub clip: Option<f64>,

    /// Slices of one shape in a step, over all ranks [default: in unlearning, as the network was trained; otherwise 1; one for
    /// each rank at least]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,

    /// Passes over the data [default: 50 in training, 5 in unlearning, as many as the network was trained for in retraining]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,

    /// Steps to take, over as many epochs as that needs; with --epochs, whichever ends first
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,

    /// Save within an epoch too, every N steps
    #[arg(long, value_name = "N")]
    pub checkpoint_every: Option<u64>,

    /// Keep each cascade's input instead of every feature map, and compute the maps again for the backward pass: the
    /// same bits with a fraction of the memory, in about a third more time
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub low_memory: Option<bool>,

    /// Take slices in the order of the set
    #[arg(long)]
    pub no_shuffle: bool,

    /// Seed of initial weights, order, masks and noise [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// What the learning rate is multiplied by on a plateau of the training loss [default: 0.1]
    #[arg(long, value_name = "F")]
    pub lr_factor: Option<f64>,

    /// Epochs without improvement before that [default: 10; where an unlearning goes on with training's
    /// optimiser, what that had; with a fresh one, but for retrain, 1]
    #[arg(long, value_name = "N")]
    pub lr_patience: Option<u64>,
}

impl OptimisationArgs {
    /// The settings, with `defaults` for what nobody gave, and a batch of a slice for each rank at least.
    ///
    /// # Errors
    /// As [`Optimisation::check`].
    pub fn settings(&self, defaults: &Optimisation, ranks: &Ranks) -> Result<Optimisation> {
        let settings = Optimisation {
            loss: self.loss.unwrap_or(defaults.loss),
            lr: self.lr.unwrap_or(defaults.lr),
            clip: self.clip.or(defaults.clip).filter(|clip| *clip != f64::INFINITY),
            batch: self.batch.unwrap_or(defaults.batch.max(ranks.size())),
            epochs: self.epochs.or(defaults.epochs.filter(|_| self.max_steps.is_none())),
            max_steps: self.max_steps.or(defaults.max_steps.filter(|_| self.epochs.is_none())),
            checkpoint_every: self.checkpoint_every,
            low_memory: self.low_memory.unwrap_or(defaults.low_memory),
            // The device's, once that is known.
            precision: defaults.precision,
            shuffle: !self.no_shuffle,
            seed: self.seed.unwrap_or(defaults.seed),
            plateau: PlateauSettings {
                factor: self.lr_factor.unwrap_or(defaults.plateau.factor),
                patience: self.lr_patience.unwrap_or(defaults.plateau.patience),
            },
        };
        settings.check()?;
        Ok(settings)
    }

    /// Whether anything was said about the steps: all but what is minimised, the memory for it and the seed.
    pub fn of_steps(&self) -> bool {
        let Self { lr, clip, batch, epochs, max_steps, checkpoint_every, no_shuffle, .. } = self;
        lr.is_some()
            || clip.is_some()
            || batch.is_some()
            || epochs.is_some()
            || max_steps.is_some()
            || checkpoint_every.is_some()
            || *no_shuffle
            || self.lr_factor.is_some()
            || self.lr_patience.is_some()
    }

    /// On resuming, a run may be made longer or shorter, saved more or less often, and computed with more or less memory:
    /// none of it changes a bit of a step. All else is fixed.
    ///
    /// # Errors
    /// Where another option was given.
    pub fn extend(&self, settings: &mut Optimisation) -> Result<()> {
        let Self { loss, lr, clip, batch, no_shuffle, seed, .. } = self;
        let fixed = loss.is_some()
            || lr.is_some()
            || clip.is_some()
            || batch.is_some()
            || *no_shuffle
            || seed.is_some()
            || self.lr_factor.is_some()
            || self.lr_patience.is_some();
        if fixed {
            return Err(not_on_resume());
        }
        self.lengthen(settings)
    }

    /// As [`Self::extend`], for a run that may be given all of its options again: `asked` is what they stand for.
    ///
    /// # Errors
    /// Where an option is not what it was.
    pub fn go_on<C: Serialize>(
        &self,
        mut stored: C,
        mut asked: C,
        of: impl Fn(&mut C) -> &mut Optimisation,
        run: &Path,
    ) -> Result<C> {
        let was = of(&mut stored).clone();
        let now = of(&mut asked);
        if self.batch.is_none() {
            // It was as many as there were ranks.
            now.batch = was.batch;
        }
        *now = Optimisation {
            epochs: was.epochs,
            max_steps: was.max_steps,
            checkpoint_every: was.checkpoint_every,
            low_memory: was.low_memory,
            precision: was.precision,
            ..now.clone()
        };
        let tables = [&stored, &asked].map(|config| toml::Table::try_from(config).unwrap_or_default());
        if let Some(key) = first_difference(&tables[0], &tables[1]) {
            return Err(Error::input(format!(
                "the run in {} began with another {key}, as its config.toml says: give it the options that it had, or \
                 choose another --out",
                run.display()
            )));
        }
        self.lengthen(of(&mut stored))?;
        Ok(stored)
    }

    fn lengthen(&self, settings: &mut Optimisation) -> Result<()> {
        let Self { epochs, max_steps, checkpoint_every, low_memory, .. } = self;
        settings.epochs = epochs.or(settings.epochs);
        settings.max_steps = max_steps.or(settings.max_steps);
        settings.checkpoint_every = checkpoint_every.or(settings.checkpoint_every);
        settings.low_memory = low_memory.unwrap_or(settings.low_memory);
        settings.check()
    }
}

/// The key of the first value that two tables do not share.
fn first_difference(a: &toml::Table, b: &toml::Table) -> Option<String> {
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    keys.filter(|key| a.get(*key) != b.get(*key))
        .map(|key| match (a.get(key), b.get(key)) {
            (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => {
                format!("{key}.{}", first_difference(a, b).unwrap_or_default())
            }
            _ => key.clone(),
        })
        .next()
}

/// An option that would change a run that has begun.
pub fn not_on_resume() -> Error {
    Error::input(
        "--resume goes on with the settings in the run's config.toml: beside --out it takes only --epochs, --max-steps, \
         --checkpoint-every, --low-memory, --device, --precision and --threads",
    )
}

/// When to continue a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Resume {
    /// There must be one
    Always,
    /// If there is one
    Auto,
}

/// Where a run lies, and whether it may replace or continue one.
#[derive(Clone, Debug, Args)]
pub struct OutArgs {
    /// Directory of the run: settings, log, weights and state
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,

    /// Continue the run in --out, bit for bit as if it had not been stopped; auto: if there is one, otherwise start it.
    /// Ctrl-C, SIGTERM and SIGUSR1 let a run finish its step and save; the exit code is 130 after Ctrl-C and 0 after the
    /// others, and summary.json, or unlearning.json, says whether a run is finished
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "always", conflicts_with = "overwrite")]
    pub resume: Option<Resume>,

    /// Replace the run in --out
    #[arg(long)]
    pub overwrite: bool,
}

impl OutArgs {
    pub fn start(&self) -> Start {
        match (self.resume, self.overwrite) {
            (Some(Resume::Always), _) => Start::Resume,
            (Some(Resume::Auto), _) if RunDirectory::check(&self.out, Start::Resume).is_ok() => Start::Resume,
            (_, true) => Start::Overwrite,
            _ => Start::New,
        }
    }

    /// Of a run that somebody watches.
    pub fn session<'s>(
        &'s self,
        start: Start,
        loader: &LoaderArgs,
        ranks: &'s Ranks,
        stop: &'s AtomicBool,
    ) -> Session<'s> {
        Session { out: &self.out, start, loader: loader.options(), shown: true, ranks, stop }
    }

    /// Whether the run's options may be given again where it goes on.
    pub fn again(&self) -> bool {
        self.resume == Some(Resume::Auto)
    }

    /// What to say of a run that is to be resumed but has come to its end, and left `result` there.
    ///
    /// # Errors
    /// A state that cannot be read.
    pub fn finished_already(&self, settings: &Optimisation, result: &str) -> Result<Option<String>> {
        let directory = RunDirectory::check(&self.out, self.start())?;
        // A run that was stopped while it measured what its last step led to has a result that says so.
        let result = std::fs::read(directory.path().join(result)).ok();
        let result: Option<serde_json::Value> = result.and_then(|text| serde_json::from_slice(&text).ok());
        let finished = result.is_some_and(|result| result["finished"] != false);
        if self.start() != Start::Resume || !directory.state().exists() || !finished {
            return Ok(None);
        }
        let state = RunState::read(&directory.state())?;
        let over = state.finished && state.reaches(settings.epochs, settings.max_steps);
        let longer = match settings.max_steps {
            Some(most) if state.step >= most => {
                format!("--max-steps {most} ended it: a larger one makes it longer")
            }
            _ => "--epochs or --max-steps make it longer".into(),
        };
        Ok(over.then(|| {
            format!(
                "{} is finished already ({} steps, {} epochs) and stays as it is; {longer}",
                self.out.display(),
                state.step,
                state.epoch
            )
        }))
    }

    /// Tells the user how the run ended. Where a signal stopped it, the program ends here with the signal's exit code:
    /// what a script would do next needs a finished run.
    ///
    /// # Errors
    /// As [`print()`].
    pub fn farewell(&self, command: &str, outcome: Outcome, stop: &Stop) -> Result<()> {
        let out = self.out.display();
        match outcome {
            Outcome::Finished => {
                print(format!("finished: weights in {out}/model.safetensors, log in {out}/metrics.jsonl"))
            }
            Outcome::Stopped => {
                print(format!("stopped, unfinished: continue with  kerase {command} --resume --out {out}"))?;
                stop.exit()
            }
        }
    }
}

/// A value that must be given unless the run is resumed, when it must not.
///
/// # Errors
/// Naming the option.
pub fn required<T>(value: Option<T>, option: &str) -> Result<T> {
    value.ok_or_else(|| Error::input(format!("{option} is missing (only --resume does without)")))
}
