//! How a subject lies in the scanner, and the draws that make one subject differ from the next.

use super::shape::Point;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Maps scanner positions to positions in the textbook anatomy: a turn, a size for each axis and a shift.
#[derive(Clone, Debug)]
pub(super) struct Pose {
    rows: [Point; 3],
    shift: Point,
}

impl Pose {
    /// Turns of up to `degrees` about x, y and z, sizes up to `size` off 1, shifts up to `shift` mm.
    pub fn draw(rng: &mut ChaCha8Rng, degrees: [f32; 3], size: f32, shift: f32) -> Self {
        let [a, b, c] = degrees.map(|d| around(rng, 0.0, d).to_radians());
        let overall = around(rng, 1.0, size);
        let sizes = [(); 3].map(|()| 1.0 / (overall * around(rng, 1.0, 0.5 * size)));
        let (sa, ca, sb, cb, sc, cc) = (a.sin(), a.cos(), b.sin(), b.cos(), c.sin(), c.cos());
        let rows = [
            Point::new(cb * cc, sa * sb * cc - ca * sc, ca * sb * cc + sa * sc) * sizes[0],
            Point::new(cb * sc, sa * sb * sc + ca * cc, ca * sb * sc - sa * cc) * sizes[1],
            Point::new(-sb, sa * cb, ca * cb) * sizes[2],
        ];
        let shift = Point::new(around(rng, 0.0, shift), around(rng, 0.0, shift), around(rng, 0.0, shift));
        Self { rows, shift }
    }

    pub fn apply(&self, p: Point) -> Point {
        let p = p - self.shift;
        Point::new(self.rows[0].dot(p), self.rows[1].dot(p), self.rows[2].dot(p))
    }
}

/// A draw, uniform within `spread` of `middle`.
pub(super) fn around(rng: &mut ChaCha8Rng, middle: f32, spread: f32) -> f32 {
    middle + spread * (rng.random::<f32>() * 2.0 - 1.0)
}
