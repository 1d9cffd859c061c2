//! `kerase unlearn`.

use std::path::PathBuf;

use crate::backend::Backend;
use crate::batch::MaskSeeding;
use crate::cli::args::{DeviceArgs, SamplingArgs};
use crate::cli::labelled::check_distinct;
use crate::cli::loader_args::LoaderArgs;
use crate::cli::output::print;
use crate::cli::rank_args::RankArgs;
use crate::cli::run_args::{Defaults, OptimisationArgs, OutArgs, not_on_resume, required};
use crate::cli::stop::{self, Stop};
use crate::cli::trained_with::{warn_of_another_loss, warn_of_other_sampling};
use crate::data::set::FractionOf;
use crate::device::Work;
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::ranks::Ranks;
use crate::report::table::plus_minus;
use crate::run::{Outcome, RunDirectory, Start};
use crate::unlearn::OptimizerState;
use crate::unlearn::method::Anew;
use crate::unlearn::record::{BeforeAfter, Record};
use crate::unlearn::request::NamedSet;
use crate::unlearn::{Hyperparameters, METHODS, Method, Recipe, UnlearnConfig, Unlearning};

const EXAMPLE: &str = "\
Example:
  kerase unlearn --method nl-ft --model run/model.safetensors --retain brain/train --forget knee/train \\
      --test brain=brain/test --test knee=knee/test --out unlearned";

/// Makes a trained VarNet forget a set of volumes
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub struct Args {
    /// How to unlearn; the methods are listed below
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,

    /// The trained weights
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Directory, file or manifest of the volumes to keep
    #[arg(long, value_name = "SET")]
    retain: Option<PathBuf>,

    /// Directory, file or manifest of the volumes to forget
    #[arg(long, value_name = "SET")]
    forget: Option<PathBuf>,

    /// Share of the retain set that is trained on again; 1 is the paper's Full FT [default: 0.1, with retrain 1]
    #[arg(long, value_name = "F")]
    retain_fraction: Option<f64>,

    /// What the share is a share of: slices or volumes [default: slices]
    #[arg(long, value_name = "WHAT", value_parser = fraction_of)]
    fraction_of: Option<FractionOf>,

    /// The paper's text (a forget and a retain slice in each step) or its code (one shuffled stream) [default: code]
    #[arg(long, value_enum)]
    recipe: Option<Recipe>,

    /// Factor of the loss on the forget set [default: 1]
    #[arg(long, value_name = "W")]
    forget_weight: Option<f64>,

    /// Standard deviation of the label noise, λ [default: 1e-5]
    #[arg(long, value_name = "LAMBDA")]
    noise: Option<f64>,

    /// Weight of the ℓ1 penalty, γ [default: 1 with --recipe code, 1e-5 with text]; with scrub, of the loss on the retain
    /// set [default: 0.99]
    #[arg(long, value_name = "GAMMA")]
    gamma: Option<f64>,

    /// α of ssd: how many times as important to the forget set as to all data a weight must be for it to be dampened
    /// [default: 10]; of scrub: weight of the distance to the original network's images on the retain set [default: 0.001]
    #[arg(long, value_name = "ALPHA")]
    alpha: Option<f64>,

    /// Epochs in which scrub ascends on the forget set, before it goes on with the retain set alone [default: 2]
    #[arg(long, value_name = "N")]
    ascent_epochs: Option<u64>,

    /// Share of the retain set's loss beside the forget set's, β [default: 0.95]
    #[arg(long, value_name = "BETA")]
    beta: Option<f64>,

    /// How much is left of a weight that is dampened, λ: its importance to all data, relative to the forget set, times this
    /// [default: 1]
    #[arg(long, value_name = "LAMBDA")]
    lambda: Option<f64>,

    /// How many cascades, counted from the end, cf-k and eu-k train [default: 1]
    #[arg(long, value_name = "K")]
    last_cascades: Option<usize>,

    /// Share of the weights that salun trains: those with the largest gradient of the forget set's loss [default: 0.5]
    #[arg(long, value_name = "F")]
    saliency: Option<f64>,

    /// Go on with Adam's moments and learning rate from the state.safetensors beside the weights, or start anew
    /// [default: resume; fresh where weights are random at the start]
    #[arg(long, value_enum)]
    optimizer_state: Option<OptimizerState>,

    /// A set to measure before and after, beside the forget set; may be given several times
    #[arg(long = "test", value_name = "NAME=SET", value_parser = named_set)]
    tests: Vec<NamedSet>,

    /// Do not measure anything before and after
    #[arg(long)]
    no_measure: bool,

    #[command(flatten)]
    out: OutArgs,
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

fn help() -> String {
    let methods: Vec<String> =
        METHODS.iter().map(|m| format!("  {:<11} {:<50} {}", m.name, m.title, m.objective)).collect();
    format!(
        "Methods (J is the loss, r a retain slice, f a forget slice):\n{}\n\n{EXAMPLE}",
        methods.join("\n")
    )
}

/// How long a method runs, if nobody says. One without steps passes over the data once. A plateau that goes on from training
/// keeps training's patience, as PyTorch's does when its state is loaded.
fn defaults(method: &Method, optimizer_state: OptimizerState) -> Defaults {
    let patience = match optimizer_state {
        OptimizerState::Resume => Defaults::TRAINING.patience,
        OptimizerState::Fresh => 1,
    };
    match method.anew {
        Anew::Everything => Defaults::TRAINING,
        _ => Defaults { epochs: if method.has_steps() { 5 } else { 1 }, patience },
    }
}

fn fraction_of(name: &str) -> std::result::Result<FractionOf, String> {
    match name {
        "slices" => Ok(FractionOf::Slices),
        "volumes" => Ok(FractionOf::Volumes),
        _ => Err("expected slices or volumes".into()),
    }
}

pub(super) fn named_set(text: &str) -> std::result::Result<NamedSet, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok(NamedSet { name: name.to_string(), path: path.into() })
        }
        _ => Err("expected NAME=SET, such as brain=data/brain/test".into()),
    }
}

