//! Receive sensitivities of loop coils on rings round the object, by Biot–Savart.
//!
//! A loop receives what it would transmit in reverse: the rotating field Bx - iBy across the main field that
//! a unit current in it makes. It is complex and smooth inside the array, so it is computed on a coarse grid
//! and interpolated with cubics.

use super::pose::around;
use super::shape::Point;
use num_complex::Complex32;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

/// Straight pieces that a loop is made of.
const SEGMENTS: usize = 28;
/// Points this close to a wire (millimetres) see a blunted field: wires have a width.
const WIRE: f32 = 6.0;
/// Spacing of the coarse grid in millimetres.
const SPACING: f32 = 7.0;

/// The shape of the former that an array is wound on, in millimetres.
#[derive(Clone, Copy, Debug)]
pub(super) struct Former {
    /// Half-axes of the rings across the main field.
    pub half_axes: [f32; 2],
    /// Length along the main field.
    pub length: f32,
    /// Where its middle is, along the main field.
    pub middle: f32,
    /// The main field lies along y, in the image plane, rather than along z, across it.
    pub field_along_y: bool,
}

/// One receive channel: wire pieces as (middle, direction times length) and a complex gain for each piece.
struct Channel {
    wires: Vec<(Point, Point, Complex32)>,
}

pub(super) struct CoilArray {
    former: Former,
    channels: Vec<Channel>,
}

impl CoilArray {
    /// An array of `coils` loops, shifted and tuned a little differently for every subject. A single coil is
    /// a volume coil: a ring of loops combined in quadrature.
    pub fn draw(rng: &mut ChaCha8Rng, former: Former, coils: usize) -> Self {
        let rings = match coils {
            0..=6 => 1,
            7..=19 => 2,
            20..=40 => 3,
            _ => 4,
        };
        let turn = rng.random::<f32>() * TAU;
        let mut channels = Vec::with_capacity(coils);
        if coils == 1 {
            let mut wires = Vec::new();
            for i in 0..8 {
                let angle = TAU * i as f32 / 8.0;
                let gain = Complex32::from_polar(1.0, angle + turn);
                wires.extend(loop_wires(former, angle, 0.0, 0.38 * former.length, gain));
            }
            channels.push(Channel { wires });
        } else {
            for ring in 0..rings {
                let first = ring * coils / rings;
                let count = (ring + 1) * coils / rings - first;
                let along = former.length * ((ring as f32 + 0.5) / rings as f32 - 0.5);
                let mean_axis = 0.5 * (former.half_axes[0] + former.half_axes[1]);
                // Neighbours overlap a little, as they do where mutual inductance is to cancel.
                let radius = (0.6 * TAU * mean_axis / count as f32).clamp(28.0, 70.0);
                for i in 0..count {
                    let step = TAU / count as f32;
                    let angle = turn + step * (i as f32 + 0.5 * ring as f32) + around(rng, 0.0, 0.06);
                    let gain = Complex32::from_polar(around(rng, 1.0, 0.15), rng.random::<f32>() * TAU);
                    let shifted = along + around(rng, 0.0, 4.0);
                    channels.push(Channel { wires: loop_wires(former, angle, shifted, radius, gain) });
                }
            }
        }
        let mut array = Self { former, channels };
        array.normalise();
        array
    }

    /// Makes the root sum of squares of all sensitivities 1, on average over points near the middle.
    fn normalise(&mut self) {
        let mut sum = 0.0;
        let points = [[0.0, 0.0], [0.4, 0.0], [-0.4, 0.0], [0.0, 0.4], [0.0, -0.4]];
        for [a, b] in points {
            let p = Point::new(a * self.former.half_axes[0], b * self.former.half_axes[1], 0.0);
            sum += self.channels.iter().map(|c| c.field(p).norm_sqr()).sum::<f32>();
        }
        let scale = (points.len() as f32 / sum).sqrt();
        for (_, _, gain) in self.channels.iter_mut().flat_map(|c| &mut c.wires) {
            *gain *= scale;
        }
    }

