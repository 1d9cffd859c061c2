//! What operations are about: shapes, feature maps and their gradients, and the numbers of losses and optimiser.

use std::ops::Range;

use crate::error::{Error, Result};

/// What a buffer is for: the groups that a memory plan is printed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The network's weights.
    Parameters,
    /// The gradient of the weights, and Adam's moments.
    Optimiser,
    /// What the host sends: k-space, masks, targets.
    Input,
    /// Zero-filled images, sensitivity maps and their gradient; the cascades' u, v and m.
    Images,
    /// What the sensitivity network keeps for its backward pass.
    SensNet,
    /// What the cascades' U-Nets keep for theirs.
    Cascades,
    /// Gradients of feature maps while a backward pass is under way, and maps that live as briefly.
    Gradients,
    /// Partial sums and whatever else lives within one operation, on a GPU.
    Scratch,
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Parameters => "parameters",
            Self::Optimiser => "optimiser",
            Self::Input => "input",
            Self::Images => "images",
            Self::SensNet => "sensitivity network",
            Self::Cascades => "cascades",
            Self::Gradients => "gradients of maps",
            Self::Scratch => "scratch",
        })
    }
}

/// Where a parameter lies in the flat buffers of parameters, gradients and moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub offset: usize,
    pub len: usize,
}

impl Span {
    pub fn range(self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// A batch of complex images: `[N, rows, columns] c`, or `[N, coils, rows, columns] c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageShape {
    pub n: usize,
    pub coils: usize,
    pub rows: usize,
    pub columns: usize,
}

impl ImageShape {
    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }
    /// Reals in a coil-combined complex array `[N, rows, columns] c`.
    pub fn combined(&self) -> usize {
        2 * self.n * self.pixels()
    }
    /// Reals in a multi-coil complex array `[N, coils, rows, columns] c`.
    pub fn multicoil(&self) -> usize {
        self.combined() * self.coils
    }
    /// The same images, every coil an image of its own.
    pub fn coils_as_batch(&self) -> Self {
        Self { n: self.n * self.coils, coils: 1, ..*self }
    }
}

/// A batch of feature maps `[N, channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    pub n: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl MapShape {
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
    pub fn planes(&self) -> usize {
        self.n * self.channels
    }
    pub fn len(&self) -> usize {
        self.planes() * self.pixels()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }
}

/// Feature maps as a layer leaves them.
pub struct FeatureMap<B> {
    pub shape: MapShape,
    /// `[N, channels, height, width]`, a buffer of [`Memory::map`](crate::backend::Memory::map).
    pub values: B,
    /// `[N, channels, 2]`: mean and 1/√(variance + 1e-5) of each plane. Present: a reader of the map reads
    /// `LeakyReLU((value − mean)·rstd)` with slope 0.2. Absent: the values themselves.
    pub stats: Option<B>,
}

/// The gradient of a [`FeatureMap`].
pub struct MapGradient<B> {
    /// ∂L/∂((value − mean)·rstd) where the map has statistics, else ∂L/∂value. A buffer of [`Memory::map`](crate::backend::Memory::map).
    pub values: B,
    /// `[N, channels, 2]`: each plane's mean of `g` and of `g·(value − mean)·rstd`. Present where the map has
    /// statistics.
    pub sums: Option<B>,
}

/// What an operation's backward does with the gradient of one of its inputs.
pub struct InputGradient<'a, B> {
    pub gradient: &'a mut MapGradient<B>,
    /// The input has another reader, whose backward comes later and finishes: leave ∂L/∂(what was read) in
    /// `values` and `sums` untouched.
    pub partial: bool,
}

/// A convolution that is to come, as its operation will be asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// 2×2 with stride 2, and no 3×3 convolution.
    pub transposed: bool,
    pub weight: Span,
    /// Channels of its inputs together.
    pub inputs: usize,
    pub output: MapShape,
    pub pass: Pass,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward,
    /// With the channels of the inputs whose gradient is asked for.
    Backward(Range<usize>),
}

/// What the training loss is made of: `ssim·(1 − SSIM) + l1·mean|output − target|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    pub ssim: f64,
    pub l1: f64,
}

/// Pixels along a side of SSIM's window.
pub const SSIM_WINDOW: usize = 7;

/// The images that a loss compares: `[N, rows, columns]` and `[N, height, width]`, both centre-cropped to the
/// smaller of the two along each axis (fastMRI's `center_crop_to_smallest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossShape {
    pub n: usize,
    pub output: [usize; 2],
    pub target: [usize; 2],
}

impl LossShape {
    pub fn new(images: ImageShape, target: [usize; 2]) -> Self {
        Self { n: images.n, output: [images.rows, images.columns], target }
    }

    /// Height and width of what the two images have in common.
    pub fn crop(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.output[axis].min(self.target[axis]))
    }

    /// # Errors
    /// Where SSIM has a weight and the images hold none of its windows.
    pub fn check(&self, weights: LossWeights) -> Result<()> {
        let [height, width] = self.crop();
        if weights.ssim == 0.0 || height.min(width) >= SSIM_WINDOW {
            return Ok(());
        }
        Err(Error::input(format!(
            "SSIM needs images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, but output and target have \
             {height}x{width} in common: use larger images or the l1 loss alone"
        )))
    }
}

/// How the optimiser steps.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Steps taken, this one included: Adam's bias correction.
    pub step: u64,
    /// Global norm that the gradient is scaled down to.
    pub clip: Option<f64>,
    /// γ of an ℓ1 penalty γ‖θ‖₁, whose subgradient γ·sign(θ) joins the gradient before the clip.
    pub l1: f64,
}

impl AdamStep {
    /// With PyTorch's constants, and no penalty.
    pub fn new(lr: f64, step: u64, clip: Option<f64>) -> Self {
        Self { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, step, clip, l1: 0.0 }
    }
}

/// Selective synaptic dampening (Foster et al. 2024): a parameter θ whose importance f to the forget set is above α times
/// its importance d to all data becomes `min(1, λ·d/f)·θ`. With r its importance to the retain set,
/// `d = forget_share·f + (1 − forget_share)·r`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dampening {
    pub alpha: f64,
    pub lambda: f64,
    /// What the forget set is of all data.
    pub forget_share: f64,
}

/// Label noise: `target += λ·n`, or `λ·|n|`, with n standard normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseSource {
    pub lambda: f64,
    pub absolute: bool,
    /// Key and stream of the counter-based generator: the same pair gives the same noise on every device.
    pub key: u64,
    pub stream: u64,
}