impl Work for &Unlearning<'_> {
    type Output = Result<(Outcome, Record)>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        Unlearning::run(self, ops)
    }
}

impl Args {
    /// # Errors
    /// As [`Unlearning::run`].
    pub fn run(self) -> Result<()> {
        let stop = stop::on_signals()?;
        let ranks = self.ranks.join(Some(&stop))?;
        match ranks.together(|ranks| self.unlearn(ranks, &stop))? {
            Some(outcome) => self.out.farewell("unlearn", outcome, &stop),
            None => Ok(()),
        }
    }

    /// None where there is nothing left to do.
    fn unlearn(&self, ranks: &Ranks, stop: &Stop) -> Result<Option<Outcome>> {
        let start = self.out.start();
        let mut config = if start == Start::Resume { self.resumed(ranks)? } else { self.fresh(ranks)? };
        if let Some(said) = self.out.finished_already(&config.optimisation, "unlearning.json")? {
            return print(said).map(|()| None);
        }
        if start != Start::Resume {
            // Sets are opened later: what is learnt from is fully sampled as a rule.
            warn_of_other_sampling(&config.model, &config.sampling, true);
            warn_of_another_loss(&config.model, &config.optimisation);
        }
        let device = self.ranks.device(&self.device, ranks)?;
        let device = match start {
            Start::Resume => device.resume(config.optimisation.precision)?,
            Start::New | Start::Overwrite => device.start()?,
        };
        config.optimisation.precision = device.precision();
        let unlearning = Unlearning {
            config,
            out: &self.out.out,
            start,
            loader: self.loader.options(),
            shown: true,
            by: Some(Provenance::of(device)),
            ranks,
            stop,
        };
        let (outcome, record) = device.run_with(ranks, &unlearning)??;
        print(describe(&record))?;
        print(format!("record of what was forgotten: {}/unlearning.json", self.out.out.display()))?;
        Ok(Some(outcome))
    }

