//! Label noise from a counter-based generator: value i depends on (key, stream, i) alone, on every device.
//!
//! Counter to uniform numbers is integer arithmetic and exact scaling, so those have the same bits everywhere.
//! Box–Muller then takes a logarithm and a cosine in double precision, which libraries may round differently in
//! the last place: after rounding to float, about one value in 10⁸ can differ by one unit between devices.

use rayon::prelude::*;

use super::rows::CHUNK;
use crate::backend::NoiseSource;
use crate::real::Real;

/// See [`crate::backend::LabelNoise`].
pub fn label_noise<T: Real>(noise: NoiseSource, target: &mut [T]) {
    target.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, target)| {
        for (i, target) in target.iter_mut().enumerate() {
            let normal = normal(noise.key, noise.stream, (chunk * CHUNK + i) as u64);
            let normal = if noise.absolute { normal.abs() } else { normal };
            *target = T::real(target.as_f64() + noise.lambda * normal);
        }
    });
}

/// A standard normal number. Of the pair that Box–Muller makes only one is used, so that no value needs another's
/// counter.
fn normal(key: u64, stream: u64, index: u64) -> f64 {
    let bits = philox(halves(index, stream), [key as u32, (key >> 32) as u32]);
    // 53 bits, in (0, 1]: the logarithm needs no special case.
    let radius = (mantissa(bits[0], bits[1]) + 1) as f64 * 2f64.powi(-53);
    let angle = mantissa(bits[2], bits[3]) as f64 * 2f64.powi(-53);
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// The upper 53 of 64 bits.
fn mantissa(high: u32, low: u32) -> u64 {
    (u64::from(high) << 32 | u64::from(low)) >> 11
}

fn halves(index: u64, stream: u64) -> [u32; 4] {
    [index as u32, (index >> 32) as u32, stream as u32, (stream >> 32) as u32]
}

/// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [a, b] = [0xD251_1F53 * u64::from(counter[0]), 0xCD9E_8D57 * u64::from(counter[2])];
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    const NOISE: NoiseSource = NoiseSource { lambda: 2.0, absolute: false, key: 42 << 32 | 7, stream: 3 };

    fn noise(noise: NoiseSource, len: usize) -> Vec<f64> {
        let mut target = vec![0.0; len];
        label_noise(noise, &mut target);
        target
    }

    /// Random123's tests/kat_vectors, `philox4x32 10`.
    #[test]
    fn philox_gives_the_published_answers() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn the_values_are_standard_normal() {
        let len = 200_000;
        let values = noise(NoiseSource { lambda: 1.0, ..NOISE }, len);
        let moment = |power| values.iter().map(|v: &f64| v.powi(power)).sum::<f64>() / len as f64;
        for (power, expected, tolerance) in [(1, 0.0, 0.01), (2, 1.0, 0.02), (3, 0.0, 0.05), (4, 3.0, 0.12)] {
            assert!((moment(power) - expected).abs() < tolerance, "moment {power}: {}", moment(power));
        }
        let neighbours = dot(&values[1..], &values[..len - 1]) / len as f64;
        assert!(neighbours.abs() < 0.01, "{neighbours}");
    }

    #[test]
    fn noise_is_added_to_the_values_asked_for() {
        let mut target = [10.0; 7];
        label_noise(NOISE, &mut target[..5]);
        let expected: Vec<f64> = (0..5).map(|i| 10.0 + 2.0 * normal(NOISE.key, NOISE.stream, i)).collect();
        assert_close(&target[..5], &expected, 1e-14);
        assert_eq!(target[5..], [10.0; 2]);
        let absolute = noise(NoiseSource { absolute: true, ..NOISE }, 5);
        let expected: Vec<f64> = expected.iter().map(|v| (v - 10.0).abs()).collect();
        assert_close(&absolute, &expected, 1e-14);
    }

    #[test]
    fn every_word_of_key_stream_and_index_matters() {
        let reference = normal(1, 2, 3);
        let high = 1 << 32;
        for (key, stream, index) in
            [(2, 2, 3), (1 + high, 2, 3), (1, 3, 3), (1, 2 + high, 3), (1, 2, 4), (1, 2, 3 + high)]
        {
            assert_ne!(normal(key, stream, index), reference);
        }
        assert_eq!(normal(1, 2, 3), reference);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        assert_same_bits(|| noise(NOISE, 2 * CHUNK + 3));
    }
}
