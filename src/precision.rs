//! How exact the products of convolutions are, and how feature maps are stored.

use std::fmt;
use std::str::FromStr;

use half::bf16;

/// What the operands of the 3×3 and transposed convolutions' products are rounded to, and feature maps and their
/// gradients where they are stored. Everything else is float32 in all of them: sums of products, statistics, the
/// arithmetic of every other operation, and whatever else is stored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Nothing is rounded but results: an error of 2⁻²⁴ a product, on ordinary cores.
    #[default]
    Fp32,
    /// Activations, gradients and weights are rounded to 11 significant bits, to nearest, on their way into tensor
    /// cores: each is off by up to 2⁻¹¹ of itself, so a product by up to 2⁻¹⁰.
    Tf32,
    /// The same to 8 significant bits: up to 2⁻⁸ of each, 2⁻⁷ of a product; twice as many products in the same time. Maps
    /// and their gradients are stored so too, in half the memory: each value is rounded once, when it is stored.
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

impl Precision {
    /// Bytes of a value of a feature map or of its gradient.
    pub fn map_bytes(self) -> usize {
        match self {
            Self::Fp32 | Self::Tf32 => size_of::<f32>(),
            Self::Bf16 => size_of::<bf16>(),
        }
    }

    /// What such a value is once it is stored.
    pub fn stored(self, value: f32) -> f32 {
        match self {
            Self::Fp32 | Self::Tf32 => value,
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// What storing it costs at most beyond float32, as a share of the value.
    pub fn stored_unit(self) -> f64 {
        match self {
            Self::Fp32 | Self::Tf32 => 0.0,
            Self::Bf16 => self.unit(),
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
