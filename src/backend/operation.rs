//! The operations, in data-flow order: what each reads, and what it writes.

use super::shapes::*;

// ---- memory -------------------------------------------------------------------------------------------------------

/// Sets a buffer to zero.
pub struct Clear<'a, B> {
    pub buffer: &'a mut B,
}

/// Copies `len` reals from one buffer, starting at `from_offset`, to another, starting at `to_offset`.
pub struct CopyPart<'a, B> {
    pub from: &'a B,
    pub from_offset: usize,
    pub to: &'a mut B,
    pub to_offset: usize,
    pub len: usize,
}

// ---- from k-space to sensitivity maps ------------------------------------------------------------------------------

/// Coil images of column-weighted k-space: fastMRI's `ifft2c(kspace · columns)`, centred and orthonormal.
/// `kspace`, `images`: `[N, coils, rows, columns] c`; `columns`: `[N, columns]`.
pub struct Ifft2c<'a, B> {
    pub shape: ImageShape,
    pub kspace: &'a B,
    pub columns: &'a B,
    pub images: &'a mut B,
}

/// `NormUnet.norm` and `.pad`: each image's real and imaginary part become two channels, each shifted by its
/// mean and divided by its sample standard deviation, then zero-padded (evenly, the odd pixel below and to
/// the right) to `map`'s size. A channel without any deviation is divided by 1, and so becomes 0. `image`:
/// `[N, rows, columns] c` with N = `map.n`; `moments`: `[N, 2, 2]`, mean and standard deviation.
pub struct UnetInput<'a, B> {
    pub shape: ImageShape,
    pub image: &'a B,
    pub map: &'a mut FeatureMap<B>,
    pub moments: &'a mut B,
}

// ---- the U-Net -----------------------------------------------------------------------------------------------------

/// Says which 3×3 and transposed convolutions come next, in whatever order, all of them with these parameters, which
/// change only after the last: so that a device can do for all at once what they have in common. Of those of the
/// backward pass, all with the same gradient, it is complete after the last. Results are those without an
/// announcement.
pub struct Announce<'a, B> {
    pub parameters: &'a B,
    pub convolutions: &'a [Convolution],
}

/// 3×3 convolution, zero padding 1, no bias, over the concatenation of one or two maps; then the statistics
/// of its output. An input that is one row or column short is read with that row or column reflected (the
/// U-Net's handling of odd sizes). `weight`: `[out, in, 3, 3]`.
pub struct Conv3x3<'a, B> {
    pub inputs: &'a [&'a FeatureMap<B>],
    pub parameters: &'a B,
    pub weight: Span,
    pub output: &'a mut FeatureMap<B>,
}

/// 2×2 average pooling with stride 2; an odd last row or column is left out.
pub struct AvgPool<'a, B> {
    pub input: &'a FeatureMap<B>,
    pub output: &'a mut FeatureMap<B>,
}

/// 2×2 transposed convolution with stride 2, no bias; then the statistics of its output.
/// `weight`: `[in, out, 2, 2]`.
pub struct ConvTranspose<'a, B> {
    pub input: &'a FeatureMap<B>,
    pub parameters: &'a B,
    pub weight: Span,
    pub output: &'a mut FeatureMap<B>,
}

/// 1×1 convolution with bias, to a map without statistics. `weight`: `[out, in]`; `bias`: `[out]`.
pub struct Conv1x1<'a, B> {
    pub input: &'a FeatureMap<B>,
    pub parameters: &'a B,
    pub weight: Span,
    pub bias: Span,
    pub output: &'a mut FeatureMap<B>,
}

/// `NormUnet.unpad` and `.unnorm`: `image = map·std + mean`, cropped. The reverse of [`UnetInput`].
pub struct UnetOutput<'a, B> {
    pub shape: ImageShape,
    pub map: &'a FeatureMap<B>,
    pub moments: &'a B,
    pub image: &'a mut B,
}

// ---- sensitivity maps and data consistency -------------------------------------------------------------------------

