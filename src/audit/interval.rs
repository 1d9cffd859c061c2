//! Confidence intervals over volumes.
//!
//! Student's t, not a bootstrap: with the handful of volumes that a forget set often has, percentiles of resampled means
//! lie too close together (by √((n − 1)/n), and by a normal's quantile in place of t's: for 5 volumes 0.63 of the width).
//! What t assumes, means that are about normally distributed, is not asked of slices but of volumes, which are drawn
//! independently.

use serde::{Deserialize, Serialize};

/// Of every interval.
pub const CONFIDENCE: f64 = 0.95;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A mean over volumes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    #[serde(with = "crate::json_float")]
    pub mean: f64,
    /// None for one volume, and where a value is not finite.
    pub interval: Option<Interval>,
    pub volumes: usize,
}

impl Estimate {
    /// None for no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let volumes = values.len();
        if volumes == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / volumes as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let interval = (volumes > 1 && squares.is_finite()).then(|| {
            let freedom = volumes - 1;
            let half = t_quantile(freedom) * (squares / freedom as f64 / volumes as f64).sqrt();
            Interval { low: mean - half, high: mean + half }
        });
        Some(Self { mean, interval, volumes })
    }
}

/// What a variable of Student's distribution stays within, to either side of zero, with probability [`CONFIDENCE`].
///
/// # Panics
/// For no degrees of freedom.
pub fn t_quantile(freedom: usize) -> f64 {
    assert!(freedom > 0, "a spread needs two values");
    // The largest is 12.7, for one degree of freedom.
    let (mut low, mut high) = (0.0, 16.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if within(middle, freedom) < CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// P(|T| ≤ t): the finite series for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4).
fn within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2;
    let (mut power, mut term) = (odd, if odd == 1 { cosine } else { 1.0 });
    let mut sum = 0.0;
    while power + 2 <= freedom {
        sum += term;
        power += 2;
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
    }
    if odd == 1 { std::f64::consts::FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        for (freedom, quantile) in [
            (1, 12.7062),
            (2, 4.3027),
            (3, 3.1824),
            (4, 2.7764),
            (5, 2.5706),
            (10, 2.2281),
            (30, 2.0423),
            (99, 1.9842),
        ] {
            let found = t_quantile(freedom);
            assert!((found - quantile).abs() < 5e-5, "{freedom}: {found}");
        }
        assert!((t_quantile(100_000) - 1.95997).abs() < 1e-4);
    }

    #[test]
    fn an_estimate_is_what_one_works_out_by_hand() {
        let Estimate { mean, interval, volumes } = Estimate::of(&[1.0, 2.0, 3.0]).unwrap();
        let Interval { low, high } = interval.unwrap();
        assert_eq!((mean, volumes), (2.0, 3));
        assert!((high - 2.0 - 4.302_653 / 3f64.sqrt()).abs() < 1e-5 && (low + high - 4.0).abs() < 1e-12);
        assert_eq!(Estimate::of(&[1.0]).unwrap().interval, None, "one volume has no spread");
        assert_eq!(Estimate::of(&[1.0, f64::INFINITY]).unwrap().interval, None);
        assert_eq!(Estimate::of(&[]), None);
    }
}
