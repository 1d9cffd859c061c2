//! A T2-weighted head in axial slices: fluid brightest, grey matter brighter than white, bone and air dark.
//!
//! Textbook frame, in millimetres from the middle of the head: x to the right of the image, y forward (up in
//! the image, the nose at the top), z towards the crown.

mod cerebrum;
mod head;
mod hindbrain;

use super::noise::Noise;
use super::pose::{Pose, around};
use super::shape::{Brush, Point};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Side of the field of view in millimetres, down and across.
pub(super) const FIELD_OF_VIEW: [f32; 2] = [224.0, 224.0];
/// Lowest and highest slice, in millimetres.
pub(super) const SLICES: [f32; 2] = [-42.0, 58.0];

/// Signal of each tissue, where cerebrospinal fluid is near 1.
#[derive(Clone, Debug)]
struct Tissues {
    fluid: f32,
    grey: f32,
    white: f32,
    /// Putamen and caudate; the pallidum, rich in iron, is darker.
    nuclei: f32,
    pallidum: f32,
    fat: f32,
    skin: f32,
    muscle: f32,
    marrow: f32,
    bone: f32,
    air: f32,
}

/// One person's head.
pub(super) struct Brain {
    pose: Pose,
    tissues: Tissues,
    /// Bends every outline, so that no two heads and no two halves are alike.
    warp: Noise,
    folds: Noise,
    texture: Noise,
    /// Width of sulci and of the fluid round the brain, 1 in middle age.
    atrophy: f32,
    /// Size of the lateral ventricles, 1 in middle age.
    ventricles: f32,
    scalp: f32,
    skull: f32,
    ribbon: f32,
    /// Bright spots in white matter: centre and radius.
    lesions: Vec<(Point, f32)>,
}

impl Brain {
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        let pose = Pose::draw(rng, [7.0, 2.5, 5.0], 0.035, 3.0);
        let tissues = Tissues {
            fluid: around(rng, 0.97, 0.05),
            grey: around(rng, 0.52, 0.03),
            white: around(rng, 0.35, 0.025),
            nuclei: around(rng, 0.44, 0.02),
            pallidum: around(rng, 0.29, 0.03),
            fat: around(rng, 0.66, 0.08),
            skin: around(rng, 0.42, 0.05),
            muscle: around(rng, 0.2, 0.03),
            marrow: around(rng, 0.3, 0.08),
            bone: 0.035,
            air: 0.01,
        };
        let age = rng.random::<f32>();
        let atrophy = around(rng, 0.7 + 0.7 * age, 0.12);
        let ventricles = around(rng, 0.8 + 0.5 * age, 0.15);
        let scalp = around(rng, 5.0, 1.6);
        let skull = around(rng, 7.5, 1.2);
        let ribbon = around(rng, 3.2, 0.25);
        let count = if rng.random::<f32>() < 0.2 + 0.4 * age { rng.random_range(2..12) } else { 0 };
        let lesions = (0..count)
            .map(|_| {
                let side = if rng.random::<bool>() { 1.0 } else { -1.0 };
                let x = side * around(rng, 25.0, 7.0);
                let centre = Point::new(x, around(rng, -5.0, 35.0), around(rng, 26.0, 12.0));
                (centre, around(rng, 2.4, 1.2))
            })
            .collect();
        let seed = Noise::new(rng.random());
        Self {
            pose,
            tissues,
            warp: seed.other(1),
            folds: seed.other(2),
            texture: seed.other(3),
            atrophy,
            ventricles,
            scalp,
            skull,
            ribbon,
            lesions,
        }
    }

    /// How far this head is from the textbook near a scanner position; nothing in the air round it.
    pub fn bend(&self, position: Point) -> Option<Point> {
        let p = self.pose.apply(position);
        if p.x.abs() > 92.0 || p.y.abs() > 116.0 {
            return None;
        }
        let bend = |which| self.warp.other(which).at(p, 55.0);
        Some(Point::new(bend(1), bend(2), bend(3)) * 3.5)
    }

    /// Signal at a scanner position, for pixels whose half width is `soft` millimetres.
    pub fn signal(&self, position: Point, bend: Point, soft: f32) -> f32 {
        let p = self.pose.apply(position) + bend;

        let mut brush = Brush::new(soft);
        let Some(inside) = self.paint_head(&mut brush, p) else { return 0.0 };
        if inside > -soft {
            self.paint_cerebrum(&mut brush, p, inside);
            self.paint_hindbrain(&mut brush, p, inside);
            self.paint_arteries(&mut brush, p);
        }
        self.paint_orbits(&mut brush, p);
        brush.signal
    }
}
