//! What methods are set with, beside what every run has.

use std::fmt;

/// A number or a choice that some methods take, and others have no use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    Recipe,
    RetainFraction,
    FractionOf,
    ForgetWeight,
    Noise,
    Gamma,
    Alpha,
    AscentEpochs,
    Beta,
    Lambda,
    LastCascades,
    Saliency,
}

impl Knob {
    /// Those that are no [`Hyperparameters`](crate::unlearn::Hyperparameters), and have a value in every run.
    pub const ALWAYS: [Self; 6] =
        [Self::Recipe, Self::RetainFraction, Self::FractionOf, Self::ForgetWeight, Self::Noise, Self::Gamma];

    /// Its key in a run's config.toml.
    pub fn key(self) -> &'static str {
        match self {
            Self::Recipe => "recipe",
            Self::RetainFraction => "retain_fraction",
            Self::FractionOf => "fraction_of",
            Self::ForgetWeight => "forget_weight",
            Self::Noise => "noise",
            Self::Gamma => "gamma",
            Self::Alpha => "alpha",
            Self::AscentEpochs => "ascent_epochs",
            Self::Beta => "beta",
            Self::Lambda => "lambda",
            Self::LastCascades => "last_cascades",
            Self::Saliency => "saliency",
        }
    }
}

/// The option of `kerase unlearn` that turns it.
impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}", self.key().replace('_', "-"))
    }
}