/// `S_c = raw_c / √Σ|raw|²` per pixel, 0 where the root is 0. Both `[N, coils, rows, columns] c`.
pub struct DivideByRss<'a, B> {
    pub shape: ImageShape,
    pub raw: &'a B,
    pub sens_maps: &'a mut B,
}

/// `m₀ = Σ_c S̄_c·x_c`. `sens_maps`, `images`: `[N, coils, rows, columns] c`; `combined`: `[N, rows, columns] c`.
pub struct SensReduce<'a, B> {
    pub shape: ImageShape,
    pub sens_maps: &'a B,
    pub images: &'a B,
    pub combined: &'a mut B,
}

/// `m = m₀ − u + N v` with the SENSE normal operator `N v = Σ_c S̄_c·P(S_c·v)`, `P = F⁻¹·mask·F` along columns.
/// `mask`: `[N, columns]` in k-space's own (centred) order.
pub struct CascadeInput<'a, B> {
    pub shape: ImageShape,
    pub sens_maps: &'a B,
    pub mask: &'a B,
    pub m0: &'a B,
    pub u: &'a B,
    pub v: &'a B,
    pub m: &'a mut B,
}

/// `v' = (1 − λ)·v + λ·u`, with λ the parameter at `dc_weight`. All `[N, rows, columns] c`.
pub struct CascadeDc<'a, B> {
    pub parameters: &'a B,
    pub dc_weight: Span,
    pub u: &'a B,
    pub v: &'a B,
    pub v_out: &'a mut B,
}

/// `u' = u + r`; subtracts r from `m`, too. All `[N, rows, columns] c`.
pub struct CascadeUpdate<'a, B> {
    pub r: &'a B,
    pub u: &'a B,
    pub u_out: &'a mut B,
    pub m: Option<&'a mut B>,
}

/// `output = √Σ_c |x₀_c − S_c·u + P(S_c·v)|²`, `[N, rows, columns]` real. `x0`: the zero-filled coil images.
pub struct RssOutput<'a, B> {
    pub shape: ImageShape,
    pub sens_maps: &'a B,
    pub mask: &'a B,
    pub x0: &'a B,
    pub u: &'a B,
    pub v: &'a B,
    pub output: &'a mut B,
}

// ---- loss ----------------------------------------------------------------------------------------------------------

/// Puts the centre of `output` where the loss compares it with `target`'s (see [`LossShape::crop`]); `target` stays as
/// it is around that.
pub struct CropToTarget<'a, B> {
    pub shape: LossShape,
    pub output: &'a B,
    pub target: &'a mut B,
}

/// Adds noise to `len` values of `target` from `first` on, to the i-th of them from the generator's counter i.
pub struct LabelNoise<'a, B> {
    pub noise: NoiseSource,
    pub first: usize,
    pub len: usize,
    pub target: &'a mut B,
}

/// The loss of [`LossWeights`], averaged over all pixels of the batch, and `scale` times its gradient.
/// SSIM is fastMRI's `SSIMLoss`: 7×7 uniform window, sample covariance, k1 = 0.01, k2 = 0.03, data range
/// `max_value` `[N]` per slice. `losses` `[2]` become (1 − SSIM, mean absolute error), without weights or scale;
/// where the images are smaller than the window, 1 − SSIM is 0 (see [`LossShape::check`]).
pub struct ImageLoss<'a, B> {
    pub shape: LossShape,
    pub weights: LossWeights,
    pub scale: f64,
    pub output: &'a B,
    pub target: &'a B,
    pub max_value: &'a B,
    pub losses: &'a mut B,
    pub d_output: &'a mut B,
}

// ---- backward, in reverse ------------------------------------------------------------------------------------------

/// From `d_output` to `d_u`, `d_v` (overwritten) and `d_sens` (overwritten).
pub struct RssOutputBackward<'a, B> {
    pub shape: ImageShape,
    pub sens_maps: &'a B,
    pub mask: &'a B,
    pub x0: &'a B,
    pub u: &'a B,
    pub v: &'a B,
    pub output: &'a B,
    pub d_output: &'a B,
    pub d_u: &'a mut B,
    pub d_v: &'a mut B,
    pub d_sens: &'a mut B,
}

