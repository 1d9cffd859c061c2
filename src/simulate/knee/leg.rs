//! Round the joint: skin, fat under it, muscles with their grain and septa, vessels and nerve.

use super::Knee;
use crate::simulate::shape::{Brush, Point, curve, ellipsoid, meet, ramp, tube};

impl Knee {
    /// Paints skin and fat. Gives the depth below the fascia, or nothing where the point is in the air.
    pub(super) fn paint_skin_and_fat(&self, brush: &mut Brush, p: Point) -> Option<f32> {
        let t = &self.tissues;
        let middle =
            curve(&[[-110.0, 9.0], [-50.0, 6.0], [0.0, 1.0], [30.0, -2.0], [70.0, 1.0], [150.0, 4.0]], p.y);
        let front = curve(
            &[[-110.0, 47.0], [-50.0, 45.0], [-10.0, 51.5], [30.0, 58.5], [65.0, 58.0], [150.0, 70.0]],
            p.y,
        );
        let back = curve(
            &[[-110.0, 66.0], [-50.0, 63.0], [0.0, 59.0], [25.0, 59.0], [80.0, 65.0], [150.0, 72.0]],
            p.y,
        );
        let wide = curve(&[[-110.0, 58.0], [-50.0, 55.0], [0.0, 53.0], [30.0, 57.0], [150.0, 76.0]], p.y);
        let deep = if p.x < middle { front } else { back };
        let flat = Point::new(p.x - middle, 0.0, p.z);
        // A section with blunt corners, rounder than a box and fuller than an ellipse.
        let (u, v) = ((flat.x / deep).abs(), (flat.z / wide).abs());
        let round = ellipsoid(flat, [0.0; 3], [deep, 1e3, wide]);
        let full = ((u.powi(3) + v.powi(3)).cbrt() - 1.0) * deep.min(wide);
        let depth = -0.5 * (round + full);
        if depth < -2.0 {
            return None;
        }
        let patella = (-((p.y - 25.0) / 42.0).powi(2)).exp() * ramp(5.0, -30.0, p.x);
        let fat = 1.6
            + self.adipose * (6.0 + 2.0 * self.warp.other(5).at(p, 45.0) + 2.5 * v) * (1.0 - 0.72 * patella);
        brush.paint(-depth, t.skin);
        // Lobules of fat between thin septa, some of them veins.
        if depth < fat + 2.0 {
            let lobules = self.texture.other(10);
            brush.texture(1.6 - depth, || {
                t.fat * (1.0 - 0.22 * ramp(0.6, 0.1, lobules.sheets(p.times(1.0, 0.4, 0.6), 10.0)))
            });
        }
        brush.paint((depth - fat).abs() - 0.4, 0.3);
        Some(depth - fat)
    }

