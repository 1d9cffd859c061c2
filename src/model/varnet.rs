//! E2E-VarNet in normal-operator form: two coil-combined images u and v are all that a cascade changes.
//!
//! With zero-filled coil images x₀, sensitivity maps S (Σ|S|² = 1) and P = F⁻¹·mask·F along columns, fastMRI's
//! k-space after t cascades is that of `x₀ − S·u_t + P(S·v_t)`, where
//!
//! ```text
//! m_t = m₀ − u_t + N v_t      r_t = NormUnet_t(m_t)      u_{t+1} = u_t + r_t      v_{t+1} = (1 − λ_t)·v_t + λ_t·u_t
//! ```
//!
//! exactly: masks depend on the column alone, P is a projection, and the maps are normalised. A cascade costs one
//! normal operator N, and no multi-coil state is stored.

use crate::backend::{Backend, ImageShape, Purpose};
use crate::error::Result;
use crate::model::architecture::{Architecture, ParameterLayout, VarNetSpans};
use crate::model::norm_unet::{Activations, Gradients, NormUnet};

/// The network: where its parameters lie and how they are applied. The parameters themselves are a flat buffer.
pub struct VarNet {
    pub architecture: Architecture,
    pub layout: ParameterLayout,
    spans: VarNetSpans,
    sens_net: NormUnet,
    cascades: Vec<NormUnet>,
}

/// What a network is shown: a batch of undersampled slices of one shape.
pub struct Input<B> {
    pub shape: ImageShape,
    /// `[N, coils, rows, columns] c`. Values at columns outside the mask are not looked at.
    pub kspace: B,
    /// `[N, columns]`, 1 where sampled.
    pub mask: B,
    /// `[N, columns]`, 1 in the fully sampled centre that the sensitivity maps are made from.
    pub centre: B,
}

/// Everything that a pass over one shape needs; nothing is allocated in a step.
pub struct Workspace<B> {
    shape: ImageShape,
    /// Zero-filled coil images.
    x0: B,
    centre_images: B,
    /// The sensitivity network's output before the division by its root sum of squares.
    raw_maps: B,
    pub sens_maps: B,
    m0: B,
    m: B,
    r: B,
    /// `u[t]`, `v[t]` before cascade t, and the last ones; two of each where no backward follows.
    u: Vec<B>,
    v: Vec<B>,
    sens: Vec<Activations<B>>,
    cascades: Vec<Activations<B>>,
    /// `[N, rows, columns]` real: the reconstruction.
    pub output: B,
    /// One coil's image and map, where the coils go one by one.
    coil: [B; 2],
    backward: Option<Backward<B>>,
}

/// Gradients while a backward pass is under way.
struct Backward<B> {
    d_u: B,
    d_v: B,
    d_r: B,
    d_m: Vec<B>,
    d_m0: B,
    d_sens: B,
    sens: Gradients<B>,
    cascades: Gradients<B>,
}

/// Whether a backward pass will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Training,
    Inference,
}

impl VarNet {
    /// # Errors
    /// Where a number of the architecture is zero or absurd.
    pub fn new(architecture: Architecture) -> Result<Self> {
        architecture.check()?;
        let (layout, spans) = architecture.layout();
        let sens_net = NormUnet { chans: architecture.sens_chans, spans: spans.sens_net.clone() };
        let cascades = spans
            .cascades
            .iter()
            .map(|(_, unet)| NormUnet { chans: architecture.chans, spans: unet.clone() })
            .collect();
        Ok(Self { architecture, layout, spans, sens_net, cascades })
    }

    /// # Errors
    /// Where images of this shape are too small for the network's depth.
    pub fn check(&self, shape: ImageShape) -> Result<()> {
        self.sens_net.check(shape.coils_as_batch())?;
        self.cascades[0].check(shape)
    }

    /// # Errors
    /// Where images of this shape are too small for the network's depth.
    pub fn workspace<B: Backend>(
        &self,
        ops: &B,
        shape: ImageShape,
        mode: Mode,
    ) -> Result<Workspace<B::Buffer>> {
        self.check(shape)?;
        let coils = shape.coils_as_batch();
        let training = mode == Mode::Training;
        let combined = || ops.zeros(Purpose::Images, shape.combined());
        let multicoil = || ops.zeros(Purpose::Images, shape.multicoil());
        let states = if training { self.cascades.len() + 1 } else { 2 };
        // Without a backward pass all cascades share one set of activations, and the coils go one by one.
        let sens_shape = if training { coils } else { ImageShape { n: 1, ..coils } };
        let sens = vec![self.sens_net.activations(ops, Purpose::SensNet, sens_shape)];
        let kept = if training { self.cascades.len() } else { 1 };
        let cascades: Vec<_> =
            (0..kept).map(|_| self.cascades[0].activations(ops, Purpose::Cascades, shape)).collect();
        let backward = training.then(|| Backward {
            d_u: combined(),
            d_v: combined(),
            d_r: combined(),
            d_m: (0..self.cascades.len()).map(|_| combined()).collect(),
            d_m0: combined(),
            d_sens: multicoil(),
            sens: self.sens_net.gradients(ops, &sens[0]),
            cascades: self.cascades[0].gradients(ops, &cascades[0]),
        });
        Ok(Workspace {
            shape,
            x0: multicoil(),
            centre_images: multicoil(),
            raw_maps: multicoil(),
            sens_maps: multicoil(),
            m0: combined(),
            m: combined(),
            r: combined(),
            u: (0..states).map(|_| combined()).collect(),
            v: (0..states).map(|_| combined()).collect(),
            sens,
            cascades,
            output: ops.zeros(Purpose::Images, shape.n * shape.pixels()),
            coil: std::array::from_fn(|_| {
                ops.zeros(Purpose::Images, if training { 0 } else { sens_shape.combined() })
            }),
            backward,
        })
    }