    /// Sensitivity of one coil over a slice: `[rows, columns]` row-major, pixel (r, c) being at
    /// `at(r, c)` millimetres in the image frame for fractional r and c too.
    pub fn sensitivity(
        &self,
        coil: usize,
        size: [usize; 2],
        pixel: [f32; 2],
        at: impl Fn(f32, f32) -> Point,
    ) -> Vec<Complex32> {
        let [rows, columns] = size;
        let step = [0, 1].map(|axis| (SPACING / pixel[axis]).max(1.0));
        // One point before the first pixel and two after the last one, which a cubic needs.
        let coarse = [0, 1].map(|axis| (size[axis] as f32 / step[axis]).ceil() as usize + 4);
        let mut grid = Vec::with_capacity(coarse[0] * coarse[1]);
        for i in 0..coarse[0] {
            for j in 0..coarse[1] {
                let p = at((i as f32 - 1.0) * step[0], (j as f32 - 1.0) * step[1]);
                grid.push(self.channels[coil].field(self.former.to_bore(p)));
            }
        }
        let across: Vec<_> = (0..columns).map(|c| cubic(c as f32 / step[1])).collect();
        let mut line = vec![Complex32::default(); coarse[1]];
        let mut out = Vec::with_capacity(rows * columns);
        for r in 0..rows {
            let (i, w) = cubic(r as f32 / step[0]);
            for (j, value) in line.iter_mut().enumerate() {
                *value = (0..4).map(|k| grid[(i + k) * coarse[1] + j] * w[k]).sum();
            }
            out.extend(across.iter().map(|(j, w)| (0..4).map(|k| line[j + k] * w[k]).sum::<Complex32>()));
        }
        out
    }
}

impl Former {
    /// From the image frame to the frame of the bore, whose z is the main field.
    fn to_bore(self, p: Point) -> Point {
        let p = if self.field_along_y { Point::new(p.x, p.z, p.y) } else { p };
        Point::new(p.x, p.y, p.z - self.middle)
    }
}

impl Channel {
    fn field(&self, p: Point) -> Complex32 {
        let mut sum = Complex32::default();
        for &(middle, wire, gain) in &self.wires {
            let r = p - middle;
            let d2 = r.squared() + WIRE * WIRE;
            let weight = 1.0 / (d2 * d2.sqrt());
            let bx = wire.y * r.z - wire.z * r.y;
            let by = wire.z * r.x - wire.x * r.z;
            sum += gain * Complex32::new(bx, -by) * weight;
        }
        sum
    }
}

/// A round loop that faces the axis of the former.
fn loop_wires(
    former: Former,
    angle: f32,
    along: f32,
    radius: f32,
    gain: Complex32,
) -> Vec<(Point, Point, Complex32)> {
    let (s, c) = angle.sin_cos();
    let centre = Point::new(former.half_axes[0] * c, former.half_axes[1] * s, along);
    let tangent = Point::new(-former.half_axes[0] * s, former.half_axes[1] * c, 0.0);
    let tangent = tangent * (1.0 / tangent.length());
    let corner = |i: usize| {
        let (s, c) = (TAU * i as f32 / SEGMENTS as f32).sin_cos();
        centre + tangent * (radius * c) + Point::new(0.0, 0.0, radius * s)
    };
    (0..SEGMENTS)
        .map(|i| {
            let (a, b) = (corner(i), corner(i + 1));
            ((a + b) * 0.5, b - a, gain)
        })
        .collect()
}

