//! PSNR, SSIM and NMSE as `fastmri.evaluate` defines them, for volumes and for single slices.
//!
//! Images are f32 `[slices, h, w]`; all arithmetic is f64. fastMRI computes SSIM in the files' own float32, so its
//! printed values differ from these in the seventh digit. The range of intensities is the volume's maximum (fastMRI's
//! evaluation script takes the target's own, its training loop the file's `max`), also where one slice is scored.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backend::SSIM_WINDOW;
use crate::error::{Error, Result};

/// Magnitude images of one volume, `[slices, h, w]` in row-major order. Intensities are in the file's own unit.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    data: &'a [f32],
    shape: [usize; 3],
}

impl<'a> Images<'a> {
    /// Fails where the shape is empty or does not fit the data, or where a value is NaN or infinite.
    pub fn new(data: &'a [f32], shape: [usize; 3]) -> Result<Self> {
        let [slices, h, w] = shape;
        let expected = slices * h * w;
        if expected == 0 || data.len() != expected {
            let count = data.len();
            return Err(Error::input(format!(
                "images of shape [{slices}, {h}, {w}] need {expected} values (more than 0), got {count}"
            )));
        }
        match data.iter().position(|v| !v.is_finite()) {
            None => Ok(Self { data, shape }),
            Some(i) => Err(Error::NotFinite(format!(
                "slice {} has {} at row {}, column {}: it cannot be scored",
                i / (h * w),
                data[i],
                i / w % h,
                i % w,
            ))),
        }
    }

    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// One slice as a volume of its own, `[1, h, w]`.
    pub fn slice(&self, index: usize) -> Self {
        self.slices(index..index + 1)
    }

    fn slices(&self, range: Range<usize>) -> Self {
        let [_, h, w] = self.shape;
        Self { data: &self.data[range.start * h * w..range.end * h * w], shape: [range.len(), h, w] }
    }

    /// The largest value of the volume.
    pub fn max(&self) -> f64 {
        f64::from(self.data.iter().copied().fold(f32::NEG_INFINITY, f32::max))
    }
}

/// One volume's or one slice's measures. A perfect reconstruction has an infinite PSNR.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Peak signal-to-noise ratio in dB.
    #[serde(with = "crate::json_float")]
    pub psnr: f64,
    /// Mean structural similarity, at most 1.
    #[serde(with = "crate::json_float")]
    pub ssim: f64,
    /// Normalised mean squared error.
    #[serde(with = "crate::json_float")]
    pub nmse: f64,
}

/// The measures of a volume, and of each slice within the volume's range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeScores {
    pub volume: Scores,
    pub slices: Vec<Scores>,
}

/// Mean and spread over volumes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    #[serde(with = "crate::json_float")]
    pub mean: f64,
    /// Sample standard deviation (divided by count − 1), as fastMRI's `runstats` computes it. None for one value.
    pub sd: Option<f64>,
    pub count: usize,
}

impl Spread {
    /// None for no values. An infinite value makes the mean infinite and leaves no deviation.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let sd = (squares / (count as f64 - 1.0)).sqrt();
        Some(Self { mean, sd: sd.is_finite().then_some(sd), count })
    }
}

/// Mean ± deviation of every measure over volumes: a cell of the paper's tables.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreSummary {
    pub psnr: Spread,
    pub ssim: Spread,
    pub nmse: Spread,
}

impl ScoreSummary {
    /// None for no scores.
    pub fn of(scores: &[Scores]) -> Option<Self> {
        let spread =
            |measure: fn(&Scores) -> f64| Spread::of(&scores.iter().map(measure).collect::<Vec<_>>());
        Some(Self { psnr: spread(|s| s.psnr)?, ssim: spread(|s| s.ssim)?, nmse: spread(|s| s.nmse)? })
    }
}

