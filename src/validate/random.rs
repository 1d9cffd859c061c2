//! The numbers that cases are made of: they depend on the case's name alone, and float32 holds each of them exactly.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The nearest float32. Both sides of a comparison are given the same numbers.
pub fn single(value: f64) -> f64 {
    f64::from(value as f32)
}

pub struct Random(ChaCha8Rng);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// From a case's name, so that the case is the same however it was come by.
    pub fn named(name: &str) -> Self {
        // FNV-1a.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Self::seeded(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    pub fn uniform(&mut self, range: Range<f64>) -> f64 {
        single(self.0.random_range(range))
    }

    pub fn uniforms(&mut self, range: Range<f64>, len: usize) -> Vec<f64> {
        (0..len).map(|_| self.uniform(range.clone())).collect()
    }

    /// In −1..1.
    pub fn values(&mut self, len: usize) -> Vec<f64> {
        self.uniforms(-1.0..1.0, len)
    }

    /// From `from` to `to`, both included.
    pub fn size(&mut self, from: usize, to: usize) -> usize {
        self.0.random_range(from..=to)
    }

    pub fn coin(&mut self) -> bool {
        self.0.random()
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.size(0, choices.len() - 1)]
    }

    /// Ones and zeros, about half of each, in no symmetric order.
    pub fn mask(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| f64::from(u8::from(self.coin()))).collect()
    }
}
