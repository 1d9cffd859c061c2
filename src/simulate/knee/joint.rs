//! Inside the joint: cartilage, menisci, fluid, fat pads, the cruciate ligaments and the extensor tendons.

use super::Knee;
use super::bones::Bones;
use crate::simulate::shape::{Brush, Point, bell, cut, ellipsoid, meet, mix, ramp, tube};

impl Knee {
    /// Quadriceps tendon, patellar tendon and the fat pads behind them.
    pub(super) fn paint_extensor(&self, brush: &mut Brush, p: Point, bones: &Bones) {
        let t = &self.tissues;
        let flat = Point::new(p.x, p.y, 0.0);
        // Hoffa's pad: fat with thin septa that run back from the patella.
        let hoffa =
            tube(flat, &[[-36.0, 8.0, 0.0, 13.0], [-30.0, -10.0, 0.0, 12.0], [-27.0, -22.0, 0.0, 6.0]]);
        let hoffa = meet(hoffa, p.z.abs() - 30.0, 8.0);
        let septa = self.texture.other(30);
        brush.texture(hoffa, || {
            t.fat * (1.0 - 0.22 * ramp(0.8, 0.1, septa.sheets(p.times(0.45, 1.0, 0.5), 7.0)))
        });
        let above = ellipsoid(p, [-37.0, 58.0, 0.0], [6.0, 10.0, 17.0]);
        brush.paint(above, t.fat * 0.97);

        // Tendons are flat and striped along their length.
        let stripes = || ramp(0.35, 0.0, self.texture.other(31).sheets(p.times(1.0, 0.08, 1.0), 2.2));
        let quadriceps = tube(
            flat,
            &[
                [-48.0, 44.0, 0.0, 4.0],
                [-45.0, 66.0, 0.0, 3.8],
                [-41.0, 100.0, 0.0, 3.2],
                [-38.0, 170.0, 0.0, 1.6],
            ],
        );
        let quadriceps = meet(quadriceps, p.z.abs() - mix(19.0, 11.0, ramp(50.0, 110.0, p.y)), 3.0);
        brush.texture(quadriceps, || t.tendon + 0.3 * stripes());
        let patellar = tube(
            flat,
            &[
                [-50.5, 30.0, 0.0, 1.6],
                [-49.0, 12.0, 0.0, 2.7],
                [-38.0, -22.0, 0.0, 2.6],
                [-29.0, -43.0, 0.0, 3.0],
            ],
        );
        let patellar = meet(patellar, p.z.abs() - 14.5, 3.0);
        brush.texture(patellar, || t.tendon + 0.1 * stripes());

        // Suprapatellar recess: a fold of the joint, filled when there is an effusion.
        let thick = 0.5 + 3.0 * self.effusion;
        let recess = tube(
            flat,
            &[[-33.0, 46.0, 0.0, thick], [-32.0, 58.0, 0.0, thick], [-31.0, 76.0, 0.0, 0.4 * thick]],
        );
        let recess = meet(recess, p.z.abs() - 22.0, 3.0);
        brush.paint(cut(recess, bones.femur, 0.5), t.fluid);
    }

