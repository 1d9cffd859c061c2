//! A proton-density knee in sagittal slices, from the lateral side through the notch to the medial side:
//! fat and marrow brightest, muscle and cartilage between, ligaments, menisci and cortical bone dark.
//!
//! Textbook frame, in millimetres from the middle of the joint line: x backwards (to the right of the image),
//! y up the thigh (up in the image), z from the lateral to the medial side. The leg fills the image from top
//! to bottom and goes on beyond.

mod bones;
mod joint;
mod leg;

use super::noise::Noise;
use super::pose::{Pose, around};
use super::shape::{Brush, Point};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Field of view in millimetres, down and across.
pub(super) const FIELD_OF_VIEW: [f32; 2] = [160.0, 160.0];
/// Most lateral and most medial slice, in millimetres.
pub(super) const SLICES: [f32; 2] = [-38.0, 38.0];

/// Signal of each tissue, where fat is near 0.9.
#[derive(Clone, Debug)]
struct Tissues {
    fat: f32,
    marrow: f32,
    cartilage: f32,
    fluid: f32,
    muscle: f32,
    tendon: f32,
    meniscus: f32,
    cortex: f32,
    skin: f32,
    blood: f32,
}

/// One person's knee.
pub(super) struct Knee {
    pose: Pose,
    tissues: Tissues,
    /// Bends every outline.
    warp: Noise,
    texture: Noise,
    /// Thickness of the fat under the skin, 1 in an average leg.
    adipose: f32,
    /// Size of the muscles, 1 in an average leg.
    brawn: f32,
    /// Fluid in the joint, 0 to 1.
    effusion: f32,
    /// Blood-forming marrow in the shafts, 0 to 1.
    red_marrow: f32,
    /// Thickness of cartilage in millimetres.
    cartilage: f32,
}

impl Knee {
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self {
            pose: Pose::draw(rng, [3.0, 5.0, 6.0], 0.06, 4.0),
            tissues: Tissues {
                fat: around(rng, 0.93, 0.05),
                marrow: around(rng, 0.86, 0.05),
                cartilage: around(rng, 0.58, 0.04),
                fluid: around(rng, 0.72, 0.06),
                muscle: around(rng, 0.36, 0.05),
                tendon: around(rng, 0.08, 0.02),
                meniscus: around(rng, 0.07, 0.02),
                cortex: 0.035,
                skin: around(rng, 0.45, 0.06),
                blood: around(rng, 0.5, 0.08),
            },
            adipose: around(rng, 1.0, 0.45),
            brawn: around(rng, 1.0, 0.12),
            effusion: rng.random::<f32>().powi(2),
            red_marrow: rng.random(),
            cartilage: around(rng, 2.5, 0.4),
            warp: Noise::new(rng.random()),
            texture: Noise::new(rng.random()),
        }
    }

    /// How far this knee is from the textbook near a scanner position; nothing in the air round it.
    pub fn bend(&self, position: Point) -> Option<Point> {
        let p = self.pose.apply(position);
        if p.x.abs() > 86.0 {
            return None;
        }
        let bend = |which| self.warp.other(which).at(p, 48.0);
        Some(Point::new(bend(1), bend(2), bend(3)) * 2.4)
    }

    /// Signal at a scanner position, for pixels whose half width is `soft` millimetres.
    pub fn signal(&self, position: Point, bend: Point, soft: f32) -> f32 {
        let p = self.pose.apply(position) + bend;

        let mut brush = Brush::new(soft);
        let Some(inside) = self.paint_skin_and_fat(&mut brush, p) else { return 0.0 };
        // The patella and its tendon lie close under the skin, at times above the fascia.
        if inside > -8.0 {
            let bones = self.bones(p);
            // Deep in a bone there is nothing under the marrow to be seen.
            if bones.nearest() > -2.0 * soft {
                self.paint_muscles(&mut brush, p, inside);
                self.paint_vessels(&mut brush, p);
                if p.x < -10.0 {
                    self.paint_extensor(&mut brush, p, &bones);
                }
                if (-40.0..70.0).contains(&p.y) {
                    self.paint_joint(&mut brush, p, &bones);
                }
            }
            self.paint_bones(&mut brush, p, &bones);
            self.paint_cruciates(&mut brush, p, &bones);
        }
        brush.signal
    }
}
