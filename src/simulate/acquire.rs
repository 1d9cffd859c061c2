//! From a subject to the file's arrays: coil images, k-space, noise, padding, and the reference image.

use super::coils::CoilArray;
use super::config::{Anatomy, SimulateConfig};
use super::fourier::Fourier;
use super::subject::{Grid, Subject};
use crate::data::volume::NewVolume;
use crate::error::Result;
use num_complex::Complex32;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Simulates one volume. The same configuration and subject give the same bits, whatever the number of
/// threads.
pub fn simulate_volume(config: &SimulateConfig, subject: u64) -> Result<NewVolume> {
    config.validate()?;
    let [rows, columns] = config.matrix;
    let [height, width] = config.recon;
    let mut rng = random(config, subject, 0);
    let body = Subject::draw(&mut rng, config.anatomy);
    let array = CoilArray::draw(&mut rng, body.former(), config.coils);
    let grid = Grid::new(config);
    let fourier = Fourier::new(config.matrix);

    let mut kspace = vec![Complex32::default(); config.slices * config.coils * rows * columns];
    let mut rss = vec![0.0; config.slices * height * width];
    kspace
        .par_chunks_exact_mut(config.coils * rows * columns)
        .zip(rss.par_chunks_exact_mut(height * width))
        .enumerate()
        .for_each(|(slice, (kspace, rss))| {
            let image = body.image(&grid, slice);
            let powers: Vec<Vec<f32>> = kspace
                .par_chunks_exact_mut(rows * columns)
                .enumerate()
                .map(|(coil, kspace)| {
                    let at = |r, c| grid.at(slice, r, c);
                    let sensitivity = array.sensitivity(coil, config.matrix, grid.pixel, at);
                    for ((k, image), s) in kspace.iter_mut().zip(&image).zip(&sensitivity) {
                        *k = image * s * body.scale;
                    }
                    fourier.forward(kspace);
                    let stream = 1 + (slice * config.coils + coil) as u64;
                    measure(kspace, config, body.scale, &mut random(config, subject, stream));
                    cropped_power(kspace, config, &fourier)
                })
                .collect();
            // Coils are summed in their order, so that no bit depends on which thread was first.
            for (i, value) in rss.iter_mut().enumerate() {
                *value = powers.iter().map(|power| power[i]).sum::<f32>().sqrt();
            }
        });

    let acquired = config.acquired_columns();
    Ok(NewVolume {
        slices: config.slices,
        coils: config.coils,
        matrix: config.matrix,
        recon: config.recon,
        kspace,
        reconstruction_rss: rss,
        encoding_limit_max: acquired.len() - 1,
        encoding_limit_center: acquired.len() / 2,
        acquisition: config.anatomy.acquisition().to_string(),
        patient_id: format!("simulated-{}-{subject:07}", config.anatomy),
    })
}

/// Stream 0 draws the subject, the others the noise of one coil and slice each.
fn random(config: &SimulateConfig, subject: u64, stream: u64) -> ChaCha8Rng {
    let anatomy: u64 = match config.anatomy {
        Anatomy::Brain => 1,
        Anatomy::Knee => 2,
    };
    let mut seed = [0; 32];
    for (bytes, number) in seed.chunks_exact_mut(8).zip([config.seed, anatomy, subject]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_stream(stream);
    rng
}

/// Adds receiver noise to the measured columns of one coil's k-space and empties the others.
fn measure(kspace: &mut [Complex32], config: &SimulateConfig, scale: f32, rng: &mut ChaCha8Rng) {
    let acquired = config.acquired_columns();
    let deviation = config.noise as f32 * scale;
    let mut draw = || -> f32 { StandardNormal.sample(rng) };
    for line in kspace.chunks_exact_mut(config.matrix[1]) {
        line[..acquired.start].fill(Complex32::default());
        line[acquired.end..].fill(Complex32::default());
        for value in &mut line[acquired.clone()] {
            *value += Complex32::new(draw(), draw()) * deviation;
        }
    }
}

/// |image|² of one coil in the centre crop: `[height, width]`.
fn cropped_power(kspace: &[Complex32], config: &SimulateConfig, fourier: &Fourier) -> Vec<f32> {
    let ([rows, columns], [height, width]) = (config.matrix, config.recon);
    let mut image = kspace.to_vec();
    fourier.inverse(&mut image);
    let (top, left) = ((rows - height) / 2, (columns - width) / 2);
    let lines = image.chunks_exact(columns).skip(top).take(height);
    lines.flat_map(|line| line[left..left + width].iter().map(|v| v.norm_sqr())).collect()
}
