//! The contract: every operation that training and inference need, in data-flow order, with shapes and maths.
//!
//! A backend is a place where these run (the CPU, a GPU, an emulated GPU). The network is written once, against
//! this trait; each operation has one file of the same name in every backend.
//!
//! Decisions that hold everywhere:
//! - Arrays are dense and row-major. Complex arrays (`c`) interleave real and imaginary part. `N` is the batch of
//!   slices; `rows` and `columns` are k-space's H and W, columns being undersampled.
//! - The gradient of a complex array is ∂L/∂re + i·∂L/∂im.
//! - A convolution leaves its raw output and that output's instance-norm statistics; whoever reads the map reads
//!   `LeakyReLU((x − mean)·rstd)`. Nothing else of a layer is stored.
//! - The gradient of such a map is stored as ∂L/∂(normalised value), i.e. with LeakyReLU's derivative multiplied
//!   in, beside the two plane means that instance norm's backward needs. Whoever reads it finishes the norm.
//! - Outputs are overwritten, except where a sentence says "adds".
//! - What a device stores of a feature map, or of its gradient, may be rounded; statistics and plane means are those of
//!   what is stored.
//! - Sums are made in a fixed order: the same input gives the same bits, whatever the number of threads.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::real::Real;

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
    /// `[N, channels, height, width]`, a buffer of [`Memory::map`].
    pub values: B,
    /// `[N, channels, 2]`: mean and 1/√(variance + 1e-5) of each plane. Present: a reader of the map reads
    /// `LeakyReLU((value − mean)·rstd)` with slope 0.2. Absent: the values themselves.
    pub stats: Option<B>,
}

/// The gradient of a [`FeatureMap`].
pub struct MapGradient<B> {
    /// ∂L/∂((value − mean)·rstd) where the map has statistics, else ∂L/∂value. A buffer of [`Memory::map`].
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

/// One optimiser step over flat parameters.
#[derive(Clone, Copy, Debug)]
pub struct Update {
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
pub struct LabelNoise {
    pub lambda: f64,
    pub absolute: bool,
    /// Key and stream of the counter-based generator: the same pair gives the same noise on every device.
    pub key: u64,
    pub stream: u64,
}

/// Where buffers come from: all that is needed to lay out what a network works with, or to count it.
pub trait Memory {
    /// A flat array of reals.
    type Buffer;

    /// A buffer of `len` zeros.
    fn zeros(&self, purpose: Purpose, len: usize) -> Self::Buffer;

    /// The same for the values of a feature map or of its gradient, which a device may store with fewer bits than
    /// other reals.
    fn map(&self, purpose: Purpose, len: usize) -> Self::Buffer {
        self.zeros(purpose, len)
    }
}

/// A place where the operations run.
pub trait Backend: Memory {
    type Real: Real;
    /// A sequence of operations that was carried out before and can be again, as one.
    type Tape: Default;
    /// A moment in the sequence of operations.
    type Mark;
    /// Reals on their way to the host, which nobody sees before they are there.
    type Download;

    // ---- the device ---------------------------------------------------------------------------------------

    /// # Errors
    /// Where the backend has no operations for images of this shape.
    fn check(&self, shape: ImageShape) -> Result<()>;

    /// Takes what the operations of `body` use within themselves, so that none of them allocates. Nothing is computed,
    /// and no buffer changes.
    ///
    /// # Errors
    /// Where the device has not enough memory, with how much is missing.
    fn prepare(&self, body: impl FnOnce()) -> Result<()>;

    /// Carries `body` out. The next time with the same tape it may be replayed instead: `body` must then consist of
    /// the same operations on the same buffers with the same scalars, and only the buffers' contents may differ.
    fn repeat(&self, tape: &mut Self::Tape, body: impl FnOnce());

    /// Carries `body` out, perhaps beside what is asked for later, which waits where it writes what `body` reads or
    /// touches what `body` writes. `body`: operations that have no use for working memory.
    fn beside(&self, body: impl FnOnce()) {
        body();
    }

    /// Whether the device works while the host does something else: then it has nothing to do where the host waits for
    /// it before asking for more.
    fn works_beside(&self) -> bool {
        false
    }

    /// Waits until everything that was asked for is done.
    ///
    /// # Errors
    /// Where anything of it failed since the last call; what was computed is then worth nothing.
    fn finish(&self) -> Result<()>;

