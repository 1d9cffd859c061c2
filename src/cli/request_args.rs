//! Options that say what is to be forgotten, and how: all that a run which goes on has in its config.toml instead.

use std::path::PathBuf;

use crate::cli::labelled::weights_argument;
use crate::data::fraction::FractionOf;
use crate::error::Result;
use crate::unlearn::config::NamedSet;
use crate::unlearn::{Hyperparameters, Knob, Method, OptimizerState, Recipe};

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct RequestArgs {
    /// How to unlearn; the methods are listed below
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,

    /// The trained weights, or the run that left them
    #[arg(long, value_name = "FILE", value_parser = weights_argument)]
    pub model: Option<PathBuf>,

    /// Directory, file or manifest of the volumes to keep; several are joined
    #[arg(long, value_name = "SET")]
    pub retain: Vec<PathBuf>,

    /// Directory, file or manifest of the volumes to forget; several are joined
    #[arg(long, value_name = "SET")]
    pub forget: Vec<PathBuf>,

    /// Share of the retain set that is trained on again; 1 is the paper's Full FT [default: 0.1, with retrain 1]
    #[arg(long, value_name = "F")]
    pub retain_fraction: Option<f64>,

    /// What the share is a share of: slices or volumes [default: slices]
    #[arg(long, value_name = "WHAT", value_parser = fraction_of)]
    pub fraction_of: Option<FractionOf>,

    /// The paper's text (a forget and a retain slice in each step) or its code (one shuffled stream) [default: code]
    #[arg(long, value_enum)]
    pub recipe: Option<Recipe>,

    /// Factor of the loss on the forget set [default: 1]
    #[arg(long, value_name = "W")]
    pub forget_weight: Option<f64>,

    /// Standard deviation of the label noise, λ, in the units of the targets: fastMRI's are around 1e-4 [default: 1e-5]
    #[arg(long, value_name = "LAMBDA")]
    pub noise: Option<f64>,

    /// Weight of the ℓ1 penalty, γ [default: 1 with --recipe code, 1e-5 with text]; with scrub, of the loss on the retain
    /// set [default: 0.99]
    #[arg(long, value_name = "GAMMA")]
    pub gamma: Option<f64>,

    /// α of ssd: how many times as important to the forget set as to all data a weight must be for it to be dampened
    /// [default: 10]; of scrub: weight of the distance to the original network's images on the retain set [default: 0.001]
    #[arg(long, value_name = "ALPHA")]
    pub alpha: Option<f64>,

    /// Epochs in which scrub ascends on the forget set, before it goes on with the retain set alone [default: 2]
    #[arg(long, value_name = "N")]
    pub ascent_epochs: Option<u64>,

    /// Share of the retain set's loss beside the forget set's, β [default: 0.95]
    #[arg(long, value_name = "BETA")]
    pub beta: Option<f64>,

    /// How much is left of a weight that is dampened, λ: its importance to all data, relative to the forget set, times this
    /// [default: 1]
    #[arg(long, value_name = "LAMBDA")]
    pub lambda: Option<f64>,

    /// How many cascades, counted from the end, cf-k and eu-k train [default: 1]
    #[arg(long, value_name = "K")]
    pub last_cascades: Option<usize>,

    /// Share of the weights that salun trains: those with the largest gradient of the forget set's loss [default: 0.5]
    #[arg(long, value_name = "F")]
    pub saliency: Option<f64>,

    /// Go on with Adam's moments and learning rate from the state.safetensors beside the weights, or start anew
    /// [default: resume; fresh where weights are random at the start]
    #[arg(long, value_enum)]
    pub optimizer_state: Option<OptimizerState>,

    /// A set to measure before and after, beside the forget set; may be given several times
    #[arg(long = "test", value_name = "NAME=SET", value_parser = named_set)]
    pub tests: Vec<NamedSet>,

    /// Do not measure anything before and after
    #[arg(long)]
    pub no_measure: bool,
}

impl RequestArgs {
    /// Refuses options that have no effect with the method.
    ///
    /// # Errors
    /// As said, and hyperparameters beyond their bounds.
    pub fn check(&self, method: &Method) -> Result<()> {
        for (knob, given) in [
            (Knob::Recipe, self.recipe.is_some()),
            (Knob::RetainFraction, self.retain_fraction.is_some()),
            (Knob::FractionOf, self.fraction_of.is_some()),
            (Knob::ForgetWeight, self.forget_weight.is_some()),
            (Knob::Noise, self.noise.is_some()),
            (Knob::Gamma, self.gamma.is_some()),
        ] {
            if given {
                method.check_takes(knob)?;
            }
        }
        method.check_hyperparameters(&self.hyperparameters())
    }

    pub fn hyperparameters(&self) -> Hyperparameters {
        Hyperparameters {
            alpha: self.alpha,
            ascent_epochs: self.ascent_epochs,
            beta: self.beta,
            lambda: self.lambda,
            last_cascades: self.last_cascades,
            saliency: self.saliency,
        }
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
