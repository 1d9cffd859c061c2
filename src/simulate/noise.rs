//! Seeded gradient noise in three dimensions with its exact derivative. It bends outlines, folds the cortex
//! (the distance to a zero level is the value over the length of the gradient) and gives tissue its texture.

use super::shape::{Point, mix};

/// A noise field; two seeds give two unrelated fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise(u32);

impl Noise {
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// Value, mostly within ±1, and gradient at `p`, where lattice cells have sides of 1.
    pub fn with_gradient(&self, p: Point) -> (f32, Point) {
        let [(ix, fx), (iy, fy), (iz, fz)] = [p.x, p.y, p.z].map(split);
        let f = Point::new(fx, fy, fz);
        let [(wx, dx), (wy, dy), (wz, dz)] = [fade(f.x), fade(f.y), fade(f.z)];
        let mut value = 0.0;
        let mut gradient = Point::new(0.0, 0.0, 0.0);
        for corner in 0..8u32 {
            let (bx, by, bz) = (corner & 1, corner >> 1 & 1, corner >> 2);
            let g = self.lattice(ix.wrapping_add(bx), iy.wrapping_add(by), iz.wrapping_add(bz));
            let slope = g.x * (f.x - bx as f32) + g.y * (f.y - by as f32) + g.z * (f.z - bz as f32);
            let (ax, ex) = if bx == 1 { (wx, dx) } else { (1.0 - wx, -dx) };
            let (ay, ey) = if by == 1 { (wy, dy) } else { (1.0 - wy, -dy) };
            let (az, ez) = if bz == 1 { (wz, dz) } else { (1.0 - wz, -dz) };
            let weight = ax * ay * az;
            value += weight * slope;
            gradient.x += weight * g.x + slope * ex * ay * az;
            gradient.y += weight * g.y + slope * ax * ey * az;
            gradient.z += weight * g.z + slope * ax * ay * ez;
        }
        (value * SCALE, gradient * SCALE)
    }

    /// Value, mostly within ±1, for features of about `size` (in the units of `p`).
    pub fn at(&self, p: Point, size: f32) -> f32 {
        let p = p * (1.0 / size);
        let [(ix, fx), (iy, fy), (iz, fz)] = [p.x, p.y, p.z].map(split);
        let [wx, wy, wz] = [fx, fy, fz].map(|f| fade(f).0);
        let slope = |bx: u32, by: u32, bz: u32| {
            let g = self.lattice(ix.wrapping_add(bx), iy.wrapping_add(by), iz.wrapping_add(bz));
            g.x * (fx - bx as f32) + g.y * (fy - by as f32) + g.z * (fz - bz as f32)
        };
        let line = |by, bz| mix(slope(0, by, bz), slope(1, by, bz), wx);
        let plane = |bz| mix(line(0, bz), line(1, bz), wy);
        mix(plane(0), plane(1), wz) * SCALE
    }

    /// Approximate distance to the nearest sheet of a family of smooth sheets about `size` apart.
    pub fn sheets(&self, p: Point, size: f32) -> f32 {
        let (value, gradient) = self.with_gradient(p * (1.0 / size));
        size * value.abs() / gradient.squared().max(0.04).sqrt()
    }

    /// The same field on another lattice, for a second octave or another tissue.
    pub fn other(&self, which: u32) -> Self {
        Self(scramble(self.0 ^ which.wrapping_mul(0x9e37_79b9)))
    }

    fn lattice(&self, x: u32, y: u32, z: u32) -> Point {
        let h = scramble(
            x.wrapping_mul(0x8da6_b343) ^ y.wrapping_mul(0xd816_3841) ^ z.wrapping_mul(0xcb1a_b31f) ^ self.0,
        );
        let unit = |bits: u32| (bits & 0x3ff) as f32 * (2.0 / 1023.0) - 1.0;
        Point::new(unit(h), unit(h >> 10), unit(h >> 20))
    }
}

/// Brings the values of gradients drawn from a cube to a standard deviation of about a third.
const SCALE: f32 = 1.3;

/// Cell and place in it. Without the SSE4.1 instruction `floor` is a slow call, and this is the inner loop.
fn split(x: f32) -> (u32, f32) {
    let toward_zero = x as i32;
    let cell = toward_zero - i32::from(toward_zero as f32 > x);
    (cell as u32, x - cell as f32)
}

/// Perlin's quintic and its derivative: the second derivative vanishes at both ends, so sheets have no kinks.
fn fade(t: f32) -> (f32, f32) {
    (t * t * t * (t * (t * 6.0 - 15.0) + 10.0), 30.0 * t * t * (t * (t - 2.0) + 1.0))
}

/// Spreads every bit over the word; one multiplication is enough for noise.
fn scramble(h: u32) -> u32 {
    let h = (h ^ h >> 15).wrapping_mul(0x2c1b_3c6d);
    h ^ h >> 14
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_derivative_of_the_value() {
        let noise = Noise::new(7);
        let h = 1e-2;
        for i in 0..50 {
            let p = Point::new(0.37 * i as f32 - 8.0, 0.71 * i as f32 - 20.0, 1.3 - 0.29 * i as f32);
            let (value, g) = noise.with_gradient(p);
            assert!((value - noise.at(p, 1.0)).abs() < 1e-5);
            let along = |d: Point| (noise.at(p + d * h, 1.0) - noise.at(p - d * h, 1.0)) / (2.0 * h);
            for (analytic, direction) in [
                (g.x, Point::new(1.0, 0.0, 0.0)),
                (g.y, Point::new(0.0, 1.0, 0.0)),
                (g.z, Point::new(0.0, 0.0, 1.0)),
            ] {
                assert!((along(direction) - analytic).abs() < 0.02, "at {p:?}");
            }
        }
    }
}
