//! The cerebrum in its fluid: a folded ribbon of cortex over white matter, ventricles, deep nuclei.

use super::Brain;
use crate::simulate::shape::{Brush, Point, bell, cut, ellipsoid, join, meet, mix, ramp, tube};

impl Brain {
    pub(super) fn paint_cerebrum(&self, brush: &mut Brush, p: Point, inside: f32) {
        let t = &self.tissues;
        // Mirrored, so that one description serves both halves; the warp has made them unlike.
        let q = Point::new(p.x.abs(), p.y, p.z);
        let surface = self.cerebrum_surface(q, inside);
        let base = skull_base(q) - p.z;
        // Fluid fills the skull above its base and, below, gaps round the brain and the cisterns.
        let gap = surface - 1.8 * self.atrophy;
        let cistern =
            tube(p, &[[0.0, -12.0, -18.0, 21.0], [0.0, -14.0, -28.0, 19.0], [0.0, -20.0, -70.0, 15.0]]);
        brush.paint(meet(base.min(gap).min(cistern), -inside, 1.0), t.fluid);
        self.paint_falx(brush, p, inside);

        let fissure = self.fissure(p);
        let sylvian = self.sylvian(q);
        // Sulci hang from the convexity and from the fissure between the hemispheres.
        // Those of the fissure are shallower, and none cross the corpus callosum.
        let depth = (-surface).min(fissure);
        let medial = 1.7 * fissure + 1.5 * (-callosum(p)).max(0.0);
        let below_fold = (inside - 1.6 * self.atrophy).min(-2.5 * surface).min(medial);
        if depth > -2.0 {
            let pia = depth.min(sylvian).min(self.sulci(p, below_fold));
            if brush.cover(self.ribbon - pia) < 1.0 {
                brush.texture(-pia, || t.grey * (1.0 + 0.05 * self.texture.other(10).at(p, 4.0)));
            }
            brush.texture(self.ribbon - pia, || t.white * (1.0 + 0.05 * self.texture.other(11).at(p, 14.0)));
            if depth > 4.0 {
                self.paint_nuclei(brush, q);
                self.paint_lesions(brush, p, pia);
                self.paint_ventricles(brush, p, q);
            }
        }
    }

    /// Signed distance to the hull of the cerebrum: both hemispheres above a base plane, and temporal lobes.
    fn cerebrum_surface(&self, q: Point, inside: f32) -> f32 {
        let rim = 1.6 * self.atrophy;
        if q.z > 12.0 {
            return rim - inside;
        }
        // The base of the frontal lobes lies above the orbits; further back the tentorium carries the rest.
        let floor = mix(-11.0, skull_base(q) + 1.5, ramp(10.0, 26.0, q.y)) - 20.0 * ramp(-8.0, -30.0, q.y);
        let mut d = meet(rim - inside, floor - q.z, 5.0);
        let temporal = ellipsoid(q, [42.0, 0.0, -27.0], [21.0, 36.0, 23.0]);
        let uncus = ellipsoid(q, [24.0, -4.0, -18.0], [10.0, 19.0, 9.0]);
        d = join(d, meet(join(temporal, uncus, 4.0), rim - inside, 3.0), 4.0);
        // The Sylvian stem parts the temporal pole from the frontal lobe.
        let stem = tube(q, &[[14.0, 14.0, -15.0, 3.0], [36.0, 26.0, -14.0, 2.5], [58.0, 30.0, -12.0, 2.5]]);
        d = cut(d, stem, 2.0);
        d = cut(d, posterior_fossa(q), 3.0);
        let stem_room =
            tube(q, &[[0.0, -16.0, -20.0, 17.0], [0.0, -14.0, -34.0, 24.0], [0.0, -16.0, -80.0, 24.0]]);
        cut(d, stem_room, 3.0)
    }

    /// Distance from the fluid between the hemispheres; it ends at the corpus callosum.
    fn fissure(&self, p: Point) -> f32 {
        let sway = 1.4 * self.folds.other(3).at(p, 22.0) * ramp(90.0, 60.0, p.y.abs());
        let between = (p.x + sway).abs() - 1.1 * self.atrophy;
        meet(between, -callosum(p), 5.0)
    }