/// Scores a reconstruction. `max` is the intensity range; None takes the target's own maximum.
///
/// The volume's SSIM is the mean over its slices; its PSNR and NMSE are taken over all its voxels at once. Images
/// must have one shape and at least 7×7 pixels, and the range must be positive.
pub fn evaluate(target: Images, prediction: Images, max: Option<f64>) -> Result<VolumeScores> {
    let max = max.unwrap_or_else(|| target.max());
    check(target, prediction, max)?;
    let slices: Vec<_> = (0..target.shape[0])
        .into_par_iter()
        .map(|i| {
            let (target, prediction) = (target.slice(i), prediction.slice(i));
            let error = squared_error(target, prediction);
            (error, energy(target), ssim_of_slice(target, prediction, max))
        })
        .collect();

    // Summed in slice order: the result does not depend on the number of threads.
    let voxels = target.data.len() as f64;
    let count = slices.len() as f64;
    let (error, energy, ssim) =
        slices.iter().fold((0.0, 0.0, 0.0), |sum, s| (sum.0 + s.0, sum.1 + s.1, sum.2 + s.2));
    Ok(VolumeScores {
        volume: Scores { psnr: decibels(max, error / voxels), ssim: ssim / count, nmse: error / energy },
        slices: slices
            .iter()
            .map(|s| Scores { psnr: decibels(max, s.0 / (voxels / count)), ssim: s.2, nmse: s.0 / s.1 })
            .collect(),
    })
}

fn check(target: Images, prediction: Images, max: f64) -> Result<()> {
    let [_, h, w] = target.shape;
    if target.shape != prediction.shape {
        return Err(Error::input(format!(
            "the target is {:?} and the reconstruction {:?} ([slices, h, w]): crop both to one size",
            target.shape, prediction.shape
        )));
    }
    if h < SSIM_WINDOW || w < SSIM_WINDOW {
        return Err(Error::input(format!(
            "images are {h}×{w}, and SSIM needs at least {SSIM_WINDOW}×{SSIM_WINDOW} pixels"
        )));
    }
    if !(max.is_finite() && max > 0.0) {
        return Err(Error::input(format!(
            "the intensity range is {max} and must be positive: check the file's `max` and that its target is not empty"
        )));
    }
    Ok(())
}

fn squared_error(a: Images, b: Images) -> f64 {
    a.data.iter().zip(b.data).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

fn energy(a: Images) -> f64 {
    a.data.iter().map(|&x| f64::from(x).powi(2)).sum()
}

fn decibels(max: f64, mean_squared_error: f64) -> f64 {
    10.0 * (max * max / mean_squared_error).log10()
}

/// Sums over one column of the window, or over the whole of it: x, y, x², y², xy.
type Moments = [f64; 5];

fn add(a: Moments, b: Moments) -> Moments {
    std::array::from_fn(|i| a[i] + b[i])
}

/// Mean over every window that lies inside the image: skimage crops what its padding reached, so no padding is needed.
fn ssim_of_slice(target: Images, prediction: Images, max: f64) -> f64 {
    let [_, h, w] = target.shape;
    let mut total = 0.0;
    let mut columns = vec![[0.0; 5]; w];
    for top in 0..=h - SSIM_WINDOW {
        columns.fill([0.0; 5]);
        for y in top..top + SSIM_WINDOW {
            let row = y * w..(y + 1) * w;
            let pixels = target.data[row.clone()].iter().zip(&prediction.data[row]);
            for (column, (&x, &y)) in columns.iter_mut().zip(pixels) {
                let (x, y) = (f64::from(x), f64::from(y));
                *column = add(*column, [x, y, x * x, y * y, x * y]);
            }
        }
        // Added afresh for each window: a running sum would carry its rounding along the row.
        total += columns
            .windows(SSIM_WINDOW)
            .map(|window| similarity(window.iter().copied().fold([0.0; 5], add), max))
            .sum::<f64>();
    }
    total / ((h - SSIM_WINDOW + 1) * (w - SSIM_WINDOW + 1)) as f64
}

/// The SSIM of one window, with sample (n − 1) variances and covariance, K₁ = 0.01 and K₂ = 0.03.
fn similarity(sums: Moments, max: f64) -> f64 {
    let n = (SSIM_WINDOW * SSIM_WINDOW) as f64;
    let [ux, uy, uxx, uyy, uxy] = sums.map(|s| s / n);
    let sample = n / (n - 1.0);
    let (vx, vy, vxy) = (sample * (uxx - ux * ux), sample * (uyy - uy * uy), sample * (uxy - ux * uy));
    let (c1, c2) = ((0.01 * max).powi(2), (0.03 * max).powi(2));
    (2.0 * ux * uy + c1) * (2.0 * vxy + c2) / ((ux * ux + uy * uy + c1) * (vx + vy + c2))
}
