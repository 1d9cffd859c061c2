//! From the k-space of a set to images: slice by slice through the network, or zero-filled for comparison.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::backend::{Backend, ImageShape};
use crate::batch::{Batch, Sampler, image_shape};
use crate::cpu::{Cpu, fft::ifft2c};
use crate::crop::{center_crop, smaller};
use crate::data::loader::{LoadedSlice, Loader, LoaderOptions};
use crate::data::order::epoch_order;
use crate::data::set::VolumeSet;
use crate::data::volume::VolumeFile;
use crate::engine::{Engine, Workload};
use crate::error::{Error, Result};

/// A slice and what was made of it.
pub struct ReconstructedSlice<'a> {
    /// Index into [`VolumeSet::volumes`].
    pub volume: usize,
    pub file: &'a VolumeFile,
    pub slice: usize,
    /// Of the reference image, where the file has one.
    pub target: Option<Vec<f32>>,
    /// What it was made of: this slice with its mask.
    pub batch: Batch,
    /// `[rows, columns]`, all finite.
    pub image: Vec<f32>,
}

impl ReconstructedSlice<'_> {
    /// The zero-filled image `[rows, columns]`.
    pub fn zero_filled(&self, cpu: &Cpu<f32>) -> Vec<f32> {
        zero_filled(cpu, &self.batch)
    }
}