    /// Distance from the fluid over the insula.
    fn sylvian(&self, q: Point) -> f32 {
        let level = (q.z - 3.0).abs() - 13.0;
        if level > 12.0 {
            return 12.0;
        }
        let sway = |which: u32| 3.0 * self.folds.other(which).at(q, 15.0);
        let flat = Point::new(q.x + sway(11), q.y + sway(12), 0.0);
        let w = 1.0 + 0.5 * self.atrophy;
        let cleft = tube(
            flat,
            &[
                [72.0, 22.0, 0.0, w + 0.6],
                [48.0, 20.0, 0.0, w],
                [41.0, 19.0, 0.0, w],
                [37.5, 8.0, 0.0, w],
                [37.5, -4.0, 0.0, w],
                [41.0, -14.0, 0.0, w],
                [56.0, -24.0, 0.0, w],
                [70.0, -33.0, 0.0, w],
            ],
        );
        meet(cleft, level, 6.0)
    }

    /// Distance from the nearest sulcus. Sulci are sheets that stand on the surface, for the noise that they
    /// come from changes slowly along a radius; they narrow with depth and end where their width is gone.
    fn sulci(&self, p: Point, depth: f32) -> f32 {
        // No sulcus is as deep as this.
        if depth > 32.0 {
            return depth - 26.0;
        }
        let r = p.length().max(1.0);
        let reaching = 1.0 + 0.35 * self.folds.other(7).at(p, 24.0);
        let bend = |which: u32| self.folds.other(which).at(p, 17.0) * 3.2;
        let unrolled = p * (62.0 / r).powf(0.62) + Point::new(bend(4), bend(5), bend(6));
        // A step along the surface is longer in the unrolled space by this much.
        let stretch = (62.0 / r).powf(0.62);
        let mut nearest = f32::INFINITY;
        for (which, size, reach, width) in [(1, 27.0, 19.0, 1.5), (2, 16.0, 12.0, 1.0)] {
            let noise = self.folds.other(which);
            let reach = reach * reaching;
            let wide = width * self.atrophy + 1.3 * ramp(5.0, 0.0, depth);
            let wide = if depth < reach {
                wide * (1.0 - 0.75 * depth / reach)
            } else {
                0.25 * wide - (depth - reach)
            };
            nearest = nearest.min(noise.sheets(unrolled, size) / stretch - wide);
        }
        nearest
    }

    fn paint_falx(&self, brush: &mut Brush, p: Point, inside: f32) {
        let t = &self.tissues;
        let arch = ellipsoid(Point::new(0.0, p.y, p.z), [0.0, -4.0, 6.0], [1e3, 56.0, 36.0]);
        if p.z > -12.0 {
            brush.paint(meet(p.x.abs() - 0.55, -arch, 3.0), t.bone + 0.1);
        }
        // Superior sagittal sinus: a flow void, three-cornered, against the skull in the midline.
        if p.z > -5.0 && (p.y < 0.0 || p.z > 30.0) {
            let sinus = (p.x.abs() + 0.55 * inside.max(0.0) - 4.2).max(-inside - 1.0);
            brush.paint(sinus, 0.08);
        }
    }

    /// Head of the caudate, putamen, pallidum, thalamus.
    fn paint_nuclei(&self, brush: &mut Brush, q: Point) {
        if q.z > 34.0 || q.z < -14.0 || q.x > 40.0 {
            return;
        }
        let t = &self.tissues;
        let turned = |cx: f32, cy: f32, degrees: f32| {
            let (s, c) = degrees.to_radians().sin_cos();
            let (x, y) = (q.x - cx, q.y - cy);
            Point::new(c * x - s * y, s * x + c * y, q.z)
        };
        let thalamus = ellipsoid(turned(10.5, -10.0, -24.0), [0.0, 0.0, 8.0], [8.0, 15.5, 10.5]);
        let putamen = ellipsoid(turned(26.5, 5.0, -14.0), [0.0, 0.0, 4.0], [4.8, 16.5, 12.0]);
        let pallidum = ellipsoid(turned(20.0, 2.0, -18.0), [0.0, 0.0, 2.0], [4.0, 9.5, 8.0]);
        let body = [
            [13.5, 20.0, 10.0, 6.8],
            [14.5, 8.0, 20.0, 4.2],
            [18.0, -12.0, 25.0, 2.6],
            [24.0, -28.0, 20.0, 1.6],
        ];
        let caudate = tube(q, &body).min(ellipsoid(q, [12.5, 20.0, 8.0], [6.2, 9.0, 12.0]));
        // Claustrum: a thin grey sheet between putamen and insula.
        let claustrum =
            meet((ellipsoid(q, [26.5, 4.0, 4.0], [8.0, 20.0, 13.0])).abs() - 0.6, 29.0 - q.x, 1.0);
        if thalamus.min(putamen).min(pallidum).min(caudate).min(claustrum) > 2.0 {
            return;
        }
        let fibres = self.texture.other(12).at(q.times(0.5, 1.0, 1.0), 4.0);
        brush.paint(claustrum, mix(t.white, t.grey, 0.5));
        brush.paint(thalamus, mix(t.white, t.nuclei, 0.75 + 0.25 * fibres));
        brush.paint(caudate.min(putamen), t.nuclei + 0.012 * fibres);
        brush.paint(pallidum, t.pallidum + 0.015 * fibres);
    }

