//! What surrounds the brain: skin, scalp fat, temporal muscle, the three layers of the skull, and, below the
//! brain, skull base, air cells and orbits.

use super::Brain;
use crate::simulate::shape::{Brush, Point, bell, ellipsoid, join, meet, mix, ramp, tube};

impl Brain {
    /// Paints everything out of which the brain is then carved. Gives the depth below the inner face of the
    /// skull in millimetres, or nothing where the point is in the air round the head.
    pub(super) fn paint_head(&self, brush: &mut Brush, p: Point) -> Option<f32> {
        let t = &self.tissues;
        let depth = -head_surface(p);
        if depth < -2.0 {
            return None;
        }
        let side = ramp(40.0, 66.0, p.x.abs());
        let low = ramp(20.0, -35.0, p.z);
        // Deep in the brain it does not matter how thick scalp and skull are.
        let near = ramp(52.0, 36.0, depth);
        let vary = |which, size| if near > 0.0 { near * self.warp.other(which).at(p, size) } else { 0.0 };
        let uneven = vary(5, 38.0);
        let skin = 1.9;
        let fat = skin + self.scalp * (0.75 + 0.35 * uneven + 0.5 * low + 0.25 * ramp(-40.0, -90.0, p.y));
        let temporalis = 9.0 * side * low * bell(p.y, 34.0, 22.0);
        let outer = fat + temporalis;
        let skull = self.skull * (1.0 + 0.3 * vary(6, 30.0) + 0.25 * ramp(-50.0, -90.0, p.y));
        let inner = outer + skull;

        brush.paint(-depth, t.skin);
        let lobules = || self.texture.other(1).sheets(p, 6.0);
        if depth < outer + 2.0 {
            brush.texture(skin - depth, || t.fat * (1.0 - 0.25 * ramp(0.7, 0.0, lobules())));
        }
        if temporalis > 0.3 {
            let fibres = || self.texture.other(2).at(p.times(1.0, 0.4, 0.4), 2.5);
            brush.texture(fat - depth, || t.muscle * (1.0 + 0.3 * fibres()));
        }
        brush.paint(outer - depth, t.bone);
        // Marrow between the tables, thinning out where the squamous temporal bone is thin.
        let diploe = (0.5 * skull - 2.1) * (1.0 - 0.8 * side * low);
        brush.texture((depth - outer - 0.5 * skull).abs() - diploe, || {
            t.marrow * (1.0 + 0.35 * self.texture.other(3).at(p, 3.5))
        });
        self.paint_base(brush, p, depth - inner);
        Some(depth - inner)
    }

    /// Skull base: bone and marrow everywhere under the brain, then air cells.
    fn paint_base(&self, brush: &mut Brush, p: Point, inside: f32) {
        if inside < -2.0 || p.z > 0.0 {
            return;
        }
        let t = &self.tissues;
        let q = Point::new(p.x.abs(), p.y, p.z);
        let spongy = || self.texture.other(4).at(p, 7.0);
        brush.texture(-inside, || mix(t.bone, t.marrow, 0.45 + 0.8 * spongy()).max(t.bone));
        let ethmoid = ellipsoid(q, [0.0, 52.0, -36.0], [12.0, 25.0, 17.0]);
        let sphenoid = ellipsoid(q, [6.0, 24.0, -36.0], [9.0, 12.0, 10.0]);
        let mastoid = ellipsoid(q, [54.0, -30.0, -42.0], [11.0, 15.0, 15.0]);
        brush.texture(ethmoid.min(mastoid), || {
            let cells = self.texture.other(5).sheets(p.times(1.0, 0.6, 0.6), 9.0);
            t.air + 0.5 * ramp(1.1, 0.4, cells)
        });
        brush.paint(sphenoid - 0.8, 0.45);
        brush.paint(sphenoid, t.air);
        // Inner ear: two small bright whorls in the petrous bone.
        let cochlea = ellipsoid(q, [22.0, -12.0, -37.0], [3.0, 2.5, 3.0]);
        let canal = tube(q, &[[12.0, -16.0, -36.0, 2.6], [20.0, -18.0, -36.0, 2.2]]);
        brush.paint(cochlea.min(canal), 0.85 * t.fluid);
    }

    /// Eyes, their muscles and nerves, in the fat of the orbits.
    pub(super) fn paint_orbits(&self, brush: &mut Brush, p: Point) {
        if p.z > -10.0 || p.y < 15.0 {
            return;
        }
        let t = &self.tissues;
        let q = Point::new(p.x.abs(), p.y, p.z);
        let cone = tube(q, &[[31.0, 72.0, -33.0, 17.5], [24.0, 50.0, -31.0, 12.0], [12.0, 24.0, -28.0, 2.5]]);
        if cone > 8.0 {
            return;
        }
        let cone = meet(cone, head_surface(p) + 2.5, 2.0);
        let wisps = self.texture.other(6).sheets(p, 7.0);
        brush.paint(cone - 1.2, t.bone);
        brush.paint(cone, t.fat * (1.02 - 0.25 * ramp(0.6, 0.0, wisps)));
        let lateral =
            tube(q, &[[42.0, 64.0, -33.0, 1.6], [35.0, 48.0, -32.0, 2.4], [15.0, 28.0, -28.0, 1.4]]);
        let medial = tube(q, &[[20.0, 64.0, -33.0, 1.6], [16.5, 48.0, -32.0, 2.4], [11.0, 28.0, -28.0, 1.4]]);
        let above = tube(q, &[[31.0, 64.0, -20.5, 1.6], [24.0, 46.0, -21.5, 2.2], [13.0, 28.0, -27.0, 1.4]]);
        brush.paint(lateral.min(medial).min(above), 0.3);
        let nerve = [[31.0, 58.0, -33.0, 0.0], [24.0, 44.0, -31.0, 0.0], [11.0, 22.0, -27.0, 0.0]];
        let nerve = tube(q, &nerve);
        brush.paint(nerve - 2.9, 0.9 * t.fluid);
        brush.paint(nerve - 1.8, t.white);
        let globe = ellipsoid(q, [30.5, 66.5, -33.0], [12.0, 12.4, 12.0]);
        brush.paint(globe, 0.22);
        brush.paint(globe + 1.3, t.fluid * 1.02);
        let lens = ellipsoid(q, [30.5, 74.2, -33.0], [4.7, 2.2, 4.7]);
        brush.paint(lens - 0.5, 0.55);
        brush.paint(lens, 0.14);
        let lacrimal = ellipsoid(q, [44.0, 72.0, -26.0], [3.0, 6.0, 6.0]);
        brush.paint(lacrimal, 0.5);
    }
}

/// Signed distance to the skin: an egg, wider behind, with the face below.
fn head_surface(p: Point) -> f32 {
    let egg = 1.0 - 0.0011 * p.y - 0.10 * bell(p.y, 62.0, 25.0);
    let height = if p.z < 0.0 { 0.62 * p.z } else { p.z };
    let skull = ellipsoid(Point::new(p.x / egg, p.y, height), [0.0, -2.0, 0.0], [76.0, 95.0, 84.0]);
    if p.z > -12.0 {
        return skull;
    }
    let face = ellipsoid(p, [0.0, 30.0, -52.0], [64.0, 61.0, 40.0]);
    let skull = join(skull, face, 12.0);
    let nose = tube(p, &[[0.0, 86.0, -24.0, 5.0], [0.0, 95.0, -50.0, 10.0]]);
    join(skull, nose, 14.0)
}
