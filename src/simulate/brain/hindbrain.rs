//! Brainstem, cerebellum with its folia, the fourth ventricle, and the arteries at the base.

use super::Brain;
use super::cerebrum::posterior_fossa;
use crate::simulate::shape::{Brush, Point, cut, ellipsoid, join, meet, mix, ramp, tube};

impl Brain {
    pub(super) fn paint_hindbrain(&self, brush: &mut Brush, p: Point, inside: f32) {
        if p.z > 4.0 {
            return;
        }
        let q = Point::new(p.x.abs(), p.y, p.z);
        self.paint_cerebellum(brush, p, q, inside);
        self.paint_brainstem(brush, p, q);
        let t = &self.tissues;
        let fourth = tube(q, &[[0.0, -28.0, -20.0, 1.6], [0.0, -32.0, -34.0, 4.0], [0.0, -33.0, -50.0, 2.0]])
            .min(ellipsoid(q, [0.0, -33.0, -34.0], [8.5, 4.0, 7.0]));
        brush.paint(fourth, t.fluid);
    }

    /// Folia are sheets round the roof of the fourth ventricle: thin fluid, cortex, and white matter that
    /// branches into them.
    fn paint_cerebellum(&self, brush: &mut Brush, p: Point, q: Point, inside: f32) {
        let t = &self.tissues;
        let lobes = ellipsoid(q, [0.0, -47.0, -36.0], [57.0, 37.0, 42.0]);
        let notch = tube(p, &[[0.0, -88.0, -20.0, 7.0], [0.0, -84.0, -60.0, 9.0]]);
        let hull = meet(lobes, 2.2 * self.atrophy - inside, 3.0).max(posterior_fossa(q) + 1.6 * self.atrophy);
        let hull = cut(hull, notch, 6.0);
        let fossa = meet(posterior_fossa(q).min(hull - 2.0), -inside, 1.0).max(hull - 5.0 * self.atrophy);
        brush.paint(fossa, t.fluid);
        if hull > 1.5 {
            return;
        }
        let depth = -hull;
        let hub = Point::new(0.72 * p.x, p.y + 18.0, 0.9 * (p.z + 30.0));
        let rings = hub.length() + 3.0 * self.folds.other(20).at(p, 13.0);
        let spacing = 4.4;
        let folium = ((rings / spacing).fract() - 0.5).abs() * spacing;
        // `folium` is the distance from a fluid sheet, up to half the spacing.
        let open = (0.42 + 0.5 * self.folds.other(22).at(p, 8.0)) * self.atrophy * ramp(15.0, 3.0, depth);
        let pia = depth.min(folium - open);
        brush.paint(-pia, t.grey * (0.97 + 0.06 * self.texture.other(20).at(p, 3.0)));
        let branch = (1.85 - folium).max(5.0 - depth);
        let core = 18.0 - depth + 2.0 * self.folds.other(21).at(p, 9.0);
        brush.paint(join(branch, core, 2.0), mix(t.white, t.grey, 0.12));
        let dentate = (ellipsoid(q, [15.0, -44.0, -36.0], [5.0, 7.0, 5.0])).abs() - 0.7;
        brush.paint(dentate, t.pallidum);
    }

    fn paint_brainstem(&self, brush: &mut Brush, p: Point, q: Point) {
        let t = &self.tissues;
        let tract = 1.0 + 0.09 * self.texture.other(21).at(p.times(0.35, 1.0, 0.5), 3.0);
        let midbrain = ellipsoid(q, [0.0, -17.0, -10.0], [18.0, 13.5, 13.0]);
        let peduncles = tube(q, &[[16.0, -7.0, -4.0, 6.0], [9.0, -9.0, -20.0, 6.0]]);
        let notch = tube(q, &[[0.0, 2.0, -2.0, 6.0], [0.0, -1.0, -20.0, 5.0]]);
        let upper = cut(join(midbrain, peduncles, 4.0), notch, 2.0);
        let pons = ellipsoid(q, [0.0, -14.0, -33.0], [18.0, 14.0, 14.0]);
        let medulla = tube(q, &[[0.0, -17.0, -40.0, 9.0], [0.0, -24.0, -75.0, 7.0]]);
        let stalk = tube(q, &[[12.0, -18.0, -35.0, 6.5], [24.0, -36.0, -37.0, 6.0]]);
        let stem = join(join(upper, pons, 4.0), medulla, 4.0);
        brush.paint(stalk, t.white * 1.02);
        brush.paint(stem, mix(t.white, t.grey, 0.4) * tract);
        brush.paint(ellipsoid(q, [5.0, -15.0, -11.0], [3.2, 3.2, 4.0]), t.pallidum);
        let nigra = tube(q, &[[5.0, -7.0, -13.0, 1.3], [13.0, -11.0, -12.0, 1.3]]);
        brush.paint(nigra, t.pallidum);
        brush.paint(tube(p, &[[0.0, -25.0, -2.0, 1.2], [0.0, -27.5, -20.0, 1.3]]), t.fluid);
    }

    /// Flow voids: basilar, internal carotid, middle and anterior cerebral arteries.
    pub(super) fn paint_arteries(&self, brush: &mut Brush, p: Point) {
        if p.z > 6.0 {
            return;
        }
        let q = Point::new(p.x.abs(), p.y, p.z);
        let basilar = tube(p, &[[1.0, 1.5, -18.0, 1.5], [-0.5, 1.8, -34.0, 1.8], [0.5, -6.0, -60.0, 1.8]]);
        let carotid = tube(q, &[[11.0, 12.0, -40.0, 2.6], [9.5, 11.0, -16.0, 2.1]]);
        let middle = tube(q, &[[9.5, 11.0, -15.0, 1.7], [24.0, 18.0, -14.0, 1.5], [37.0, 22.0, -10.0, 1.2]]);
        let anterior = tube(q, &[[9.0, 12.0, -14.0, 1.3], [1.6, 18.0, -11.0, 1.2], [1.4, 34.0, 6.0, 1.1]]);
        brush.paint(basilar.min(carotid).min(middle).min(anterior), 0.05);
    }
}