    /// Lateral ventricles with horns, septum and choroid plexus, and the third ventricle.
    fn paint_ventricles(&self, brush: &mut Brush, p: Point, q: Point) {
        let t = &self.tissues;
        let grow = 1.6 * (self.ventricles - 1.0) + 0.4;
        let body = tube(
            q,
            &[
                [14.0, 36.0, 8.0, 1.8],
                [8.0, 27.0, 13.0, 4.2],
                [5.5, 18.0, 19.0, 4.4],
                [6.0, 2.0, 24.0, 4.4],
                [10.0, -18.0, 25.0, 5.0],
                [18.0, -31.0, 17.0, 6.0],
                [25.0, -37.0, 6.0, 6.5],
            ],
        );
        // Frontal horns hang lower and slant outwards, hollowed from the side by the caudate.
        let horn = tube(q, &[[3.5, 13.0, 10.0, 2.6], [7.0, 24.0, 8.0, 3.4], [13.5, 34.0, 5.0, 1.6]]);
        let occipital = tube(q, &[[25.0, -37.0, 6.0, 5.0], [23.0, -52.0, 4.0, 3.2], [19.0, -68.0, 4.0, 0.6]]);
        let temporal =
            tube(q, &[[25.0, -37.0, 4.0, 5.0], [33.0, -26.0, -10.0, 2.6], [34.0, -4.0, -20.0, 1.6]]);
        let lateral = join(join(body, horn, 3.0), join(occipital, temporal, 3.0), 3.0) - grow;
        let third = ellipsoid(q, [0.0, -3.0, 2.0], [1.6 + 0.9 * self.ventricles, 15.0, 11.0]);
        let cavum = tube(q, &[[0.0, -30.0, -1.0, 3.6], [9.0, -30.0, -3.0, 2.5], [19.0, -24.0, -6.0, 1.8]]);
        brush.paint(lateral, t.fluid);
        brush.paint(cavum, t.fluid);
        let septum = meet(q.x - 0.8, -ellipsoid(q, [0.0, -40.0, 10.0], [9.0, 14.0, 12.0]), 1.0);
        brush.paint(meet(septum, lateral - 1.0, 0.5), t.white);
        brush.paint(third, t.fluid);
        let commissure = ellipsoid(q, [0.0, -6.0, 5.0], [3.0, 3.0, 2.5]);
        brush.paint(commissure, t.nuclei);
        if lateral < 0.0 {
            let rough = self.texture.other(13).at(p, 3.0);
            let plexus =
                tube(q, &[[11.0, -18.0, 24.0, 0.8], [18.5, -32.0, 15.0, 2.0], [26.0, -36.0, 4.0, 2.0]]);
            brush.paint(plexus + rough, 0.5);
        }
    }

    fn paint_lesions(&self, brush: &mut Brush, p: Point, pia: f32) {
        for &(centre, radius) in &self.lesions {
            let near = (p - centre).squared();
            if near < 64.0 && pia > self.ribbon {
                let d = near.sqrt() - radius + 0.8 * self.texture.other(14).at(p, 4.0);
                brush.blend(ramp(1.0, -1.4, d), 0.8 * self.tissues.fluid);
            }
        }
    }
}

/// Height of the skull base: the roof of the orbits in front, the sella, deep fossae further back.
pub(super) fn skull_base(q: Point) -> f32 {
    let orbits = -23.0 + 9.0 * bell(q.x, 31.0, 13.0);
    mix(-25.0, orbits, ramp(14.0, 34.0, q.y))
}

/// Signed distance to the midline section of the corpus callosum and what it arches over.
fn callosum(p: Point) -> f32 {
    ellipsoid(Point::new(0.0, p.y, p.z), [0.0, -6.0, 2.0], [1e3, 44.0, 27.0])
}

/// Signed distance to the room under the tentorium, behind the petrous bones.
pub(super) fn posterior_fossa(q: Point) -> f32 {
    let tent = -4.5 - 0.0045 * q.x * q.x - 0.18 * (q.y + 36.0).abs();
    0.9 * meet(q.z - tent, q.y + 16.0 + 0.25 * q.x, 5.0)
}