/// In: `d_u`, `d_v` of what a cascade makes of u and v, `d_m` of what its U-Net is shown, `m₀ − u + N v`. Out: `d_u`
/// of u, `d_u + λ·d_v − d_m`; of `d_v`, what v gets without N: `(1 − λ)·d_v`. Adds d_m to `d_m0` and ⟨d_v, u − v⟩
/// to the gradient of λ.
pub struct CascadeUpdateBackward<'a, B> {
    pub parameters: &'a B,
    pub dc_weight: Span,
    pub u: &'a B,
    pub v: &'a B,
    pub d_m: &'a B,
    pub d_u: &'a mut B,
    pub d_v: &'a mut B,
    pub d_m0: &'a mut B,
    pub d_parameters: &'a mut B,
}

/// Adds N v to `sum`, with N as in [`CascadeInput`]; it is its own adjoint.
pub struct NormalOperator<'a, B> {
    pub shape: ImageShape,
    pub sens_maps: &'a B,
    pub mask: &'a B,
    pub v: &'a B,
    pub sum: &'a mut B,
}

/// Adds to `d_sens` what the maps get from m₀ and from all normal operators, S read once:
/// `d̄_m0·x₀_c + Σ_t (ḡ_t·P(S_c·v_t) + v̄_t·P(S_c·g_t))` for the pairs (v_t, g_t = d_m_t).
pub struct SensBackward<'a, B> {
    pub shape: ImageShape,
    pub sens_maps: &'a B,
    pub mask: &'a B,
    pub x0: &'a B,
    pub d_m0: &'a B,
    pub pairs: &'a [(&'a B, &'a B)],
    pub d_sens: &'a mut B,
}

/// In place: `d_sens` becomes the gradient of the raw maps, `(d_c − S_c·Re Σ S̄ d)/rss`, 0 where rss is 0 and NaN
/// where it is.
pub struct DivideByRssBackward<'a, B> {
    pub shape: ImageShape,
    pub raw: &'a B,
    pub sens_maps: &'a B,
    pub d_sens: &'a mut B,
}

/// From `d_image` to the gradient of the map (zero in the padding) and of the moments (both overwritten).
pub struct UnetOutputBackward<'a, B> {
    pub shape: ImageShape,
    pub map: &'a FeatureMap<B>,
    pub moments: &'a B,
    pub d_image: &'a B,
    pub d_map: &'a mut MapGradient<B>,
    pub d_moments: &'a mut B,
}

/// Adds to the gradients of weight and bias; finishes the input's gradient.
pub struct Conv1x1Backward<'a, B> {
    pub input: &'a FeatureMap<B>,
    pub parameters: &'a B,
    pub weight: Span,
    pub bias: Span,
    pub output: &'a FeatureMap<B>,
    pub d_output: &'a MapGradient<B>,
    pub d_parameters: &'a mut B,
    pub d_input: &'a mut MapGradient<B>,
}

/// Adds to the weight's gradient; finishes the input's gradient.
pub struct ConvTransposeBackward<'a, B> {
    pub input: &'a FeatureMap<B>,
    pub parameters: &'a B,
    pub weight: Span,
    pub output: &'a FeatureMap<B>,
    pub d_output: &'a MapGradient<B>,
    pub d_parameters: &'a mut B,
    pub d_input: &'a mut MapGradient<B>,
}

/// Adds what the pooled map hands back to the gradient that `d_input` already holds (partial), and finishes.
pub struct AvgPoolBackward<'a, B> {
    pub input: &'a FeatureMap<B>,
    pub output: &'a FeatureMap<B>,
    pub d_output: &'a MapGradient<B>,
    pub d_input: &'a mut MapGradient<B>,
}