    /// Marks the moment between the operations asked for before and after; nobody waits for it.
    fn mark(&self) -> Self::Mark;

    /// Seconds that the device took from one mark to another, of operations that are done ([`Self::finish`]).
    fn seconds(&self, from: &Self::Mark, to: &Self::Mark) -> f64;

    /// Whether the devices of the ranks can sum by themselves. Where they cannot, the host has to.
    fn is_connected(&self) -> bool {
        false
    }
    /// Begins to sum a part of a buffer over the ranks whose devices are connected, the same bits on each, in its place.
    /// What is asked for before [`Self::await_sums`] goes on beside it and leaves the part alone. It is no operation to be
    /// repeated: ranks may not be at the same of theirs.
    fn begin_sum(&self, buffer: &mut Self::Buffer, part: Span) {
        let _ = (buffer, part);
    }
    /// What is asked for from now on finds the sums.
    fn await_sums(&self) {}

    // ---- memory -------------------------------------------------------------------------------------------

    /// Runs `build`, whose buffers are all taken from one block. It may be run twice, first to count.
    ///
    /// # Errors
    /// Those of `build`; and where the device has not enough memory, with how much is missing.
    fn in_one_block<R>(&self, build: impl Fn() -> Result<R>) -> Result<R>;
    /// Bytes of the device's memory that are in use, by whomever; none where it has no memory of its own.
    fn memory_in_use(&self) -> Option<usize> {
        None
    }
    /// Whether buffers for so many shapes may be kept, as far as the device's memory goes.
    fn keeps(&self, rooms: usize) -> bool;
    /// Reals in a buffer.
    fn len(&self, buffer: &Self::Buffer) -> usize;
    /// Makes a buffer `len` long, which is at most what it was made with. Its contents are unspecified then. This is
    /// no operation: it takes effect at once, and a tape does not hold it.
    fn set_len(&self, buffer: &mut Self::Buffer, len: usize);
    /// Copies host values to the front of a buffer that has room for them, rounded as it stores them.
    fn upload(&self, from: &[Self::Real], to: &mut Self::Buffer);
    /// Copies host values to the front of a buffer once the device has passed `after`, while it goes on with what was
    /// asked for since then, none of which may use the buffer. What is asked for from now on finds the values.
    fn upload_after(&self, after: &Self::Mark, from: &[Self::Real], to: &mut Self::Buffer);
    /// Copies the front of a buffer to the host.
    fn download(&self, from: &Self::Buffer, to: &mut [Self::Real]);
    /// Begins to copy the first `len` reals of a buffer, which is no map's, to the host: as they are now, whatever is
    /// asked for later. It is no operation to be repeated.
    ///
    /// # Errors
    /// As [`Self::finish`], as far as it is known without waiting.
    fn begin_download(&self, from: &Self::Buffer, len: usize) -> Result<Self::Download>;
    /// Waits for a copy, and for what was asked for before it, but for nothing that was asked for since. `to` is as
    /// long.
    ///
    /// # Errors
    /// Where anything failed that was waited for.
    fn await_download(&self, download: Self::Download, to: &mut [Self::Real]) -> Result<()>;
    /// Sets a buffer to zero.
    fn clear(&self, buffer: &mut Self::Buffer);
    /// Copies `len` reals from one buffer, starting at `from_offset`, to another, starting at `to_offset`.
    fn copy_part(
        &self,
        from: &Self::Buffer,
        from_offset: usize,
        to: &mut Self::Buffer,
        to_offset: usize,
        len: usize,
    );

    // ---- from k-space to sensitivity maps -----------------------------------------------------------------

    /// Coil images of column-weighted k-space: fastMRI's `ifft2c(kspace · columns)`, centred and orthonormal.
    /// `kspace`, `images`: `[N, coils, rows, columns] c`; `columns`: `[N, columns]`.
    fn ifft2c(
        &self,
        shape: ImageShape,
        kspace: &Self::Buffer,
        columns: &Self::Buffer,
        images: &mut Self::Buffer,
    );

    /// `NormUnet.norm` and `.pad`: each image's real and imaginary part become two channels, each shifted by its
    /// mean and divided by its sample standard deviation, then zero-padded (evenly, the odd pixel below and to
    /// the right) to `map`'s size. A channel without any deviation is divided by 1, and so becomes 0. `image`:
    /// `[N, rows, columns] c` with N = `map.n`; `moments`: `[N, 2, 2]`, mean and standard deviation.
    fn unet_input(
        &self,
        shape: ImageShape,
        image: &Self::Buffer,
        map: &mut FeatureMap<Self::Buffer>,
        moments: &mut Self::Buffer,
    );