    /// Cartilage, menisci and what lies between.
    pub(super) fn paint_joint(&self, brush: &mut Brush, p: Point, bones: &Bones) {
        let t = &self.tissues;
        // Fluid and synovium between the bones, within the capsule.
        let capsule = meet(bones.condyles - 6.5, -bones.tibia, 0.5).max(ellipsoid(
            p,
            [0.0, 0.0, 0.0],
            [34.0, 12.0, 41.0],
        ));
        brush.paint(capsule, mix(0.5, t.fluid, 0.4 + 0.4 * self.effusion));
        let synovium = || self.texture.other(32).sheets(p.times(0.6, 0.6, 1.0), 7.0);
        brush.texture(meet(bones.notch, -bones.tibia, 0.5), || {
            t.fat * (0.85 - 0.2 * ramp(1.0, 0.2, synovium()))
        });

        self.paint_menisci(brush, p, bones);

        let layered = |depth: f32| t.cartilage * (0.86 + 0.28 * ramp(0.0, self.cartilage, depth));
        // On the femur: everywhere that it rolls or carries the patella, thinning out at the edges.
        let reach = ramp(47.0, 36.0, p.y + 0.30 * p.x.max(-30.0) * ramp(-5.0, 10.0, p.x));
        let femoral = bones.condyles - self.cartilage * reach;
        let femoral = cut(femoral, bones.notch - 0.5, 1.0);
        if reach > 0.0 {
            brush.paint(femoral, layered(bones.condyles));
        }
        // On the tibia, under each condyle; not on the spines between.
        let patch = |z: f32| ellipsoid(Point::new(p.x, 0.0, p.z), [3.0, 0.0, z], [22.0, 1e3, 15.0]);
        let on_top = (bones.above_plateau - self.cartilage * 0.95).max(-bones.above_plateau - 2.0);
        let tibial = meet(on_top, patch(-21.0).min(patch(21.0)), 2.0);
        brush.paint(tibial, layered(bones.above_plateau));
        // On the back of the patella, the thickest of the body.
        let facets = p.x + 35.5 + 0.32 * p.z.abs();
        let retro = ellipsoid(p, [-40.0, 31.0, 0.0], [11.0, 17.0, 20.0]).max(facets - 1.35 * self.cartilage);
        brush.paint(retro.max(-facets - 3.0), layered(facets));
    }

    /// Rings with a wedge section between condyle and plateau: bow ties near the rim, triangles further in.
    fn paint_menisci(&self, brush: &mut Brush, p: Point, bones: &Bones) {
        let t = &self.tissues;
        let side = if p.z < 0.0 { -1.0 } else { 1.0 };
        let open = bell(side * p.z, 6.0, 4.0);
        let (x, z) = ((p.x - 3.5) / 1.18, side * p.z - 20.5);
        let from_middle = (x * x + z * z).sqrt();
        let rim = from_middle - 20.0;
        let hole = 10.5 - 1.5 * ramp(0.0, 14.0, p.x) - from_middle;
        let ring = rim.max(hole);
        let height = bones.above_plateau - 0.85 * self.cartilage;
        let wedge = (height - 1.0 - 0.62 * (from_middle - 10.0)).max(-height);
        let under_femur = 0.8 * self.cartilage - bones.condyles;
        let meniscus = meet(meet(ring, wedge, 1.0), under_femur, 0.6);
        let within = brush.cover(meniscus) * (1.0 - open);
        if within > 0.0 {
            brush.blend(within, t.meniscus + 0.05 * self.texture.other(33).at(p, 3.0).max(0.0));
        }
    }

    /// Anterior and posterior cruciate ligament, crossing in the notch.
    pub(super) fn paint_cruciates(&self, brush: &mut Brush, p: Point, bones: &Bones) {
        let t = &self.tissues;
        if p.z.abs() > 16.0 || bones.notch > 14.0 {
            return;
        }
        // The anterior one fans out in bundles with fat between; it climbs backwards to the lateral condyle.
        let anterior = tube(
            p,
            &[
                [-9.0, -5.0, 1.5, 4.6],
                [2.0, 8.0, -1.5, 3.4],
                [13.0, 21.0, -5.0, 3.8],
                [19.0, 28.0, -8.0, 4.2],
            ],
        );
        let along = Point::new(0.68 * p.x - 0.73 * p.y, 0.1 * (0.73 * p.x + 0.68 * p.y), p.z);
        let bundles = || ramp(0.45, 0.05, self.texture.other(34).sheets(along, 2.6));
        let anterior = cut(cut(anterior, bones.tibia, 1.0), bones.femur + 2.0, 1.0);
        brush.texture(anterior, || t.tendon + 0.08 + 0.3 * bundles());
        // The posterior one is a thick black bow from the back of the tibia to the medial condyle.
        let posterior = tube(
            p,
            &[
                [30.0, -19.0, 2.5, 3.4],
                [28.5, -6.0, 2.5, 4.2],
                [24.0, 6.0, 3.0, 4.4],
                [16.0, 15.5, 4.5, 4.4],
                [5.0, 19.5, 7.0, 4.2],
                [-2.0, 19.0, 8.5, 3.6],
            ],
        );
        brush.paint(cut(cut(posterior, bones.tibia, 1.0), bones.femur + 2.0, 1.0), t.tendon * 0.8);
    }
}
