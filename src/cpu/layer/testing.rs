//! What the tests of the layers share: random maps, the loss that gradients are taken of, central differences.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backend::{FeatureMap, MapGradient, MapShape};
use crate::cpu::buffer::Buffer;

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn random(rng: &mut impl Rng, len: usize) -> Vec<f64> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

pub fn shape(n: usize, channels: usize, height: usize, width: usize) -> MapShape {
    MapShape { n, channels, height, width }
}

/// A random map; with statistics, some that have nothing to do with its values: readers must use them as given.
pub fn random_map(rng: &mut impl Rng, shape: MapShape, stats: bool) -> FeatureMap<Buffer<f64>> {
    let values = random(rng, shape.len()).into();
    let stats = stats.then(|| {
        let stats =
            (0..shape.planes()).flat_map(|_| [rng.random_range(-0.2..0.2), rng.random_range(0.5..2.0)]);
        stats.collect::<Vec<f64>>().into()
    });
    FeatureMap { shape, values, stats }
}

/// A map to be written, full of NaN.
pub fn poisoned_map(shape: MapShape, stats: bool) -> FeatureMap<Buffer<f64>> {
    let stats = stats.then(|| vec![f64::NAN; 2 * shape.planes()].into());
    FeatureMap { shape, values: vec![f64::NAN; shape.len()].into(), stats }
}

pub fn poisoned_gradient(map: &FeatureMap<Buffer<f64>>) -> MapGradient<Buffer<f64>> {
    let sums = map.stats.as_ref().map(|stats| vec![f64::NAN; stats.len()].into());
    MapGradient { values: vec![f64::NAN; map.values.len()].into(), sums }
}

/// (x − mean)·rstd of value `i`, or the value.
pub fn normalised(map: &FeatureMap<Buffer<f64>>, i: usize) -> f64 {
    let plane = i / map.shape.pixels();
    map.stats.as_ref().map_or(map.values[i], |s| (map.values[i] - s[2 * plane]) * s[2 * plane + 1])
}

/// What a reader of the map reads.
pub fn activated(map: &FeatureMap<Buffer<f64>>) -> Vec<f64> {
    let value = |i| match (normalised(map, i), &map.stats) {
        (x, Some(_)) if x <= 0.0 => 0.2 * x,
        (x, _) => x,
    };
    (0..map.values.len()).map(value).collect()
}

/// Turns ∂L/∂(what is read of the map) into the form that gradients are stored in.
pub fn stored_gradient(map: &FeatureMap<Buffer<f64>>, d_activated: &[f64]) -> MapGradient<Buffer<f64>> {
    let slope = |i: usize| if map.stats.is_some() && normalised(map, i) <= 0.0 { 0.2 } else { 1.0 };
    gradient_of_normalised(map, d_activated.iter().enumerate().map(|(i, d)| d * slope(i)).collect())
}

/// The stored form of ∂L/∂(normalised values).
pub fn gradient_of_normalised(map: &FeatureMap<Buffer<f64>>, values: Vec<f64>) -> MapGradient<Buffer<f64>> {
    let sums = map.stats.as_ref().map(|_| {
        let pixels = map.shape.pixels();
        (0..map.shape.planes())
            .flat_map(|plane| {
                let range = plane * pixels..(plane + 1) * pixels;
                let g: f64 = values[range.clone()].iter().sum();
                let gx: f64 = range.map(|i| values[i] * normalised(map, i)).sum();
                [g / pixels as f64, gx / pixels as f64]
            })
            .collect::<Vec<f64>>()
            .into()
    });
    MapGradient { values: values.into(), sums }
}

/// Central difference of `loss` along value `i` of `x`.
pub fn difference(x: &mut [f64], i: usize, mut loss: impl FnMut(&[f64]) -> f64) -> f64 {
    let (at, h) = (x[i], 1e-5);
    x[i] = at + h;
    let above = loss(x);
    x[i] = at - h;
    let below = loss(x);
    x[i] = at;
    (above - below) / (2.0 * h)
}

#[track_caller]
pub fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * scale, "{what}[{i}]: got {got}, want {want}");
    }
}
