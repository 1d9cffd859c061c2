//! Points, signed distances (millimetres, negative inside) and the brush that paints tissues over one
//! another with partial volumes. Distances are approximate: exact at the surface, of the right size near it.

use std::ops::{Add, Mul, Sub};

/// A position in millimetres. In every anatomy x runs to the right of the image, y up and z across slices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub x: f32,
    pub y: f32,
    pub z: f32,
}

impl Point {
    pub const fn new(x: f32, y: f32, z: f32) -> Self {
        Self { x, y, z }
    }

    pub fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    pub fn squared(self) -> f32 {
        self.dot(self)
    }

    pub fn length(self) -> f32 {
        self.squared().sqrt()
    }

    /// Each coordinate times its own factor.
    pub fn times(self, x: f32, y: f32, z: f32) -> Self {
        Self::new(self.x * x, self.y * y, self.z * z)
    }
}

impl Add for Point {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self::new(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}

impl Sub for Point {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self::new(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}

impl Mul<f32> for Point {
    type Output = Self;
    fn mul(self, s: f32) -> Self {
        self.times(s, s, s)
    }
}

/// Signed distance to an ellipsoid with half-axes `r`.
pub(super) fn ellipsoid(p: Point, centre: [f32; 3], r: [f32; 3]) -> f32 {
    let q = p - Point::new(centre[0], centre[1], centre[2]);
    let near = q.times(1.0 / r[0], 1.0 / r[1], 1.0 / r[2]);
    let k = near.length();
    let slope = near.times(1.0 / r[0], 1.0 / r[1], 1.0 / r[2]).length();
    if slope < 1e-6 { -r[0].min(r[1]).min(r[2]) } else { k * (k - 1.0) / slope }
}

/// Signed distance to a tube through `nodes` of (x, y, z, radius), blended where segments meet.
pub(super) fn tube(p: Point, nodes: &[[f32; 4]]) -> f32 {
    let mut d = f32::INFINITY;
    for pair in nodes.windows(2) {
        let (a, b) =
            (Point::new(pair[0][0], pair[0][1], pair[0][2]), Point::new(pair[1][0], pair[1][1], pair[1][2]));
        let ab = b - a;
        let t = ((p - a).dot(ab) / ab.squared()).clamp(0.0, 1.0);
        d = d.min((p - a - ab * t).length() - mix(pair[0][3], pair[1][3], t));
    }
    d
}

/// Union with a fillet of about `k` millimetres.
pub(super) fn join(a: f32, b: f32, k: f32) -> f32 {
    let h = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - h * h * k * 0.25
}

/// Intersection with a rounded edge of about `k` millimetres.
pub(super) fn meet(a: f32, b: f32, k: f32) -> f32 {
    -join(-a, -b, k)
}

/// `a` without `b`, the edge rounded by about `k` millimetres.
pub(super) fn cut(a: f32, b: f32, k: f32) -> f32 {
    meet(a, -b, k)
}

pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 at `from`, 1 at `to`, smooth between; `from` may be the greater.
pub(super) fn ramp(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A bell of height 1 at `centre`, with the standard deviation `width`.
pub(super) fn bell(x: f32, centre: f32, width: f32) -> f32 {
    let t = (x - centre) / width;
    (-0.5 * t * t).exp()
}

/// Smooth curve through (position, value) knots in rising order, constant beyond the ends.
pub(super) fn curve(knots: &[[f32; 2]], x: f32) -> f32 {
    let next = knots.iter().position(|k| k[0] > x).unwrap_or(knots.len());
    match next {
        0 => knots[0][1],
        n if n == knots.len() => knots[n - 1][1],
        n => mix(knots[n - 1][1], knots[n][1], ramp(knots[n - 1][0], knots[n][0], x)),
    }
}

/// The signal at one point while tissues are painted over one another, the innermost last.
pub(super) struct Brush {
    pub signal: f32,
    /// Half the width of a tissue border in millimetres: about half a pixel.
    soft: f32,
}

impl Brush {
    pub fn new(soft: f32) -> Self {
        Self { signal: 0.0, soft }
    }

    /// How much of the point a shape at signed distance `d` fills.
    pub fn cover(&self, d: f32) -> f32 {
        ramp(self.soft, -self.soft, d)
    }

    /// Paints tissue of signal `value` where the signed distance is negative.
    pub fn paint(&mut self, d: f32, value: f32) {
        self.blend(self.cover(d), value);
    }

    /// The same for a tissue whose texture is worth computing only where it shows.
    pub fn texture(&mut self, d: f32, value: impl FnOnce() -> f32) {
        let opacity = self.cover(d);
        if opacity > 0.0 {
            self.blend(opacity, value());
        }
    }

    /// Paints `value` with the given opacity.
    pub fn blend(&mut self, opacity: f32, value: f32) {
        self.signal = mix(self.signal, value, opacity);
    }
}