/// What makes images of slices: a network on a device, or nothing at all ([`ZeroFilled`]).
pub trait Reconstructor {
    /// See [`reconstruct_until`].
    ///
    /// # Errors
    /// As [`reconstruct_until`].
    fn images(
        &mut self,
        set: &Arc<VolumeSet>,
        sampler: &Sampler,
        each: impl FnMut(&ReconstructedSlice<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>>;
}

impl<B: Backend> Reconstructor for Engine<'_, B> {
    fn images(
        &mut self,
        set: &Arc<VolumeSet>,
        sampler: &Sampler,
        each: impl FnMut(&ReconstructedSlice<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        reconstruct_until(self, set, sampler, each)
    }
}

/// How images without a network are called in tables.
pub const ZERO_FILLED: &str = "zero-filled";

/// What a network's images are compared with: none, see [`zero_filled`].
#[derive(Default)]
pub struct ZeroFilled(Cpu<f32>);

impl Reconstructor for ZeroFilled {
    fn images(
        &mut self,
        set: &Arc<VolumeSet>,
        sampler: &Sampler,
        mut each: impl FnMut(&ReconstructedSlice<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        for loaded in Loader::start(set.clone(), epoch_order(set, 0, 0, false, 1), LoaderOptions::default()) {
            for LoadedSlice { volume, slice, data } in loaded? {
                let file = &set.volumes()[volume];
                let batch = Batch::new(file, [(data.kspace, sampler.mask(file, slice, 0)?)]);
                let image = zero_filled(&self.0, &batch);
                check_finite(
                    &image,
                    file,
                    slice,
                    "the zero-filled image has",
                    "k-space is too large for float32",
                )?;
                let slice = ReconstructedSlice { volume, file, slice, target: data.target, batch, image };
                if each(&slice)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Reconstructs every slice of a set: volumes in the order of the set, slices ascending, read ahead in parallel.
///
/// # Errors
/// Slices that cannot be read or are too small for the network, [`Error::NotFinite`] where the network's image is not
/// finite, and what `each` returns; file and slice are named.
pub fn reconstruct_set<B: Backend>(
    engine: &mut Engine<'_, B>,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    mut each: impl FnMut(&ReconstructedSlice<'_>) -> Result<()>,
) -> Result<()> {
    let ended = reconstruct_until(engine, set, sampler, |slice| each(slice).map(ControlFlow::Continue))?;
    assert!(ended.is_continue(), "nothing stops it");
    Ok(())
}

/// As [`reconstruct_set`], until `each` breaks off: then what is left is not reconstructed.
///
/// # Errors
/// Those of [`reconstruct_set`].
pub fn reconstruct_until<B: Backend>(
    engine: &mut Engine<'_, B>,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    mut each: impl FnMut(&ReconstructedSlice<'_>) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let order = epoch_order(set, 0, 0, false, 1);
    let mut loader = Loader::start(set.clone(), order, LoaderOptions::default());
    let put = |engine: &mut Engine<'_, B>, loader: &mut Loader| -> Option<Result<Put>> {
        let slice = loader.next()?.map(|slices| slices.into_iter().next().expect("batches of one slice"));
        Some(slice.and_then(|slice| Put::new(engine, set, sampler, slice)))
    };
    let mut done: Option<ReconstructedSlice<'_>> = None;
    let mut next = put(engine, &mut loader);
    while let Some(current) = next {
        let Put { volume, slice, target, batch } = current?;
        let file = &set.volumes()[volume];
        engine.submit_reconstruction().map_err(|error| error.of_file(&file.path))?;
        // While the device is at work.
        if let Some(done) = done.take() {
            if each(&done)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            loader.recycle(done.batch.kspace);
        }
        next = put(engine, &mut loader);
        let image = engine.images().map_err(|error| error.of_file(&file.path))?;
        let why =
            "the weights have diverged, or k-space is of another magnitude than what they were trained on";
        check_finite(&image, file, slice, "the network's image has", why)?;
        done = Some(ReconstructedSlice { volume, file, slice, target, batch, image });
    }
    done.as_ref().map_or(Ok(ControlFlow::Continue(())), each)
}

/// A slice on the device, that waits to be reconstructed.
struct Put {
    volume: usize,
    slice: usize,
    target: Option<Vec<f32>>,
    batch: Batch,
}

impl Put {
    fn new<B: Backend>(
        engine: &mut Engine<'_, B>,
        set: &VolumeSet,
        sampler: &Sampler,
        LoadedSlice { volume, slice, data }: LoadedSlice,
    ) -> Result<Self> {
        let file = &set.volumes()[volume];
        let batch = Batch::new(file, [(data.kspace, sampler.mask(file, slice, 0)?)]);
        engine.put(&batch, None).map_err(|error| error.of_file(&file.path))?;
        Ok(Self { volume, slice, target: data.target, batch })
    }
}

/// Takes the memory for every shape in a set, so that what does not fit is known before anything is computed.
///
/// # Errors
/// Those of [`Engine::make_room`]; the file is named.
pub fn make_rooms<B: Backend>(engine: &mut Engine<'_, B>, set: &VolumeSet) -> Result<()> {
    let mut made = BTreeSet::new();
    for (index, file) in set.volumes().iter().enumerate() {
        if made.insert(set.shape(index)) {
            engine
                .make_room(image_shape(file, 1), Workload::Reconstruct)
                .map_err(|error| error.of_file(&file.path))?;
        }
    }
    Ok(())
}

/// Images `[N, rows, columns]` without a network: the root-sum-of-squares of the coil images of k-space whose
/// unmeasured columns are zero.
pub fn zero_filled(cpu: &Cpu<f32>, batch: &Batch) -> Vec<f32> {
    let ImageShape { coils, .. } = batch.shape;
    let pixels = batch.shape.pixels();
    let columns: Vec<f32> = batch.mask.iter().map(|&sampled| f32::from(u8::from(sampled))).collect();
    let mut images = vec![0.0; batch.shape.multicoil()];
    ifft2c(cpu, batch.shape, bytemuck::cast_slice(&batch.kspace), &columns, &mut images);
    let mut output = vec![0.0f32; batch.shape.n * pixels];
    for (slice, output) in images.chunks_exact(2 * coils * pixels).zip(output.chunks_exact_mut(pixels)) {
        for coil in slice.chunks_exact(2 * pixels) {
            for (sum, z) in output.iter_mut().zip(coil.as_chunks::<2>().0) {
                *sum += z[0] * z[0] + z[1] * z[1];
            }
        }
        output.iter_mut().for_each(|sum| *sum = sum.sqrt());
    }
    output
}

/// Crops an image of a volume to what fastMRI's VarNet inference writes: the header's reconstruction size, or, where
/// the image has fewer columns than that, a square as wide as the image. Returns the image with its height and width.
pub fn crop_for_leaderboard(image: &[f32], file: &VolumeFile) -> (Vec<f32>, [usize; 2]) {
    let columns = file.matrix[1];
    let wanted = if columns < file.recon[1] { [columns, columns] } else { file.recon };
    // fastMRI stops at an image with fewer rows than that; here it is as high as it is.
    let size = smaller(wanted, file.matrix);
    (center_crop(image, file.matrix, size), size)
}

fn check_finite(image: &[f32], file: &VolumeFile, slice: usize, what: &str, why: &str) -> Result<()> {
    let Some(at) = image.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let columns = file.matrix[1];
    Err(Error::NotFinite(format!(
        "{} slice {slice}: {what} {} at row {}, column {}: {why}",
        file.path.display(),
        image[at],
        at / columns,
        at % columns
    )))
}