    /// From undersampled k-space to `w.output`, the root-sum-of-squares image `[N, rows, columns]`.
    pub fn forward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        input: &Input<B::Buffer>,
        w: &mut Workspace<B::Buffer>,
    ) {
        let shape = w.shape;
        ops.ifft2c(shape, &input.kspace, &input.mask, &mut w.x0);
        ops.ifft2c(shape, &input.kspace, &input.centre, &mut w.centre_images);
        self.sens_net_forward(ops, parameters, w);
        ops.divide_by_rss(shape, &w.raw_maps, &mut w.sens_maps);

        ops.sens_reduce(shape, &w.sens_maps, &w.x0, &mut w.m0);
        ops.clear(&mut w.u[0]);
        ops.clear(&mut w.v[0]);
        for t in 0..self.cascades.len() {
            let (now, next) = (t % w.u.len(), (t + 1) % w.u.len());
            let kept = t % w.cascades.len();
            ops.cascade_input(shape, &w.sens_maps, &input.mask, &w.m0, &w.u[now], &w.v[now], &mut w.m);
            self.cascades[t].forward(ops, parameters, &w.m, &mut w.cascades[kept], &mut w.r);
            let [u, u_next] = pair(&mut w.u, now, next);
            let [v, v_next] = pair(&mut w.v, now, next);
            ops.cascade_update(parameters, self.spans.cascades[t].0, &w.r, u, v, u_next, v_next);
        }
        let last = self.cascades.len() % w.u.len();
        ops.rss_output(shape, &w.sens_maps, &input.mask, &w.x0, &w.u[last], &w.v[last], &mut w.output);
    }

    fn sens_net_forward<B: Backend>(&self, ops: &B, parameters: &B::Buffer, w: &mut Workspace<B::Buffer>) {
        if w.backward.is_some() {
            self.sens_net.forward(ops, parameters, &w.centre_images, &mut w.sens[0], &mut w.raw_maps);
            return;
        }
        let image = 2 * w.shape.pixels();
        let [coil, map] = &mut w.coil;
        for i in 0..w.shape.n * w.shape.coils {
            ops.copy_part(&w.centre_images, i * image, coil, 0, image);
            self.sens_net.forward(ops, parameters, coil, &mut w.sens[0], map);
            ops.copy_part(map, 0, &mut w.raw_maps, i * image, image);
        }
    }

    /// After [`Self::forward`] in a training workspace: adds the gradient of the loss to `d_parameters`, given
    /// `d_output`, that of `w.output`.
    ///
    /// # Panics
    /// In a workspace made for inference.
    pub fn backward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        input: &Input<B::Buffer>,
        w: &mut Workspace<B::Buffer>,
        d_output: &B::Buffer,
        d_parameters: &mut B::Buffer,
    ) {
        let shape = w.shape;
        let g = w.backward.as_mut().expect("a training workspace");
        let cascades = self.cascades.len();
        let (sens_maps, mask) = (&w.sens_maps, &input.mask);

        ops.rss_output_backward(
            shape,
            sens_maps,
            mask,
            &w.x0,
            &w.u[cascades],
            &w.v[cascades],
            &w.output,
            d_output,
            &mut g.d_u,
            &mut g.d_v,
            &mut g.d_sens,
        );
        ops.clear(&mut g.d_m0);
        for t in (0..cascades).rev() {
            let (dc_weight, d_m) = (self.spans.cascades[t].0, &mut g.d_m[t]);
            ops.cascade_update_backward(
                parameters,
                dc_weight,
                &w.u[t],
                &w.v[t],
                &mut g.d_u,
                &mut g.d_v,
                &mut g.d_r,
                d_parameters,
            );
            let activations = &w.cascades[t];
            let unet = &self.cascades[t];
            unet.backward(ops, parameters, activations, &g.d_r, &mut g.cascades, d_parameters, Some(d_m));
            ops.cascade_input_backward(shape, sens_maps, mask, d_m, &mut g.d_u, &mut g.d_v, &mut g.d_m0);
        }
        // v₀ is zero: the first cascade's normal operator gives the maps nothing.
        let pairs: Vec<_> = (1..cascades).map(|t| (&w.v[t], &g.d_m[t])).collect();
        ops.sens_backward(shape, sens_maps, mask, &w.x0, &g.d_m0, &pairs, &mut g.d_sens);
        ops.divide_by_rss_backward(shape, &w.raw_maps, sens_maps, &mut g.d_sens);
        self.sens_net.backward(ops, parameters, &w.sens[0], &g.d_sens, &mut g.sens, d_parameters, None);
    }
}

/// Two different elements of a list, both mutable.
fn pair<B>(list: &mut [B], a: usize, b: usize) -> [&mut B; 2] {
    list.get_disjoint_mut([a, b]).expect("two different elements")
}
