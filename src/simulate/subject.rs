//! One subject in the scanner: an anatomy, the phase of its signal, and where slices and pixels lie in it.

use super::brain::{self, Brain};
use super::coils::Former;
use super::config::{Anatomy, SimulateConfig};
use super::knee::{self, Knee};
use super::noise::Noise;
use super::pose::around;
use super::shape::{Point, bell};
use num_complex::Complex32;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

enum Body {
    Brain(Brain),
    Knee(Knee),
}

pub(super) struct Subject {
    body: Body,
    phase: Phase,
    /// Signal of bright tissue in the units of the file; fastMRI's numbers are this small.
    pub scale: f32,
}

/// Where the pixels of a volume are.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    size: [usize; 2],
    /// Millimetres a pixel, down and across.
    pub pixel: [f32; 2],
    /// The larger side of the field of view in millimetres.
    view: f32,
    lowest: f32,
    /// Millimetres between slices.
    spacing: f32,
}

impl Grid {
    pub fn new(config: &SimulateConfig) -> Self {
        let (view, [lowest, highest]) = match config.anatomy {
            Anatomy::Brain => (brain::FIELD_OF_VIEW, brain::SLICES),
            Anatomy::Knee => (knee::FIELD_OF_VIEW, knee::SLICES),
        };
        Self {
            size: config.matrix,
            pixel: [0, 1].map(|axis| view[axis] / config.recon[axis] as f32),
            view: view[0].max(view[1]),
            lowest,
            spacing: (highest - lowest) / config.slices as f32,
        }
    }

    /// Position of row `r` and column `c`, fractional ones too, of a slice; row 0 is at the top.
    pub fn at(&self, slice: usize, r: f32, c: f32) -> Point {
        let middle = self.size.map(|n| (n / 2) as f32);
        Point::new(
            (c - middle[1]) * self.pixel[1],
            (middle[0] - r) * self.pixel[0],
            self.lowest + (slice as f32 + 0.5) * self.spacing,
        )
    }
}

impl Subject {
    pub fn draw(rng: &mut ChaCha8Rng, anatomy: Anatomy) -> Self {
        let (body, scale) = match anatomy {
            Anatomy::Brain => (Body::Brain(Brain::draw(rng)), 6e-4),
            Anatomy::Knee => (Body::Knee(Knee::draw(rng)), 3e-4),
        };
        let scale = scale * around(rng, 0.0, 0.35).exp();
        Self { body, phase: Phase::draw(rng, anatomy), scale }
    }

    /// The coil array that this part of the body lies in.
    pub fn former(&self) -> Former {
        match self.body {
            Body::Brain(_) => {
                Former { half_axes: [136.0, 152.0], length: 200.0, middle: 12.0, field_along_y: false }
            }
            Body::Knee(_) => {
                Former { half_axes: [110.0, 106.0], length: 190.0, middle: 0.0, field_along_y: true }
            }
        }
    }

    /// The complex image of a slice before any coil sees it: `[rows, columns]`, bright tissue near 1.
    pub fn image(&self, grid: &Grid, slice: usize) -> Vec<Complex32> {
        let [rows, columns] = grid.size;
        let mut image = vec![Complex32::default(); rows * columns];
        image.par_chunks_exact_mut(columns).enumerate().for_each(|(r, line)| {
            for (c, value) in line.iter_mut().enumerate() {
                let signal = self.pixel(grid, slice, r as f32, c as f32);
                if signal > 0.0 {
                    *value = Complex32::from_polar(signal, self.phase.at(grid.at(slice, r as f32, c as f32)));
                }
            }
        });
        image
    }

    /// Mean signal of a pixel: four points, spread through the thickness of the slice too. Outside the field
    /// of view, where nobody looks at the picture, one point must do.
    fn pixel(&self, grid: &Grid, slice: usize, r: f32, c: f32) -> f32 {
        let middle = grid.at(slice, r, c);
        // Outlines bend over centimetres: once a pixel is enough.
        let bend = match &self.body {
            Body::Brain(brain) => brain.bend(middle),
            Body::Knee(knee) => knee.bend(middle),
        };
        let Some(bend) = bend else { return 0.0 };
        let signal = |p: Point, soft: f32| match &self.body {
            Body::Brain(brain) => brain.signal(p, bend, soft),
            Body::Knee(knee) => knee.signal(p, bend, soft),
        };
        let pixel = grid.pixel[0].max(grid.pixel[1]);
        if middle.x.abs().max(middle.y.abs()) > 0.55 * grid.view {
            return signal(middle, 0.2 + 0.6 * pixel).max(0.0);
        }
        let thickness = grid.spacing.min(3.0);
        let mut sum = 0.0;
        for (dr, dc, dz) in
            [(-0.25, -0.25, -0.375), (-0.25, 0.25, 0.125), (0.25, -0.25, 0.375), (0.25, 0.25, -0.125)]
        {
            let mut p = grid.at(slice, r + dr, c + dc);
            p.z += dz * thickness;
            sum += signal(p, 0.2 + 0.3 * pixel);
        }
        (0.25 * sum).max(0.0)
    }
}

/// The phase of the object in radians: timing and shim as a polynomial, the rest smooth noise, and a swirl
/// where air meets tissue.
struct Phase {
    constant: f32,
    linear: Point,
    quadratic: Point,
    noise: Noise,
    air: Option<Point>,
}

impl Phase {
    fn draw(rng: &mut ChaCha8Rng, anatomy: Anatomy) -> Self {
        let mut triple =
            |spread| Point::new(around(rng, 0.0, spread), around(rng, 0.0, spread), around(rng, 0.0, spread));
        let (linear, quadratic) = (triple(1.6), triple(0.9));
        Self {
            constant: around(rng, 0.0, std::f32::consts::PI),
            linear,
            quadratic,
            noise: Noise::new(rng.random()),
            air: (anatomy == Anatomy::Brain).then_some(Point::new(0.0, 52.0, -36.0)),
        }
    }

    fn at(&self, p: Point) -> f32 {
        let q = p * 0.01;
        let smooth = self.constant
            + self.linear.dot(q)
            + self.quadratic.dot(Point::new(q.x * q.x, q.y * q.y, q.x * q.y))
            + 0.9 * self.noise.at(p, 60.0);
        let swirl = self.air.map_or(0.0, |air| 1.8 * bell((p - air).length(), 0.0, 22.0));
        smooth + swirl
    }
}
