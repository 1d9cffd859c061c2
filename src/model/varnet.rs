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

use std::ops::Range;

use crate::backend::*;
use crate::error::Result;
use crate::model::architecture::{Architecture, ParameterLayout, VarNetSpans};
use crate::model::norm_unet::{Activations, NormUnet, Passing};

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
    mode: Mode,
    /// Zero-filled coil images.
    x0: B,
    /// Coil images of the centre first; each group of them becomes the sensitivity network's output for it, before the
    /// division by its root sum of squares.
    raw_maps: B,
    pub sens_maps: B,
    m0: B,
    /// What each cascade's U-Net is shown; two in turn where it is not shown it again.
    m: Vec<B>,
    r: B,
    /// `u[t]`, `v[t]` before cascade t, and the last ones; two of each where no backward follows. In a backward pass
    /// `u[t + 1]` becomes the gradient of m_t, once nobody has a use for it.
    u: Vec<B>,
    v: Vec<B>,
    /// Of each group of coil images and of each cascade; one for all where they are not kept.
    sens: Vec<Activations<B>>,
    cascades: Vec<Activations<B>>,
    passing: Passing<B>,
    /// `[N, rows, columns]` real: the reconstruction.
    pub output: B,
    group: Group<B>,
    backward: Option<Backward<B>>,
}

/// The coil images that the sensitivity network sees at a time, and its maps of them or their gradients.
struct Group<B> {
    /// How many, but for the last group, which may be smaller.
    images: usize,
    image: B,
    map: B,
}

/// Gradients while a backward pass is under way.
struct Backward<B> {
    d_u: B,
    d_v: B,
    d_m0: B,
    d_sens: B,
}

/// What a workspace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A backward pass follows each forward pass. It finds every feature map that it needs, or makes the maps of one
    /// U-Net at a time again, to the same bits.
    Training {
        recompute: bool,
    },
    Inference,
}

impl Mode {
    fn trains(self) -> bool {
        self != Self::Inference
    }

    /// Whether what a U-Net makes in the forward pass is still there in the backward pass.
    fn keeps_maps(self) -> bool {
        self == Self::Training { recompute: false }
    }
}

