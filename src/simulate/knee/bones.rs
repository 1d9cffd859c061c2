//! Femur, tibia, fibula and patella: outlines, dark cortex, and bright marrow with its trabeculae.

use super::Knee;
use crate::simulate::shape::{Brush, Point, cut, ellipsoid, join, meet, mix, ramp, tube};

/// Signed distances to the outer face of each bone.
pub(super) struct Bones {
    pub femur: f32,
    /// The condyles and the trochlea alone, which cartilage covers, before the notch is cut.
    pub condyles: f32,
    /// The space between the condyles.
    pub notch: f32,
    pub tibia: f32,
    /// Height above the tibial plateau.
    pub above_plateau: f32,
    pub patella: f32,
    pub fibula: f32,
}

impl Bones {
    pub(super) fn nearest(&self) -> f32 {
        self.femur.min(self.tibia).min(self.patella).min(self.fibula)
    }
}

impl Knee {
    pub(super) fn bones(&self, p: Point) -> Bones {
        let q = Point::new(p.x, p.y, p.z.abs());
        // Each condyle rolls: small and round behind, larger in front; the medial one reaches lower.
        let medial = ramp(-8.0, 8.0, p.z);
        let rear = ellipsoid(q, [13.0, 21.0 - 0.8 * medial, 23.0], [19.5, 20.0, 15.0]);
        let front = ellipsoid(q, [-7.0, 24.5, 20.0], [25.0, 23.5, 18.5]);
        let trochlea = ellipsoid(q, [-10.0, 33.0, 0.0], [18.0, 19.0, 22.0]);
        let condyles = join(join(rear, front, 5.0), trochlea, 6.0);
        let notch = ellipsoid(q, [15.0, 9.0, 0.0], [25.0, 24.0, 9.5]);
        let femur = cut(join(condyles, shaft(p, &FEMUR, 34.0, 200.0), 9.0), notch, 4.0);

        let top = -5.5 - 0.09 * p.x - 0.6 * medial;
        let spines = tube(q, &[[5.0, -10.0, 5.5, 4.0], [4.0, -1.5, 4.5, 1.6]]);
        let tuberosity =
            tube(p, &[[-18.0, -22.0, 0.0, 6.0], [-21.0, -38.0, 0.0, 7.0], [-13.0, -62.0, 0.0, 6.0]]);
        let plateau = meet(shaft(p, &TIBIA, -220.0, 60.0), (p.y - top) * 0.99, 5.0);
        let tibia = join(join(plateau, spines, 4.0), tuberosity, 9.0);

        let kneecap = ellipsoid(p, [-44.5, 30.0, 0.0], [11.5, 22.5, 23.0]);
        // Its back is a blunt wedge with the ridge in the middle.
        let facets = p.x + 35.5 + 0.32 * q.z;
        let patella = meet(kneecap, facets, 5.0);
        let fibula =
            tube(p, &[[21.0, -24.0, -36.0, 8.0], [20.0, -36.0, -36.0, 6.5], [18.0, -200.0, -32.0, 6.0]]);
        Bones { femur, condyles, notch, tibia, above_plateau: p.y - top, patella, fibula }
    }

    pub(super) fn paint_bones(&self, brush: &mut Brush, p: Point, bones: &Bones) {
        // Cortex is a shell at the joint and thick along the shafts.
        let thigh =
            mix(1.1, 4.6, ramp(42.0, 100.0, p.y)) + 1.2 * ramp(25.0, 45.0, p.y) * ramp(0.0, 20.0, p.x);
        let shin = mix(1.1, 4.8, ramp(-22.0, -85.0, p.y));
        // Growth plates leave a thin dark scar.
        let femoral_scar = p.y - 33.0 - 0.004 * p.x * p.x + 0.004 * p.z * p.z;
        let tibial_scar = p.y + 21.0 + 0.004 * p.z * p.z - 0.1 * p.x;
        self.paint_bone(brush, p, bones.femur, thigh, femoral_scar, ramp(40.0, 75.0, p.y));
        self.paint_bone(brush, p, bones.tibia, shin, tibial_scar, ramp(-28.0, -60.0, p.y));
        self.paint_bone(brush, p, bones.fibula, mix(1.0, 2.6, ramp(-30.0, -60.0, p.y)), 1e3, 0.0);
        self.paint_bone(brush, p, bones.patella, 1.1, 1e3, 0.0);
    }

    /// `shaft` is 1 where the bone is a tube with soft marrow and 0 where trabeculae fill it.
    fn paint_bone(&self, brush: &mut Brush, p: Point, bone: f32, cortex: f32, scar: f32, shaft: f32) {
        let t = &self.tissues;
        if brush.cover(bone) <= 0.0 {
            return;
        }
        brush.paint(bone, t.cortex);
        if brush.cover(bone + cortex) <= 0.0 {
            return;
        }
        // Trabeculae run along the load: thin dark struts, stretched along the leg.
        let struts = self.texture.other(1).sheets(p.times(1.0, 0.45, 1.0), 2.4);
        let finer = self.texture.other(2).at(p.times(1.0, 0.6, 1.0), 1.5);
        let clouds = self.texture.other(3).at(p, 11.0);
        let dense = (1.0 - 0.75 * shaft) * (0.75 + 0.5 * ramp(9.0, 0.0, -bone - cortex));
        let struts = 1.0 - dense * 0.3 * ramp(0.55, 0.05, struts) - 0.05 * dense * finer;
        let red = self.red_marrow * ramp(20.0, 60.0, p.y.abs() + 14.0 * clouds) * (0.6 + 0.5 * clouds);
        let marrow = t.marrow * struts * (1.0 + 0.04 * clouds) * (1.0 - 0.3 * red.max(0.0));
        brush.paint(bone + cortex, marrow);
        let line = (scar + 1.6 * self.texture.other(4).at(p, 9.0)).abs();
        brush.blend(0.6 * ramp(0.9, 0.2, line) * brush.cover(bone + cortex + 1.5), t.cortex);
    }
}

/// Sections of a long bone: height, middle along x, half-axes along x and z.
type Sections = [[f32; 4]];

const FEMUR: [[f32; 4]; 5] = [
    [30.0, -2.0, 24.0, 35.0],
    [42.0, -3.0, 21.5, 31.0],
    [60.0, -4.0, 17.0, 21.0],
    [90.0, -5.0, 14.5, 15.5],
    [160.0, -9.0, 14.0, 14.5],
];

const TIBIA: [[f32; 4]; 6] = [
    [-160.0, -3.0, 12.5, 13.0],
    [-80.0, -3.0, 13.5, 14.5],
    [-50.0, -1.0, 16.5, 20.0],
    [-28.0, 2.0, 21.0, 31.0],
    [-14.0, 4.0, 25.0, 37.5],
    [-2.0, 4.0, 25.5, 38.0],
];

/// Signed distance to a bone with elliptical sections, between two heights.
fn shaft(p: Point, sections: &Sections, lowest: f32, highest: f32) -> f32 {
    let after = sections.iter().position(|s| s[0] > p.y).unwrap_or(sections.len() - 1).max(1);
    let (a, b) = (sections[after - 1], sections[after]);
    let t = ramp(a[0], b[0], p.y);
    let [x, rx, rz] = [1, 2, 3].map(|i| mix(a[i], b[i], t));
    let flat = Point::new(p.x - x, 0.0, p.z);
    let across = ellipsoid(flat, [0.0; 3], [rx, 1e3, rz]);
    across.max(lowest - p.y).max(p.y - highest)
}