/// First of four coarse points and the Catmull–Rom weights for position `x`, in coarse steps from point 1.
fn cubic(x: f32) -> (usize, [f32; 4]) {
    let first = x.floor();
    let t = x - first;
    let weights = [
        t * (t * (2.0 - t) - 1.0) * 0.5,
        (t * t * (3.0 * t - 5.0) + 2.0) * 0.5,
        t * (t * (4.0 - 3.0 * t) + 1.0) * 0.5,
        t * t * (t - 1.0) * 0.5,
    ];
    (first as usize, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const HEAD: Former =
        Former { half_axes: [130.0, 150.0], length: 200.0, middle: 10.0, field_along_y: false };
    const LEG: Former = Former { half_axes: [110.0, 100.0], length: 190.0, middle: 0.0, field_along_y: true };

    fn array(former: Former, coils: usize) -> CoilArray {
        CoilArray::draw(&mut ChaCha8Rng::seed_from_u64(3), former, coils)
    }

    #[test]
    fn interpolation_agrees_with_biot_savart_where_the_object_is() {
        let (size, pixel) = ([90, 70], [2.2, 2.4]);
        let at = |r: f32, c: f32| Point::new((c - 35.0) * pixel[1], (45.0 - r) * pixel[0], 12.0);
        for former in [HEAD, LEG] {
            let array = array(former, 9);
            for coil in [0, 4, 8] {
                let map = array.sensitivity(coil, size, pixel, at);
                assert_eq!(map.len(), size[0] * size[1]);
                let top = map.iter().map(|s| s.norm()).fold(0.0, f32::max);
                for (i, s) in map.iter().enumerate() {
                    let exact = array.channels[coil]
                        .field(former.to_bore(at((i / size[1]) as f32, (i % size[1]) as f32)));
                    assert!((s - exact).norm() < 0.01 * top, "coil {coil}, pixel {i}: {s} is not {exact}");
                }
            }
        }
    }

    #[test]
    fn maps_are_smooth_complex_and_unlike_one_another() {
        let (size, pixel) = ([64, 64], [2.5, 2.5]);
        let at = |r: f32, c: f32| Point::new((c - 32.0) * pixel[1], (32.0 - r) * pixel[0], 0.0);
        let array = array(HEAD, 8);
        let maps: Vec<_> = (0..8).map(|coil| array.sensitivity(coil, size, pixel, at)).collect();
        for map in &maps {
            let top = map.iter().map(|s| s.norm()).fold(0.0, f32::max);
            let steps = map.chunks_exact(64).flat_map(|line| line.windows(2)).map(|w| (w[1] - w[0]).norm());
            assert!(steps.fold(0.0, f32::max) < 0.12 * top, "a step between neighbours is too steep");
            // The phase turns across the map: no single rotation makes it real.
            let turn: Complex32 = map.iter().map(|s| s * s).sum();
            let power: f32 = map.iter().map(|s| s.norm_sqr()).sum();
            assert!(turn.norm() < 0.95 * power);
        }
        for pair in maps.windows(2) {
            let inner: Complex32 = pair[0].iter().zip(&pair[1]).map(|(a, b)| a.conj() * b).sum();
            let power = |map: &[Complex32]| map.iter().map(|s| s.norm_sqr()).sum::<f32>();
            assert!(inner.norm() < 0.8 * (power(&pair[0]) * power(&pair[1])).sqrt());
        }
    }

    #[test]
    fn arrays_of_every_size_have_unit_sensitivity_in_the_middle() {
        for former in [HEAD, LEG] {
            for coils in [1, 2, 6, 7, 15, 32, 64] {
                let array = array(former, coils);
                assert_eq!(array.channels.len(), coils);
                let middle = Point::new(0.0, 0.0, 0.0);
                let rss = array.channels.iter().map(|c| c.field(middle).norm_sqr()).sum::<f32>().sqrt();
                assert!((0.4..1.3).contains(&rss), "{coils} coils: {rss}");
            }
        }
    }

    #[test]
    fn one_coil_is_a_volume_coil() {
        let array = array(HEAD, 1);
        let at = |x, y| array.channels[0].field(Point::new(x, y, 10.0)).norm();
        let middle = at(0.0, 0.0);
        for (x, y) in [(60.0, 0.0), (-60.0, 0.0), (0.0, 70.0), (0.0, -70.0)] {
            assert!((0.7..1.5).contains(&(at(x, y) / middle)), "{x} {y}: {}", at(x, y) / middle);
        }
    }
}