/// Adds to the weight's gradient; writes the gradient of each input that has a place for it.
pub struct Conv3x3Backward<'a, B> {
    pub inputs: &'a [&'a FeatureMap<B>],
    pub parameters: &'a B,
    pub weight: Span,
    pub output: &'a FeatureMap<B>,
    pub d_output: &'a MapGradient<B>,
    pub d_parameters: &'a mut B,
    pub d_inputs: &'a mut [Option<InputGradient<'a, B>>],
}

/// From the gradients of map and moments to the gradient of the image (overwritten).
pub struct UnetInputBackward<'a, B> {
    pub shape: ImageShape,
    pub map: &'a FeatureMap<B>,
    pub moments: &'a B,
    pub d_map: &'a MapGradient<B>,
    pub d_moments: &'a B,
    pub d_image: &'a mut B,
}

// ---- optimiser -----------------------------------------------------------------------------------------------------

/// One Adam step (PyTorch's, no weight decay) on `g = gradient + γ·sign(θ)`, scaled by
/// `min(1, clip/(‖g‖ + 1e-6))`. `norm` `[1]` becomes ‖g‖ before the scaling. Parameters and moments are left
/// untouched where ‖g‖ is not finite. Where there is a `mask`, its zeros are frozen: their g is no part of ‖g‖,
/// whatever it is, and they and their moments are left untouched.
pub struct Update<'a, B> {
    pub adam: AdamStep,
    pub parameters: &'a mut B,
    pub mask: Option<&'a B>,
    pub gradient: &'a B,
    pub first_moment: &'a mut B,
    pub second_moment: &'a mut B,
    pub norm: &'a mut B,
}

// ---- unlearning ----------------------------------------------------------------------------------------------------

/// Adds `factor·gradient²` to `sums`, element by element: a diagonal of the empirical Fisher information.
pub struct AddSquares<'a, B> {
    pub factor: f64,
    pub gradient: &'a B,
    pub sums: &'a mut B,
}

/// Dampens `parameters` by their importance to the forget and to the retain set. Those that are not selected keep
/// their bits, as do those whose importance is NaN.
pub struct Dampen<'a, B> {
    pub dampening: Dampening,
    pub forget: &'a B,
    pub retain: &'a B,
    pub parameters: &'a mut B,
}

macro_rules! operations {
    ($($operation:ident => $name:literal,)*) => {
        /// Something to be carried out.
        pub enum Operation<'a, B> {
            $($operation($operation<'a, B>),)*
        }

        impl<B> Operation<'_, B> {
            /// What reports call it.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$operation(_) => $name,)*
                }
            }
        }

        $(impl<'a, B> From<$operation<'a, B>> for Operation<'a, B> {
            fn from(operation: $operation<'a, B>) -> Self {
                Self::$operation(operation)
            }
        })*
    };
}

operations! {
    Clear => "clear",
    CopyPart => "copy_part",
    Ifft2c => "ifft2c",
    UnetInput => "unet_input",
    Announce => "announce",
    Conv3x3 => "conv3x3",
    AvgPool => "avg_pool",
    ConvTranspose => "conv_transpose",
    Conv1x1 => "conv1x1",
    UnetOutput => "unet_output",
    DivideByRss => "divide_by_rss",
    SensReduce => "sens_reduce",
    CascadeInput => "cascade_input",
    CascadeDc => "cascade_dc",
    CascadeUpdate => "cascade_update",
    RssOutput => "rss_output",
    CropToTarget => "crop_to_target",
    LabelNoise => "label_noise",
    ImageLoss => "image_loss",
    RssOutputBackward => "rss_output_backward",
    CascadeUpdateBackward => "cascade_update_backward",
    NormalOperator => "normal_operator",
    SensBackward => "sens_backward",
    DivideByRssBackward => "divide_by_rss_backward",
    UnetOutputBackward => "unet_output_backward",
    Conv1x1Backward => "conv1x1_backward",
    ConvTransposeBackward => "conv_transpose_backward",
    AvgPoolBackward => "avg_pool_backward",
    Conv3x3Backward => "conv3x3_backward",
    UnetInputBackward => "unet_input_backward",
    Update => "update",
    AddSquares => "add_squares",
    Dampen => "dampen",
}
