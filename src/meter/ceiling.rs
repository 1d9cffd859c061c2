//! What a device can do at the most, and the least time that work takes on it.

use super::cost::Cost;
use crate::error::{Error, Result};
use crate::precision::Precision;

/// Bytes and operations in a second.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ceiling {
    pub name: &'static str,
    #[serde(with = "crate::json_float")]
    pub bytes_per_second: f64,
    /// For the products of convolutions: of matrix units, where they make them.
    #[serde(with = "crate::json_float")]
    pub matrix_flop_per_second: f64,
    /// Of float32 arithmetic.
    #[serde(with = "crate::json_float")]
    pub flop_per_second: f64,
}

const fn gpu(name: &'static str, terabytes: f64, matrix: f64, plain: f64) -> Ceiling {
    Ceiling {
        name,
        bytes_per_second: 1e12 * terabytes,
        matrix_flop_per_second: 1e12 * matrix,
        flop_per_second: 1e12 * plain,
    }
}

/// NVIDIA's data sheets: memory in TB/s, dense TF32 and float32 in TFLOP/s; and what drivers call these GPUs, after
/// "NVIDIA". Nothing reaches all of these figures. In bf16 each of them makes twice as many products. A100, H100, H200 and
/// B200 are those on SXM boards, with the most memory.
const GPUS: [(Ceiling, &[&str]); 20] = [
    (gpu("A10", 0.6, 62.5, 31.2), &["A10"]),
    (gpu("A30", 0.933, 82.0, 10.3), &["A30"]),
    (gpu("A40", 0.696, 74.8, 37.4), &["A40"]),
    (gpu("A100", 2.039, 156.0, 19.5), &["A100-SXM4-80GB"]),
    (gpu("A100-40GB", 1.555, 156.0, 19.5), &["A100-SXM4-40GB", "A100-PCIE-40GB"]),
    (gpu("A100-PCIe", 1.935, 156.0, 19.5), &["A100 80GB PCIe"]),
    (gpu("H100", 3.35, 494.7, 66.9), &["H100 80GB HBM3"]),
    (gpu("H100-NVL", 3.9, 417.5, 60.0), &["H100 NVL"]),
    (gpu("H100-PCIe", 2.0, 378.0, 51.2), &["H100 PCIe"]),
    (gpu("H200", 4.8, 494.7, 66.9), &["H200"]),
    (gpu("GH200", 4.0, 494.7, 66.9), &["GH200 480GB"]),
    (gpu("B200", 7.7, 1125.0, 75.0), &["B200"]),
    (gpu("L4", 0.3, 60.0, 30.3), &["L4"]),
    (gpu("L40", 0.864, 90.5, 90.5), &["L40"]),
    (gpu("L40S", 0.864, 183.0, 91.6), &["L40S"]),
    (gpu("RTX-3090", 0.936, 35.6, 35.6), &["GeForce RTX 3090"]),
    (gpu("RTX-4090", 1.008, 82.6, 82.6), &["GeForce RTX 4090"]),
    (gpu("RTX-5090", 1.792, 104.8, 104.8), &["GeForce RTX 5090"]),
    (gpu("RTX-6000-Ada", 0.96, 182.1, 91.1), &["RTX 6000 Ada Generation"]),
    (gpu("RTX-A6000", 0.768, 77.4, 38.7), &["RTX A6000"]),
];

impl Ceiling {
    /// A GPU of the list, or one with its figures: `B300=8/1250/77`, in the order and the units of the list.
    ///
    /// # Errors
    /// A GPU that is not in the list, which is shown; figures that are not three numbers above zero.
    pub fn named(name: &str) -> Result<Self> {
        if let Some((name, figures)) = name.split_once('=') {
            return Self::with_figures(name, figures);
        }
        let plain = |name: &str| name.to_ascii_lowercase().replace([' ', '_'], "-");
        let mut sheets = GPUS.iter().map(|(sheet, _)| *sheet);
        sheets.find(|gpu| plain(gpu.name) == plain(name)).ok_or_else(|| {
            let known: Vec<&str> = GPUS.iter().map(|(sheet, _)| sheet.name).collect();
            Error::input(format!(
                "--plan {name}: no figures are known for it, only for {}; say them as {name}=TB/s / TFLOP/s of TF32 products / \
                 TFLOP/s of float32, such as {name}=3.35/494.7/66.9",
                known.join(", ")
            ))
        })
    }

    fn with_figures(name: &str, figures: &str) -> Result<Self> {
        let numbers: Vec<f64> = figures
            .split('/')
            .filter_map(|figure| figure.trim().parse().ok())
            .filter(|&number: &f64| number > 0.0 && number.is_finite())
            .collect();
        match numbers[..] {
            [terabytes, matrix, plain] if figures.split('/').count() == 3 && !name.trim().is_empty() => {
                // One a command line asks for, kept as those of the list are.
                Ok(gpu(name.trim().to_string().leak(), terabytes, matrix, plain))
            }
            _ => Err(Error::input(format!(
                "--plan {name}={figures}: expected a name and three numbers above zero: memory in TB/s, TF32 products and \
                 float32 arithmetic in TFLOP/s, such as H100=3.35/494.7/66.9"
            ))),
        }
    }

