//! How exact the products of convolutions are.

use std::fmt;
use std::str::FromStr;

/// What the operands of the 3×3 convolutions' products are rounded to. Everything else is float32 in all of them: what
/// is stored, sums of products, statistics, and every other operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Nothing is rounded but results: an error of 2⁻²⁴ a product, on ordinary cores.
    #[default]
    Fp32,
    /// Activations, gradients and weights are rounded to 11 significant bits, to nearest, on their way into tensor
    /// cores: each is off by up to 2⁻¹¹ of itself, so a product by up to 2⁻¹⁰.
    Tf32,
    /// The same to 8 significant bits: up to 2⁻⁸ of each, 2⁻⁷ of a product; twice as many products in the same time.
    Bf16,
}

impl Precision {
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Tf32, Self::Bf16];

    /// What rounding an operand costs at most, as a share of the operand. 0: it is not rounded.
    pub fn unit(self) -> f64 {
        match self {
            Self::Fp32 => 0.0,
            Self::Tf32 => 1.0 / f64::from(1 << 11),
            Self::Bf16 => 1.0 / f64::from(1 << 8),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| precision.to_string() == text);
        found.ok_or_else(|| format!("expected fp32, tf32 or bf16, not '{text}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_what_it_is_called() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.to_string());
        }
        assert!("fp16".parse::<Precision>().is_err());
    }
}
