//! `kerase unlearn`.

use std::path::PathBuf;

use crate::backend::Backend;
use crate::cli::args::{DeviceArgs, SamplingArgs};
use crate::cli::labelled::check_distinct;
use crate::cli::loader_args::LoaderArgs;
use crate::cli::output::print;
use crate::cli::rank_args::RankArgs;
use crate::cli::request_args::RequestArgs;
use crate::cli::run_args::{OptimisationArgs, OutArgs, not_on_resume, required};
use crate::cli::stop::{self, Stop};
use crate::cli::trained_with::{Trained, tell_of_unknown, to_go_on_with};
use crate::data::fraction::FractionOf;
use crate::device::Work;
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::ranks::Ranks;
use crate::run::{Outcome, RunDirectory, Start};
use crate::table::plus_minus;
use crate::unlearn::OptimizerState;
use crate::unlearn::measured::BeforeAfter;
use crate::unlearn::paper;
use crate::unlearn::record::Record;
use crate::unlearn::{METHODS, Method, Recipe, UnlearnConfig, Unlearning};

const EXAMPLE: &str = "\
Example:
  kerase unlearn --method nl-ft --model run/model.safetensors --retain brain/train --forget knee/train \\
      --test brain=brain/test --test knee=knee/test --out unlearned";

/// Makes a trained VarNet forget a set of volumes
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub struct Args {
    #[command(flatten)]
    request: RequestArgs,
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
        let mut config = if start == Start::Resume { self.resumed(ranks)? } else { self.fresh(ranks, None)? };
        if let Some(said) = self.out.finished_already(&config.optimisation, "unlearning.json")? {
            return print(said).map(|()| None);
        }
        if start != Start::Resume {
            match Trained::beside(&config.model)? {
                Some(trained) => {
                    // Sets are opened later: what is learnt from is fully sampled as a rule.
                    trained.tell_of_sampling(&config.sampling, true);
                    let steps = config.method.parse::<Method>()?.has_steps();
                    trained.warn_of_another_loss(&config.optimisation, steps);
                }
                None if self.sampling.any() => {}
                None => tell_of_unknown(&config.model, &config.sampling),
            }
        }
        let device = self.ranks.device(&self.device, ranks)?;
        let device = match start {
            Start::Resume => device.resume(config.optimisation.precision)?,
            Start::New | Start::Overwrite => device.start()?,
        };
        config.optimisation.precision = device.precision();
        let unlearning = Unlearning {
            config,
            by: Some(Provenance::of(device)),
            session: self.out.session(start, &self.loader, ranks, stop),
        };
        let (outcome, record) = device.run_with(ranks, &unlearning)??;
        print(describe(&record))?;
        print(format!("record of what was forgotten: {}/unlearning.json", self.out.out.display()))?;
        Ok(Some(outcome))
    }

    /// What is asked for. What no option says of masks, coils and optimisation is as the run has it that goes on, or as the
    /// network was trained.
    fn fresh(&self, ranks: &Ranks, stored: Option<&UnlearnConfig>) -> Result<UnlearnConfig> {
        let request = &self.request;
        let method = required(request.method.clone(), "--method")?;
        let known: Method = method.parse()?;
        self.check_options(&known)?;
        let recipe = request.recipe.unwrap_or(Recipe::Code);
        let optimizer_state = request.optimizer_state.unwrap_or(known.default_optimizer_state());
        if optimizer_state == OptimizerState::Resume && self.optimisation.lr.is_some() {
            return Err(Error::input(
                "--lr has no effect with --optimizer-state resume, which goes on with training's learning rate: give \
                 --optimizer-state fresh, or leave out --lr",
            ));
        }
        if request.no_measure && !request.tests.is_empty() {
            return Err(Error::input("--test has no effect with --no-measure: leave one of them out"));
        }
        if request.tests.iter().any(|test| test.name == "forget") {
            return Err(Error::input("--test forget=…: the forget set is measured under this name already"));
        }
        let model = required(request.model.clone(), "--model")?;
        let stored = stored.map(|config| (&config.sampling, &config.optimisation));
        let (sampling, training) = to_go_on_with(&model, stored)?;
        let defaults = paper::optimisation(&known, optimizer_state, training);
        check_distinct("--test", request.tests.iter().map(|test| (&*test.name, &*test.path)))?;
        Ok(UnlearnConfig {
            method,
            recipe,
            sampling: self.sampling.over(sampling)?,
            model,
            retain: required(some(&request.retain), "--retain")?,
            forget: required(some(&request.forget), "--forget")?,
            retain_fraction: request.retain_fraction.unwrap_or(paper::retain_fraction(&known)),
            fraction_of: request.fraction_of.unwrap_or(FractionOf::Slices),
            forget_weight: request.forget_weight.unwrap_or(paper::FORGET_WEIGHT),
            noise: request.noise.unwrap_or(paper::NOISE),
            gamma: request.gamma.unwrap_or((known.gamma)(recipe)),
            hyperparameters: request.hyperparameters(),
            optimizer_state,
            tests: request.tests.clone(),
            measure: !request.no_measure,
            optimisation: self.optimisation.settings(&defaults, ranks)?,
        })
    }

    /// Refuses options that have no effect with the method.
    fn check_options(&self, method: &Method) -> Result<()> {
        self.request.check(method)?;
        let steps = self.optimisation.of_steps() || self.request.optimizer_state.is_some();
        if steps && !method.has_steps() {
            return Err(Error::input(format!(
                "--method {} takes no steps: of the options of optimisation it takes --loss, --low-memory and --seed",
                method.name
            )));
        }
        Ok(())
    }

    fn resumed(&self, ranks: &Ranks) -> Result<UnlearnConfig> {
        let directory = RunDirectory::check(&self.out.out, Start::Resume)?;
        if self.out.again() {
            let stored: UnlearnConfig = directory.settings("unlearn")?;
            let asked = self.fresh(ranks, Some(&stored))?.with_defaults()?.with_absolute_paths();
            return self.optimisation.go_on(stored, asked, |config| &mut config.optimisation, &self.out.out);
        }
        if self.request != RequestArgs::default() || self.sampling.any() {
            return Err(not_on_resume());
        }
        let mut config: UnlearnConfig = directory.settings("unlearn")?;
        self.optimisation.extend(&mut config.optimisation)?;
        Ok(config)
    }
}

/// Those that an option names; none where it is not given.
fn some(sets: &[PathBuf]) -> Option<Vec<PathBuf>> {
    (!sets.is_empty()).then(|| sets.to_vec())
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