    pub(super) fn paint_muscles(&self, brush: &mut Brush, p: Point, inside: f32) {
        if brush.cover(-inside) <= 0.0 {
            return;
        }
        let t = &self.tissues;
        let b = self.brawn;
        // Between muscles and round the joint there is fat, with wisps of fascia.
        let muscles: [&[[f32; 4]]; 12] = [
            // Thigh, front: intermedius, medialis, lateralis.
            &[[-27.0, 58.0, 0.0, 3.0], [-29.0, 85.0, 0.0, 10.0], [-32.0, 200.0, 0.0, 17.0]],
            &[
                [-34.0, 34.0, 33.0, 5.0],
                [-28.0, 58.0, 32.0, 17.0],
                [-24.0, 85.0, 30.0, 26.0],
                [-24.0, 200.0, 28.0, 32.0],
            ],
            &[
                [-36.0, 48.0, -28.0, 4.0],
                [-29.0, 74.0, -31.0, 16.0],
                [-24.0, 95.0, -30.0, 25.0],
                [-24.0, 200.0, -28.0, 32.0],
            ],
            // Thigh, back: semimembranosus, semitendinosus, sartorius, biceps.
            &[
                [34.0, -8.0, 33.0, 3.0],
                [42.0, 22.0, 27.0, 10.0],
                [43.0, 70.0, 20.0, 19.0],
                [44.0, 200.0, 16.0, 25.0],
            ],
            &[
                [44.0, -10.0, 38.0, 2.0],
                [55.0, 30.0, 25.0, 3.5],
                [60.0, 90.0, 10.0, 10.0],
                [60.0, 200.0, 8.0, 15.0],
            ],
            &[
                [4.0, -40.0, 38.0, 2.5],
                [30.0, 0.0, 44.0, 6.0],
                [34.0, 40.0, 44.0, 9.0],
                [20.0, 200.0, 46.0, 14.0],
            ],
            &[
                [24.0, -20.0, -37.0, 3.5],
                [38.0, 18.0, -36.0, 10.0],
                [44.0, 70.0, -27.0, 18.0],
                [44.0, 200.0, -24.0, 25.0],
            ],
            // Calf: both heads of gastrocnemius, then soleus, popliteus and the front of the shin.
            &[
                [32.0, 34.0, 20.0, 5.0],
                [45.0, 8.0, 20.0, 11.0],
                [46.0, -40.0, 24.0, 19.0],
                [44.0, -200.0, 23.0, 26.0],
            ],
            &[
                [32.0, 34.0, -20.0, 5.0],
                [45.0, 8.0, -21.0, 10.0],
                [48.0, -40.0, -21.0, 16.0],
                [46.0, -200.0, -20.0, 22.0],
            ],
            &[[20.0, -34.0, -20.0, 7.0], [24.0, -70.0, -6.0, 15.0], [26.0, -200.0, 0.0, 21.0]],
            &[[29.0, -10.0, -22.0, 3.0], [26.0, -26.0, -6.0, 9.0], [16.0, -60.0, 14.0, 11.0]],
            &[[-9.0, -26.0, -29.0, 6.0], [-12.0, -60.0, -25.0, 15.0], [-10.0, -200.0, -23.0, 19.0]],
        ];
        let uneven = 2.0 * self.warp.other(10).at(p, 26.0) - 2.4 * (b - 0.6);
        // The first seven end above the shin, the others below the thigh.
        let present = if p.y > 55.0 {
            0..7
        } else if p.y < -58.0 {
            7..12
        } else {
            0..12
        };
        let mut distances = [f32::INFINITY; 12];
        for index in present {
            distances[index] = meet(tube(p, muscles[index]) + uneven, 0.6 - inside, 3.0);
        }
        // Only what no later muscle hides is worth painting.
        let hidden = distances.iter().rposition(|&d| brush.cover(d + 0.7) >= 1.0);
        if hidden.is_none() {
            let wisps = self.texture.other(11);
            brush.texture(-inside, || {
                let cloud = self.texture.other(14).at(p, 12.0);
                let wisps = wisps.sheets(p.times(1.0, 0.3, 0.6), 9.0);
                t.fat * (0.95 + 0.05 * cloud - 0.16 * ramp(0.8, 0.1, wisps) * ramp(-0.3, 0.5, cloud))
            });
        }
        for (index, &d) in distances.iter().enumerate().skip(hidden.unwrap_or(0)) {
            if brush.cover(d) <= 0.0 {
                continue;
            }
            let index = index as u32;
            // Grain along the fibres, fat septa between bundles.
            let grain = self.texture.other(12).at(p.times(1.0, 0.12, 1.0), 2.2);
            let slanted = Point::new(p.x + 0.15 * p.y, 0.14 * p.y, p.z);
            let septa = self.texture.other(40 + index).sheets(slanted, 8.5);
            let cloud = self.texture.other(13).at(p, 18.0);
            let value = t.muscle * (1.0 + 0.10 * grain + 0.08 * cloud) + 0.28 * ramp(0.65, 0.0, septa);
            brush.paint(d, t.fat * 0.62);
            brush.paint(d + 0.7, value);
        }
    }

    /// Popliteal artery (a flow void), vein and tibial nerve behind the joint, one behind the other.
    pub(super) fn paint_vessels(&self, brush: &mut Brush, p: Point) {
        if p.z.abs() > 18.0 || p.x < 10.0 {
            return;
        }
        let t = &self.tissues;
        let artery = tube(
            p,
            &[
                [22.0, 200.0, 6.0, 3.2],
                [37.0, 40.0, 0.0, 3.0],
                [39.0, 5.0, -2.0, 2.8],
                [34.0, -60.0, -3.0, 2.4],
            ],
        );
        let vein = tube(
            p,
            &[
                [28.0, 200.0, 6.0, 3.4],
                [44.0, 40.0, 0.0, 3.6],
                [45.5, 5.0, -1.0, 3.4],
                [39.0, -60.0, -2.0, 2.6],
            ],
        );
        let nerve = tube(
            p,
            &[
                [44.0, 200.0, 0.0, 2.6],
                [51.5, 40.0, -1.0, 2.4],
                [52.0, 0.0, 0.0, 2.2],
                [45.0, -60.0, 0.0, 2.0],
            ],
        );
        brush.paint(nerve, 0.48);
        brush.paint(vein, 0.3);
        brush.paint(vein + 0.9, t.blood);
        brush.paint(artery, 0.32);
        brush.paint(artery + 0.9, 0.08);
        // A branch to the back of the joint.
        let branch = tube(p, &[[38.0, 14.0, -1.0, 1.0], [26.0, 20.0, 0.0, 0.8]]);
        brush.paint(branch, 0.15);
    }
}