    // ---- the U-Net ----------------------------------------------------------------------------------------

    /// Says which 3×3 and transposed convolutions come next, in whatever order, all of them with these parameters, which
    /// change only after the last: so that a device can do for all at once what they have in common. Of those of the
    /// backward pass, all with the same gradient, it is complete after the last. Results are those without an
    /// announcement.
    fn announce(&self, parameters: &Self::Buffer, convolutions: &[Convolution]) {
        let _ = (parameters, convolutions);
    }

    /// 3×3 convolution, zero padding 1, no bias, over the concatenation of one or two maps; then the statistics
    /// of its output. An input that is one row or column short is read with that row or column reflected (the
    /// U-Net's handling of odd sizes). `weight`: `[out, in, 3, 3]`.
    fn conv3x3(
        &self,
        inputs: &[&FeatureMap<Self::Buffer>],
        parameters: &Self::Buffer,
        weight: Span,
        output: &mut FeatureMap<Self::Buffer>,
    );

    /// 2×2 average pooling with stride 2; an odd last row or column is left out.
    fn avg_pool(&self, input: &FeatureMap<Self::Buffer>, output: &mut FeatureMap<Self::Buffer>);

    /// 2×2 transposed convolution with stride 2, no bias; then the statistics of its output.
    /// `weight`: `[in, out, 2, 2]`.
    fn conv_transpose(
        &self,
        input: &FeatureMap<Self::Buffer>,
        parameters: &Self::Buffer,
        weight: Span,
        output: &mut FeatureMap<Self::Buffer>,
    );

    /// 1×1 convolution with bias, to a map without statistics. `weight`: `[out, in]`; `bias`: `[out]`.
    fn conv1x1(
        &self,
        input: &FeatureMap<Self::Buffer>,
        parameters: &Self::Buffer,
        weight: Span,
        bias: Span,
        output: &mut FeatureMap<Self::Buffer>,
    );

    /// `NormUnet.unpad` and `.unnorm`: `image = map·std + mean`, cropped. The reverse of [`Self::unet_input`].
    fn unet_output(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Self::Buffer>,
        moments: &Self::Buffer,
        image: &mut Self::Buffer,
    );

    // ---- sensitivity maps and data consistency ------------------------------------------------------------

    /// `S_c = raw_c / √Σ|raw|²` per pixel, 0 where the root is 0. Both `[N, coils, rows, columns] c`.
    fn divide_by_rss(&self, shape: ImageShape, raw: &Self::Buffer, sens_maps: &mut Self::Buffer);

    /// `m₀ = Σ_c S̄_c·x_c`. `sens_maps`, `images`: `[N, coils, rows, columns] c`; `combined`: `[N, rows, columns] c`.
    fn sens_reduce(
        &self,
        shape: ImageShape,
        sens_maps: &Self::Buffer,
        images: &Self::Buffer,
        combined: &mut Self::Buffer,
    );

    /// `m = m₀ − u + N v` with the SENSE normal operator `N v = Σ_c S̄_c·P(S_c·v)`, `P = F⁻¹·mask·F` along columns.
    /// `mask`: `[N, columns]` in k-space's own (centred) order.
    #[allow(clippy::too_many_arguments)]
    fn cascade_input(
        &self,
        shape: ImageShape,
        sens_maps: &Self::Buffer,
        mask: &Self::Buffer,
        m0: &Self::Buffer,
        u: &Self::Buffer,
        v: &Self::Buffer,
        m: &mut Self::Buffer,
    );

    /// `v' = (1 − λ)·v + λ·u`, with λ the parameter at `dc_weight`. All `[N, rows, columns] c`.
    fn cascade_dc(
        &self,
        parameters: &Self::Buffer,
        dc_weight: Span,
        u: &Self::Buffer,
        v: &Self::Buffer,
        v_out: &mut Self::Buffer,
    );

    /// `u' = u + r`; subtracts r from `m`, too. All `[N, rows, columns] c`.
    fn cascade_update(
        &self,
        r: &Self::Buffer,
        u: &Self::Buffer,
        u_out: &mut Self::Buffer,
        m: Option<&mut Self::Buffer>,
    );