/// Reals of gradients that a group of coil images may take whatever the cascades take: below that there is nothing worth
/// saving, and larger groups are fewer operations.
const LEAST_GROUP: usize = 1 << 22;
/// How much of the room that the cascades take a group may take else. On a GPU an operation on few images is over before
/// the next has begun: with 4 instead of 2 of 16 coils a training step has a fifth fewer launches, for a fiftieth more
/// memory.
const GROUP_ROOM: usize = 2;

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

    /// Coil images that the sensitivity network sees at a time: as many as need at most `GROUP_ROOM` times the room for
    /// gradients that the cascades' U-Nets need, shared out evenly. It follows from the shape alone, in every mode: what is
    /// computed does too.
    pub fn group(&self, shape: ImageShape) -> usize {
        let coils = shape.coils_as_batch();
        let room = (GROUP_ROOM * self.cascades[0].gradients_len(shape)).max(LEAST_GROUP);
        let each = self.sens_net.gradients_len(ImageShape { n: 1, ..coils });
        let most = (room / each).clamp(1, coils.n);
        coils.n.div_ceil(coils.n.div_ceil(most))
    }

    /// # Errors
    /// Where images of this shape are too small for the network's depth.
    pub fn workspace<M: Memory>(
        &self,
        ops: &M,
        shape: ImageShape,
        mode: Mode,
    ) -> Result<Workspace<M::Buffer>> {
        self.workspace_in_groups(ops, shape, mode, self.group(shape))
    }

    /// A workspace with groups of `images` coil images. Weight gradients are summed group by group: other groups round
    /// them otherwise.
    ///
    /// # Errors
    /// As [`Self::workspace`].
    pub fn workspace_in_groups<M: Memory>(
        &self,
        ops: &M,
        shape: ImageShape,
        mode: Mode,
        images: usize,
    ) -> Result<Workspace<M::Buffer>> {
        self.check(shape)?;
        let coils = shape.coils_as_batch();
        let combined = || ops.zeros(Purpose::Images, shape.combined());
        let multicoil = || ops.zeros(Purpose::Images, shape.multicoil());
        let states = if mode.trains() { self.cascades.len() + 1 } else { 2 };
        let of_group = |group: Range<usize>| ImageShape { n: group.len(), ..coils };
        let sens_kept = if mode.keeps_maps() { usize::MAX } else { 1 };
        let cascades_kept = if mode.keeps_maps() { self.cascades.len() } else { 1 };
        let shown_again = mode == Mode::Training { recompute: true };
        let backward = mode.trains().then(|| Backward {
            d_u: combined(),
            d_v: combined(),
            d_m0: combined(),
            d_sens: multicoil(),
        });
        let users = [(&self.sens_net, of_group(0..images)), (&self.cascades[0], shape)];
        let group_image = || ops.zeros(Purpose::Images, of_group(0..images).combined());
        Ok(Workspace {
            shape,
            mode,
            x0: multicoil(),
            raw_maps: multicoil(),
            sens_maps: multicoil(),
            m0: combined(),
            m: (0..if shown_again { self.cascades.len() } else { 2 }).map(|_| combined()).collect(),
            r: combined(),
            u: (0..states).map(|_| combined()).collect(),
            v: (0..states).map(|_| combined()).collect(),
            sens: groups(coils.n, images)
                .take(sens_kept)
                .map(|group| self.sens_net.activations(ops, Purpose::SensNet, of_group(group)))
                .collect(),
            cascades: (0..cascades_kept)
                .map(|_| self.cascades[0].activations(ops, Purpose::Cascades, shape))
                .collect(),
            passing: Passing::new(ops, users, mode.trains()),
            output: ops.zeros(Purpose::Images, shape.n * shape.pixels()),
            group: Group { images, image: group_image(), map: group_image() },
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
        ops.run(Ifft2c { shape, kspace: &input.kspace, columns: &input.mask, images: &mut w.x0 });
        ops.run(Ifft2c { shape, kspace: &input.kspace, columns: &input.centre, images: &mut w.raw_maps });
        for (i, group) in groups(shape.n * shape.coils, w.group.images).enumerate() {
            self.sens_net_forward(ops, parameters, w, i, group.clone());
            let image = 2 * shape.pixels();
            ops.run(CopyPart {
                from: &w.group.map,
                from_offset: 0,
                to: &mut w.raw_maps,
                to_offset: group.start * image,
                len: group.len() * image,
            });
        }
        ops.run(DivideByRss { shape, raw: &w.raw_maps, sens_maps: &mut w.sens_maps });

        ops.run(SensReduce { shape, sens_maps: &w.sens_maps, images: &w.x0, combined: &mut w.m0 });
        ops.run(Clear { buffer: &mut w.u[0] });
        ops.run(Clear { buffer: &mut w.v[0] });
        ops.run(CascadeInput {
            shape,
            sens_maps: &w.sens_maps,
            mask: &input.mask,
            m0: &w.m0,
            u: &w.u[0],
            v: &w.v[0],
            m: &mut w.m[0],
        });
        let cascades = self.cascades.len();
        for t in 0..cascades {
            let (now, next) = (t % w.u.len(), (t + 1) % w.u.len());
            let [v, v_next] = pair(&mut w.v, now, next);
            let [u, u_next] = pair(&mut w.u, now, next);
            let m_next = (t + 1) % w.m.len();
            // v_{t+1} does not wait for the U-Net: nor does N v_{t+1}, from which only r_t is then missing.
            ops.beside(|| {
                ops.run(CascadeDc { parameters, dc_weight: self.spans.cascades[t].0, u, v, v_out: v_next });
                if t + 1 < cascades {
                    ops.run(CascadeInput {
                        shape,
                        sens_maps: &w.sens_maps,
                        mask: &input.mask,
                        m0: &w.m0,
                        u,
                        v: v_next,
                        m: &mut w.m[m_next],
                    });
                }
            });
            let (m, kept) = (t % w.m.len(), t % w.cascades.len());
            let activations = &mut w.cascades[kept];
            self.cascades[t].forward(ops, parameters, &w.m[m], activations, &mut w.passing, &mut w.r);
            ops.run(CascadeUpdate {
                r: &w.r,
                u,
                u_out: u_next,
                m: (t + 1 < cascades).then(|| &mut w.m[m_next]),
            });
        }
        let last = cascades % w.u.len();
        ops.run(RssOutput {
            shape,
            sens_maps: &w.sens_maps,
            mask: &input.mask,
            x0: &w.x0,
            u: &w.u[last],
            v: &w.v[last],
            output: &mut w.output,
        });
    }

    /// From one group's centre images, in `w.raw_maps`, to its maps in `w.group.map`.
    fn sens_net_forward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        w: &mut Workspace<B::Buffer>,
        number: usize,
        group: Range<usize>,
    ) {
        let image = 2 * w.shape.pixels();
        let Group { image: images, map, .. } = &mut w.group;
        ops.set_len(images, group.len() * image);
        ops.set_len(map, group.len() * image);
        ops.run(CopyPart {
            from: &w.raw_maps,
            from_offset: group.start * image,
            to: images,
            to_offset: 0,
            len: group.len() * image,
        });
        let kept = number % w.sens.len();
        let activations = &mut w.sens[kept];
        activations.set_images(ops, group.len());
        self.sens_net.forward(ops, parameters, images, activations, &mut w.passing, map);
    }

    /// The parts of the parameters whose gradients the backward pass finishes one after the other: the cascades, the last
    /// first, and the sensitivity network.
    pub fn parts(&self) -> Vec<Span> {
        let first = |t: usize| {
            self.spans.cascades.get(t).map_or(self.layout.len(), |(dc_weight, _)| dc_weight.offset)
        };
        let span = |offset: usize, end: usize| Span { offset, len: end - offset };
        let cascades = (0..self.cascades.len()).rev().map(|t| span(first(t), first(t + 1)));
        cascades.chain([span(0, first(0))]).collect()
    }

    /// After [`Self::forward`] in a training workspace: adds to `d_parameters` what finishes the gradient of one of
    /// [`Self::parts`], which come in their order, given `d_output`, that of `w.output`.
    ///
    /// # Panics
    /// In a workspace made for inference, and beyond the last part.
    #[allow(clippy::too_many_arguments)]
    pub fn backward_part<B: Backend>(
        &self,
        part: usize,
        ops: &B,
        parameters: &B::Buffer,
        input: &Input<B::Buffer>,
        w: &mut Workspace<B::Buffer>,
        d_output: &B::Buffer,
        d_parameters: &mut B::Buffer,
    ) {
        let cascades = self.cascades.len();
        if part == 0 {
            self.output_backward(ops, input, w, d_output);
        }
        match cascades.checked_sub(part + 1) {
            Some(t) => self.cascade_backward(t, ops, parameters, input, w, d_parameters),
            None => self.sens_maps_backward(ops, parameters, input, w, d_parameters),
        }
    }

    fn output_backward<B: Backend>(
        &self,
        ops: &B,
        input: &Input<B::Buffer>,
        w: &mut Workspace<B::Buffer>,
        d_output: &B::Buffer,
    ) {
        let shape = w.shape;
        let g = w.backward.as_mut().expect("a training workspace");
        let cascades = self.cascades.len();
        let (sens_maps, mask) = (&w.sens_maps, &input.mask);

        ops.run(RssOutputBackward {
            shape,
            sens_maps,
            mask,
            x0: &w.x0,
            u: &w.u[cascades],
            v: &w.v[cascades],
            output: &w.output,
            d_output,
            d_u: &mut g.d_u,
            d_v: &mut g.d_v,
            d_sens: &mut g.d_sens,
        });
        ops.run(Clear { buffer: &mut g.d_m0 });
    }

    fn cascade_backward<B: Backend>(
        &self,
        t: usize,
        ops: &B,
        parameters: &B::Buffer,
        input: &Input<B::Buffer>,
        w: &mut Workspace<B::Buffer>,
        d_parameters: &mut B::Buffer,
    ) {
        let shape = w.shape;
        let g = w.backward.as_mut().expect("a training workspace");
        let (sens_maps, mask) = (&w.sens_maps, &input.mask);
        let (unet, kept) = (&self.cascades[t], t % w.cascades.len());
        let activations = &mut w.cascades[kept];
        if !w.mode.keeps_maps() {
            unet.forward(ops, parameters, &w.m[t], activations, &mut w.passing, &mut w.r);
        }
        let [u, d_m] = pair(&mut w.u, t, t + 1);
        // r_t is added to u_t: its gradient is that of u_{t+1}.
        unet.backward(ops, parameters, activations, &mut w.passing, &g.d_u, d_parameters, Some(d_m));
        ops.run(CascadeUpdateBackward {
            parameters,
            dc_weight: self.spans.cascades[t].0,
            u,
            v: &w.v[t],
            d_m,
            d_u: &mut g.d_u,
            d_v: &mut g.d_v,
            d_m0: &mut g.d_m0,
            d_parameters,
        });
        // v₀ and v₁ are zero whatever the parameters are: nobody asks for their gradients.
        if t > 1 {
            ops.beside(|| ops.run(NormalOperator { shape, sens_maps, mask, v: d_m, sum: &mut g.d_v }));
        }
    }

    fn sens_maps_backward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        input: &Input<B::Buffer>,
        w: &mut Workspace<B::Buffer>,
        d_parameters: &mut B::Buffer,
    ) {
        let shape = w.shape;
        let g = w.backward.as_mut().expect("a training workspace");
        let (sens_maps, mask, cascades) = (&w.sens_maps, &input.mask, self.cascades.len());
        // v₀ and v₁ are zero: the first cascades' normal operators give the maps nothing.
        let pairs: Vec<_> = (2..cascades).map(|t| (&w.v[t], &w.u[t + 1])).collect();
        ops.run(SensBackward {
            shape,
            sens_maps,
            mask,
            x0: &w.x0,
            d_m0: &g.d_m0,
            pairs: &pairs,
            d_sens: &mut g.d_sens,
        });
        ops.run(DivideByRssBackward { shape, raw: &w.raw_maps, sens_maps, d_sens: &mut g.d_sens });
        if !w.mode.keeps_maps() {
            ops.run(Ifft2c { shape, kspace: &input.kspace, columns: &input.centre, images: &mut w.raw_maps });
        }
        let image = 2 * shape.pixels();
        for (i, group) in groups(shape.n * shape.coils, w.group.images).enumerate() {
            if !w.mode.keeps_maps() {
                self.sens_net_forward(ops, parameters, w, i, group.clone());
            }
            let (d_map, kept) = (&mut w.group.map, i % w.sens.len());
            let d_sens = &w.backward.as_ref().expect("a training workspace").d_sens;
            ops.set_len(d_map, group.len() * image);
            ops.run(CopyPart {
                from: d_sens,
                from_offset: group.start * image,
                to: d_map,
                to_offset: 0,
                len: group.len() * image,
            });
            let activations = &w.sens[kept];
            self.sens_net.backward(ops, parameters, activations, &mut w.passing, d_map, d_parameters, None);
        }
    }
}

/// `total` images in groups of `size`; the last may be smaller.
fn groups(total: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total).step_by(size).map(move |start| start..(start + size).min(total))
}

/// Two different elements of a list, both mutable.
fn pair<B>(list: &mut [B], a: usize, b: usize) -> [&mut B; 2] {
    list.get_disjoint_mut([a, b]).expect("two different elements")
}