    /// Of the GPU that the driver calls so: "NVIDIA H100 80GB HBM3". A name that says more, such as that of a slice of it
    /// (MIG) or of a laptop's, is another GPU's.
    pub fn of_device(name: &str) -> Option<Self> {
        let name = name.strip_prefix("NVIDIA ").unwrap_or(name);
        let known = |called: &&str| called.eq_ignore_ascii_case(name);
        GPUS.iter().find(|(_, called)| called.iter().any(known)).map(|(sheet, _)| *sheet)
    }

    /// The same where the products of convolutions are made like this: those of float32 by the cores that do all other
    /// arithmetic.
    pub fn in_precision(self, precision: Precision) -> Self {
        let matrix_flop_per_second = match precision {
            Precision::Fp32 => self.flop_per_second,
            Precision::Tf32 => self.matrix_flop_per_second,
            Precision::Bf16 => 2.0 * self.matrix_flop_per_second,
        };
        Self { matrix_flop_per_second, ..self }
    }

    /// The least seconds that work takes: its bytes, its products or the rest of its arithmetic, whichever is longest.
    pub fn floor(&self, cost: Cost) -> f64 {
        (cost.bytes / self.bytes_per_second)
            .max(cost.matrix_flop / self.matrix_flop_per_second)
            .max(cost.flop / self.flop_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_three_is_the_floor() {
        let h100 = Ceiling::named("h100").unwrap();
        let cost = Cost { bytes: 3.35e9, matrix_flop: 494.7e9, flop: 66.9e9 };
        assert!((h100.floor(cost) - 1e-3).abs() < 1e-9);
        assert!((h100.floor(Cost { bytes: 6.7e9, ..cost }) - 2e-3).abs() < 1e-9);
        assert!((h100.floor(Cost { matrix_flop: 3.0 * cost.matrix_flop, ..cost }) - 3e-3).abs() < 1e-9);
        assert_eq!(Ceiling::named("rtx 4090").unwrap().name, "RTX-4090");
        let message = Ceiling::named("H1000").unwrap_err().to_string();
        assert!(message.contains("H1000=") && message.contains("A10, A30"), "{message}");
    }

    #[test]
    fn figures_may_be_given() {
        let given = Ceiling::named("H100 = 3.35 / 494.7/66.9").unwrap();
        assert_eq!(given, Ceiling::named("H100").unwrap());
        for figures in
            ["X=", "X=1/2", "X=1/2/3/4", "X=1/2/fast", "X=1/2/3/fast", "X=0/2/3", "X=1/2/inf", "=1/2/3"]
        {
            let message = Ceiling::named(figures).unwrap_err().to_string();
            assert!(message.contains("three numbers above zero"), "{figures}: {message}");
        }
    }

    #[test]
    fn what_the_driver_calls_a_gpu_names_its_data_sheet() {
        let named = |name| Ceiling::of_device(name).map(|gpu| gpu.name);
        for (name, sheet) in [
            ("NVIDIA A10", "A10"),
            ("NVIDIA A100-SXM4-80GB", "A100"),
            ("A100-SXM4-40GB", "A100-40GB"),
            ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
            ("NVIDIA A100 80GB PCIe", "A100-PCIe"),
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H100 NVL", "H100-NVL"),
            ("NVIDIA H100 PCIe", "H100-PCIe"),
            ("NVIDIA H200", "H200"),
            ("NVIDIA GH200 480GB", "GH200"),
            ("NVIDIA B200", "B200"),
            ("NVIDIA L40", "L40"),
            ("NVIDIA L40S", "L40S"),
            ("NVIDIA GeForce RTX 4090", "RTX-4090"),
            ("NVIDIA RTX A6000", "RTX-A6000"),
        ] {
            assert_eq!(named(name), Some(sheet), "{name}");
        }
        for name in [
            "NVIDIA A1000",
            "NVIDIA A10G",
            "NVIDIA A40-48Q",
            "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
            "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
            "NVIDIA GeForce RTX 4090 D",
            "NVIDIA GeForce RTX 4090 Laptop GPU",
        ] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn products_are_made_where_the_precision_has_them_made() {
        let h100 = Ceiling::named("H100").unwrap();
        let gigaflop = |precision| (h100.in_precision(precision).matrix_flop_per_second / 1e9).round();
        assert_eq!(Precision::ALL.map(gigaflop), [66_900.0, 494_700.0, 989_400.0]);
    }
}