    /// `output = √Σ_c |x₀_c − S_c·u + P(S_c·v)|²`, `[N, rows, columns]` real. `x0`: the zero-filled coil images.
    #[allow(clippy::too_many_arguments)]
    fn rss_output(
        &self,
        shape: ImageShape,
        sens_maps: &Self::Buffer,
        mask: &Self::Buffer,
        x0: &Self::Buffer,
        u: &Self::Buffer,
        v: &Self::Buffer,
        output: &mut Self::Buffer,
    );

    // ---- loss ---------------------------------------------------------------------------------------------

    /// Puts the centre of `output` where the loss compares it with `target`'s (see [`LossShape::crop`]); `target` stays as
    /// it is around that.
    fn crop_to_target(&self, shape: LossShape, output: &Self::Buffer, target: &mut Self::Buffer);

    /// Adds noise to `len` values of `target` from `first` on, to the i-th of them from the generator's counter i.
    fn label_noise(&self, noise: LabelNoise, first: usize, len: usize, target: &mut Self::Buffer);

    /// The loss of [`LossWeights`], averaged over all pixels of the batch, and `scale` times its gradient.
    /// SSIM is fastMRI's `SSIMLoss`: 7×7 uniform window, sample covariance, k1 = 0.01, k2 = 0.03, data range
    /// `max_value` `[N]` per slice. `losses` `[2]` become (1 − SSIM, mean absolute error), without weights or scale;
    /// where the images are smaller than the window, 1 − SSIM is 0 (see [`LossShape::check`]).
    #[allow(clippy::too_many_arguments)]
    fn image_loss(
        &self,
        shape: LossShape,
        weights: LossWeights,
        scale: f64,
        output: &Self::Buffer,
        target: &Self::Buffer,
        max_value: &Self::Buffer,
        losses: &mut Self::Buffer,
        d_output: &mut Self::Buffer,
    );

    // ---- backward, in reverse -----------------------------------------------------------------------------

    /// From `d_output` to `d_u`, `d_v` (overwritten) and `d_sens` (overwritten).
    #[allow(clippy::too_many_arguments)]
    fn rss_output_backward(
        &self,
        shape: ImageShape,
        sens_maps: &Self::Buffer,
        mask: &Self::Buffer,
        x0: &Self::Buffer,
        u: &Self::Buffer,
        v: &Self::Buffer,
        output: &Self::Buffer,
        d_output: &Self::Buffer,
        d_u: &mut Self::Buffer,
        d_v: &mut Self::Buffer,
        d_sens: &mut Self::Buffer,
    );

    /// In: `d_u`, `d_v` of what a cascade makes of u and v, `d_m` of what its U-Net is shown, `m₀ − u + N v`. Out: `d_u`
    /// of u, `d_u + λ·d_v − d_m`; of `d_v`, what v gets without N: `(1 − λ)·d_v`. Adds d_m to `d_m0` and ⟨d_v, u − v⟩
    /// to the gradient of λ.
    #[allow(clippy::too_many_arguments)]
    fn cascade_update_backward(
        &self,
        parameters: &Self::Buffer,
        dc_weight: Span,
        u: &Self::Buffer,
        v: &Self::Buffer,
        d_m: &Self::Buffer,
        d_u: &mut Self::Buffer,
        d_v: &mut Self::Buffer,
        d_m0: &mut Self::Buffer,
        d_parameters: &mut Self::Buffer,
    );

    /// Adds N v to `sum`, with N as in [`Self::cascade_input`]; it is its own adjoint.
    fn normal_operator(
        &self,
        shape: ImageShape,
        sens_maps: &Self::Buffer,
        mask: &Self::Buffer,
        v: &Self::Buffer,
        sum: &mut Self::Buffer,
    );

    /// Adds to `d_sens` what the maps get from m₀ and from all normal operators, S read once:
    /// `d̄_m0·x₀_c + Σ_t (ḡ_t·P(S_c·v_t) + v̄_t·P(S_c·g_t))` for the pairs (v_t, g_t = d_m_t).
    #[allow(clippy::too_many_arguments)]
    fn sens_backward(
        &self,
        shape: ImageShape,
        sens_maps: &Self::Buffer,
        mask: &Self::Buffer,
        x0: &Self::Buffer,
        d_m0: &Self::Buffer,
        pairs: &[(&Self::Buffer, &Self::Buffer)],
        d_sens: &mut Self::Buffer,
    );

