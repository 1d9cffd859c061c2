//! `kerase train`.

use std::path::PathBuf;

use crate::backend::Backend;
use crate::batch::Sampling;
use crate::cli::args::{DeviceArgs, NetworkArgs, SamplingArgs};
use crate::cli::labelled::weights_argument;
use crate::cli::loader_args::LoaderArgs;
use crate::cli::output::print;
use crate::cli::rank_args::RankArgs;
use crate::cli::run_args::{OptimisationArgs, OutArgs, not_on_resume};
use crate::cli::stop::{self, Stop};
use crate::cli::trained_with::{Trained, tell_of_unknown, to_go_on_with};
use crate::device::Work;
use crate::error::{Error, Result};
use crate::model::{Architecture, Weights};
use crate::ranks::Ranks;
use crate::run::keep_best::KeepBest;
use crate::run::optimisation::Optimisation;
use crate::run::{Outcome, RunDirectory, Start};
use crate::train::{TrainConfig, Training};

const EXAMPLE: &str = "\
Example:
  kerase train --data brain/train --validation brain/val --out run
  kerase train --data brain/train --out run --cascades 4 --chans 8 --pools 3 --epochs 10 --acceleration 4
  kerase train --resume --out run";

/// Trains a VarNet on a set of fully sampled volumes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Directory, file or manifest of volumes to learn; several are joined
    #[arg(long, value_name = "SET")]
    data: Vec<PathBuf>,

    /// Set to evaluate after every epoch, with fastMRI's masks of the file names; several are joined
    #[arg(long, value_name = "SET")]
    validation: Vec<PathBuf>,

    /// Keep in RUN/best the network of the epoch with the best mean of this over the validation set's volumes; none keeps
    /// the last alone [default: ssim, with --validation]
    #[arg(long, value_enum, value_name = "MEASURE")]
    keep_best: Option<KeepBest>,

    /// Weights to start from (.safetensors with fastMRI's names), or the run that left them; the network is the file's
    #[arg(long, value_name = "FILE", value_parser = weights_argument)]
    init: Option<PathBuf>,

    #[command(flatten)]
    out: OutArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    optimisation: OptimisationArgs,
    #[command(flatten)]
    loader: LoaderArgs,
    #[command(flatten)]
    ranks: RankArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Work for &Training<'_> {
    type Output = Result<Outcome>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        Training::run(self, ops)
    }
}

impl Args {
    /// # Errors
    /// As [`Training::run`].
    pub fn run(self) -> Result<()> {
        let stop = stop::on_signals()?;
        let ranks = self.ranks.join(Some(&stop))?;
        match ranks.together(|ranks| self.train(ranks, &stop))? {
            Some(outcome) => self.out.farewell("train", outcome, &stop),
            None => Ok(()),
        }
    }

    /// None where there is nothing left to do.
    fn train(&self, ranks: &Ranks, stop: &Stop) -> Result<Option<Outcome>> {
        let start = self.out.start();
        let mut config = if start == Start::Resume { self.resumed(ranks)? } else { self.fresh(ranks, None)? };
        if let Some(said) = self.out.finished_already(&config.optimisation, "summary.json")? {
            return print(said).map(|()| None);
        }
        if start != Start::Resume
            && let Some(init) = &config.init
        {
            match Trained::beside(init)? {
                Some(trained) => {
                    trained.tell_of_sampling(&config.sampling, true);
                    trained.warn_of_another_loss(&config.optimisation, true);
                }
                None if self.sampling.any() => {}
                None => tell_of_unknown(init, &config.sampling),
            }
        }
        let device = self.ranks.device(&self.device, ranks)?;
        let device = match start {
            Start::Resume => device.resume(config.optimisation.precision)?,
            Start::New | Start::Overwrite => device.start()?,
        };
        config.optimisation.precision = device.precision();
        let training = Training { config, session: self.out.session(start, &self.loader, ranks, stop) };
        device.run_with(ranks, &training)?.map(Some)
    }

    /// What is asked for. Of a network that is there already, what no option says of masks, coils, loss and clip is as the run
    /// has it that goes on, or as it was trained.
    fn fresh(&self, ranks: &Ranks, stored: Option<&TrainConfig>) -> Result<TrainConfig> {
        if self.data.is_empty() {
            return Err(Error::input(
                "--data is missing: name a directory, file or manifest of volumes to learn",
            ));
        }
        // The file's network is the default; options that contradict it are refused where it is loaded.
        let default = match &self.init {
            Some(path) => Weights::read(path)?.architecture,
            None => Architecture::default(),
        };
        let (mut sampling, mut defaults) = (Sampling::default(), Optimisation::default());
        if let Some(init) = &self.init {
            let stored = stored.map(|config| (&config.sampling, &config.optimisation));
            let (of, Optimisation { loss, clip, .. }) = to_go_on_with(init, stored)?;
            (sampling, defaults) = (of, Optimisation { loss, clip, ..defaults });
        }
        Ok(TrainConfig {
            data: self.data.clone(),
            validation: self.validation.clone(),
            keep_best: self.keep_best.unwrap_or(match self.validation.is_empty() {
                false => KeepBest::Ssim,
                true => KeepBest::None,
            }),
            init: self.init.clone(),
            network: self.network.architecture(default)?,
            sampling: self.sampling.over(sampling)?,
            optimisation: self.optimisation.settings(&defaults, ranks)?,
        })
    }

    fn resumed(&self, ranks: &Ranks) -> Result<TrainConfig> {
        let directory = RunDirectory::check(&self.out.out, Start::Resume)?;
        if self.out.again() {
            let stored: TrainConfig = directory.settings("train")?;
            let mut asked = self.fresh(ranks, Some(&stored))?.with_absolute_paths();
            if self.keep_best.is_none() {
                // It may have begun before there was a choice.
                asked.keep_best = stored.keep_best;
            }
            return self.optimisation.go_on(stored, asked, |config| &mut config.optimisation, &self.out.out);
        }
        let fixed = !self.data.is_empty()
            || !self.validation.is_empty()
            || self.keep_best.is_some()
            || self.init.is_some();
        if fixed || self.network.any() || self.sampling.any() {
            return Err(not_on_resume());
        }
        let mut config: TrainConfig = directory.settings("train")?;
        self.optimisation.extend(&mut config.optimisation)?;
        Ok(config)
    }
}
