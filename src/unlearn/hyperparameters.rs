//! The numbers that methods from other papers than Xue et al. are set with.

use serde::{Deserialize, Serialize};

use crate::unlearn::knob::Knob;

/// Absent where a method has no such number, or nobody gave it. What each means stands in the method's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hyperparameters {
    /// α.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Epochs with ascent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ascent_epochs: Option<u64>,
    /// β.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// λ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// k, counted from the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_cascades: Option<usize>,
    /// Share of the weights that is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saliency: Option<f64>,
}

/// A hyperparameter that the method has.
pub(super) fn filled<T>(value: Option<T>) -> T {
    value.expect("the method's defaults are filled in")
}

impl Hyperparameters {
    pub const NONE: Self = Self {
        alpha: None,
        ascent_epochs: None,
        beta: None,
        lambda: None,
        last_cascades: None,
        saliency: None,
    };

    /// Those that are there, what papers call each, and its value.
    pub(super) fn given(&self) -> impl Iterator<Item = (Knob, &'static str, f64)> + use<> {
        let all = [
            (Knob::Alpha, "α", self.alpha),
            (Knob::AscentEpochs, "epochs with ascent", self.ascent_epochs.map(|epochs| epochs as f64)),
            (Knob::Beta, "β", self.beta),
            (Knob::Lambda, "λ", self.lambda),
            (Knob::LastCascades, "k", self.last_cascades.map(|k| k as f64)),
            (Knob::Saliency, "share of salient weights", self.saliency),
        ];
        all.into_iter().filter_map(|(knob, symbol, value)| Some((knob, symbol, value?)))
    }

    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Those that are there.
    pub fn knobs(&self) -> impl Iterator<Item = Knob> + use<> {
        self.given().map(|(knob, ..)| knob)
    }

    /// These, and `defaults` for those that are missing.
    pub fn or(self, defaults: Self) -> Self {
        Self {
            alpha: self.alpha.or(defaults.alpha),
            ascent_epochs: self.ascent_epochs.or(defaults.ascent_epochs),
            beta: self.beta.or(defaults.beta),
            lambda: self.lambda.or(defaults.lambda),
            last_cascades: self.last_cascades.or(defaults.last_cascades),
            saliency: self.saliency.or(defaults.saliency),
        }
    }

    /// For the end of a sentence.
    pub fn describe(&self) -> String {
        self.given().map(|(_, symbol, value)| format!(", {symbol} = {value}")).collect()
    }
}