    /// In place: `d_sens` becomes the gradient of the raw maps, `(d_c − S_c·Re Σ S̄ d)/rss`, 0 where rss is 0 and NaN
    /// where it is.
    fn divide_by_rss_backward(
        &self,
        shape: ImageShape,
        raw: &Self::Buffer,
        sens_maps: &Self::Buffer,
        d_sens: &mut Self::Buffer,
    );

    /// From `d_image` to the gradient of the map (zero in the padding) and of the moments (both overwritten).
    fn unet_output_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Self::Buffer>,
        moments: &Self::Buffer,
        d_image: &Self::Buffer,
        d_map: &mut MapGradient<Self::Buffer>,
        d_moments: &mut Self::Buffer,
    );

    /// Adds to the gradients of weight and bias; finishes the input's gradient.
    #[allow(clippy::too_many_arguments)]
    fn conv1x1_backward(
        &self,
        input: &FeatureMap<Self::Buffer>,
        parameters: &Self::Buffer,
        weight: Span,
        bias: Span,
        output: &FeatureMap<Self::Buffer>,
        d_output: &MapGradient<Self::Buffer>,
        d_parameters: &mut Self::Buffer,
        d_input: &mut MapGradient<Self::Buffer>,
    );

    /// Adds to the weight's gradient; finishes the input's gradient.
    #[allow(clippy::too_many_arguments)]
    fn conv_transpose_backward(
        &self,
        input: &FeatureMap<Self::Buffer>,
        parameters: &Self::Buffer,
        weight: Span,
        output: &FeatureMap<Self::Buffer>,
        d_output: &MapGradient<Self::Buffer>,
        d_parameters: &mut Self::Buffer,
        d_input: &mut MapGradient<Self::Buffer>,
    );

    /// Adds what the pooled map hands back to the gradient that `d_input` already holds (partial), and finishes.
    fn avg_pool_backward(
        &self,
        input: &FeatureMap<Self::Buffer>,
        output: &FeatureMap<Self::Buffer>,
        d_output: &MapGradient<Self::Buffer>,
        d_input: &mut MapGradient<Self::Buffer>,
    );

    /// Adds to the weight's gradient; writes the gradient of each input that has a place for it.
    #[allow(clippy::too_many_arguments)]
    fn conv3x3_backward(
        &self,
        inputs: &[&FeatureMap<Self::Buffer>],
        parameters: &Self::Buffer,
        weight: Span,
        output: &FeatureMap<Self::Buffer>,
        d_output: &MapGradient<Self::Buffer>,
        d_parameters: &mut Self::Buffer,
        d_inputs: &mut [Option<InputGradient<'_, Self::Buffer>>],
    );

    /// From the gradients of map and moments to the gradient of the image (overwritten).
    #[allow(clippy::too_many_arguments)]
    fn unet_input_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Self::Buffer>,
        moments: &Self::Buffer,
        d_map: &MapGradient<Self::Buffer>,
        d_moments: &Self::Buffer,
        d_image: &mut Self::Buffer,
    );

    // ---- optimiser ----------------------------------------------------------------------------------------

    /// One Adam step (PyTorch's, no weight decay) on `g = gradient + γ·sign(θ)`, scaled by
    /// `min(1, clip/(‖g‖ + 1e-6))`. `norm` `[1]` becomes ‖g‖ before the scaling. Parameters and moments are left
    /// untouched where ‖g‖ is not finite. Where there is a `mask`, its zeros are frozen: their g is no part of ‖g‖,
    /// whatever it is, and they and their moments are left untouched.
    #[allow(clippy::too_many_arguments)]
    fn update(
        &self,
        update: Update,
        parameters: &mut Self::Buffer,
        mask: Option<&Self::Buffer>,
        gradient: &Self::Buffer,
        first_moment: &mut Self::Buffer,
        second_moment: &mut Self::Buffer,
        norm: &mut Self::Buffer,
    );

    // ---- unlearning ---------------------------------------------------------------------------------------

    /// Adds `factor·gradient²` to `sums`, element by element: a diagonal of the empirical Fisher information.
    fn add_squares(&self, factor: f64, gradient: &Self::Buffer, sums: &mut Self::Buffer);

    /// Dampens `parameters` by their importance to the forget and to the retain set. Those that are not selected keep
    /// their bits, as do those whose importance is NaN.
    fn dampen(
        &self,
        dampening: Dampening,
        forget: &Self::Buffer,
        retain: &Self::Buffer,
        parameters: &mut Self::Buffer,
    );
}