    fn fresh(&self, ranks: &Ranks) -> Result<UnlearnConfig> {
        let method = required(self.method.clone(), "--method")?;
        let known: Method = method.parse()?;
        self.check_options(&known)?;
        let recipe = self.recipe.unwrap_or(Recipe::Code);
        let optimizer_state = self.optimizer_state.unwrap_or(known.default_optimizer_state());
        if optimizer_state == OptimizerState::Resume && self.optimisation.lr.is_some() {
            return Err(Error::input(
                "--lr has no effect with --optimizer-state resume, which goes on with training's learning rate: give \
                 --optimizer-state fresh, or leave out --lr",
            ));
        }
        if self.tests.iter().any(|test| test.name == "forget") {
            return Err(Error::input("--test forget=…: the forget set is measured under this name already"));
        }
        check_distinct("--test", self.tests.iter().map(|test| (&*test.name, &*test.path)))?;
        Ok(UnlearnConfig {
            method,
            recipe,
            model: required(self.model.clone(), "--model")?,
            retain: required(self.retain.clone(), "--retain")?,
            forget: required(self.forget.clone(), "--forget")?,
            retain_fraction: self.retain_fraction.unwrap_or(known.default_retain_fraction()),
            fraction_of: self.fraction_of.unwrap_or(FractionOf::Slices),
            forget_weight: self.forget_weight.unwrap_or(1.0),
            noise: self.noise.unwrap_or(1e-5),
            gamma: self.gamma.unwrap_or(known.default_gamma(recipe)),
            hyperparameters: self.hyperparameters(),
            optimizer_state,
            tests: self.tests.clone(),
            measure: !self.no_measure,
            sampling: self.sampling.sampling(MaskSeeding::Random)?,
            optimisation: self.optimisation.settings(defaults(&known, optimizer_state), ranks)?,
        })
    }

    /// Refuses options that have no effect with the method.
    fn check_options(&self, method: &Method) -> Result<()> {
        for (option, given) in [
            ("--recipe", self.recipe.is_some()),
            ("--retain-fraction", self.retain_fraction.is_some()),
            ("--fraction-of", self.fraction_of.is_some()),
            ("--forget-weight", self.forget_weight.is_some()),
            ("--noise", self.noise.is_some()),
            ("--gamma", self.gamma.is_some()),
        ] {
            if given {
                method.takes(option)?;
            }
        }
        self.hyperparameters().check(method)?;
        let steps = self.optimisation.of_steps() || self.optimizer_state.is_some();
        if steps && !method.has_steps() {
            return Err(Error::input(format!(
                "--method {} takes no steps: of the options of optimisation it takes --loss, --low-memory and --seed",
                method.name
            )));
        }
        Ok(())
    }

    fn hyperparameters(&self) -> Hyperparameters {
        Hyperparameters {
            alpha: self.alpha,
            ascent_epochs: self.ascent_epochs,
            beta: self.beta,
            lambda: self.lambda,
            last_cascades: self.last_cascades,
            saliency: self.saliency,
        }
    }

    fn resumed(&self, ranks: &Ranks) -> Result<UnlearnConfig> {
        let directory = RunDirectory::check(&self.out.out, Start::Resume)?;
        if self.out.again() {
            let stored: UnlearnConfig = directory.settings("unlearn")?;
            let asked = self.fresh(ranks)?.with_defaults()?.with_absolute_paths();
            return self.optimisation.go_on(stored, asked, |config| &mut config.optimisation, &self.out.out);
        }
        let fixed = self.method.is_some()
            || self.model.is_some()
            || self.retain.is_some()
            || self.forget.is_some()
            || self.retain_fraction.is_some()
            || self.fraction_of.is_some()
            || self.recipe.is_some()
            || self.forget_weight.is_some()
            || self.noise.is_some()
            || self.gamma.is_some()
            || !self.hyperparameters().is_none()
            || self.optimizer_state.is_some()
            || !self.tests.is_empty()
            || self.no_measure;
        if fixed || self.sampling.any() {
            return Err(not_on_resume());
        }
        let mut config: UnlearnConfig = directory.settings("unlearn")?;
        self.optimisation.extend(&mut config.optimisation)?;
        Ok(config)
    }
}

/// What was done and what it did, for people.
fn describe(record: &Record) -> String {
    let mut lines = vec![
        format!("{}: {}", record.title, record.objective),
        format!(
            "forgotten: {} slices of {} volumes; retain slices used: {} of {}; {} steps, {:.1} s",
            record.forgotten_slices,
            record.forgotten.len(),
            record.retain_slices_used,
            record.retain_slices,
            record.steps,
            record.seconds
        ),
    ];
    for BeforeAfter { set, before, after, .. } in &record.metrics {
        if let (Some(before), Some(after)) = (before, after) {
            lines.push(format!(
                "{set:<10} PSNR {} -> {} dB, SSIM {} -> {}",
                plus_minus(before.psnr, 2),
                plus_minus(after.psnr, 2),
                plus_minus(before.ssim, 3),
                plus_minus(after.ssim, 3)
            ));
        }
    }
    lines.extend(record.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}
