//! How important each parameter is to a set of slices, and what selective synaptic dampening makes of it.

use rayon::prelude::*;

use super::Cpu;
use super::rows::CHUNK;
use crate::backend::Dampening;
use crate::real::Real;

/// See [`crate::backend::AddSquares`].
pub fn add_squares<T: Real>(cpu: &Cpu<T>, factor: f64, gradient: &[T], sums: &mut [T]) {
    let factor = T::real(factor);
    sums.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).for_each(|(sums, gradient)| {
        cpu.vectorised(
            #[inline(always)]
            || sums.iter_mut().zip(gradient).for_each(|(sum, &g)| *sum += factor * (g * g)),
        );
    });
}

/// See [`crate::backend::Dampen`].
pub fn dampen<T: Real>(cpu: &Cpu<T>, dampening: Dampening, forget: &[T], retain: &[T], parameters: &mut [T]) {
    let [alpha, lambda] = [dampening.alpha, dampening.lambda].map(T::real);
    let [of_forget, of_retain] = [dampening.forget_share, 1.0 - dampening.forget_share].map(T::real);
    let importance = forget.par_chunks(CHUNK).zip(retain.par_chunks(CHUNK));
    parameters.par_chunks_mut(CHUNK).zip(importance).for_each(|(parameters, (forget, retain))| {
        cpu.vectorised(
            #[inline(always)]
            || {
                for ((parameter, &forget), &retain) in parameters.iter_mut().zip(forget).zip(retain) {
                    let all = of_forget * forget + of_retain * retain;
                    if forget > alpha * all {
                        *parameter *= (lambda * all / forget).min(T::one());
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    const DAMPENING: Dampening = Dampening { alpha: 2.0, lambda: 0.5, forget_share: 0.25 };

    #[test]
    fn squares_are_added() {
        for len in [1, 17, CHUNK + 5] {
            let (gradient, before) = (values(1, len), values(2, len));
            let mut sums = before.clone();
            add_squares(&cpu(), 0.3, &gradient, &mut sums);
            let expected: Vec<f64> = before.iter().zip(&gradient).map(|(s, g)| s + 0.3 * g * g).collect();
            assert_close(&sums, &expected, 1e-15);
        }
    }

    /// Foster et al. 2024, equations 6 and 7, with d = f/4 + 3r/4.
    #[test]
    fn what_is_selected_is_dampened_by_its_share() {
        let cases = [
            // f, r, what θ = −8 becomes: d = 1 and f = 4 is above 2·d, λ·d/f = 1/8.
            (4.0, 0.0, -1.0),
            // d = 1.75, twice that is 3.5.
            (4.0, 1.0, -8.0 * 0.5 * 1.75 / 4.0),
            // f is 2·d exactly: not above.
            (3.0, 1.0, -8.0),
            (1.0, 1.0, -8.0),
            (0.0, 1.0, -8.0),
            (0.0, 0.0, -8.0),
            (f64::NAN, 1.0, -8.0),
            (1.0, f64::NAN, -8.0),
        ];
        let [forget, retain] = [cases.map(|case| case.0), cases.map(|case| case.1)];
        let mut parameters = [-8.0; 8];
        dampen(&cpu(), DAMPENING, &forget, &retain, &mut parameters);
        assert_eq!(parameters, cases.map(|case| case.2));
    }

    #[test]
    fn no_parameter_grows_and_none_is_selected_by_an_infinite_alpha() {
        let len = CHUNK + 3;
        let [forget, retain] = [1, 2].map(|seed| values(seed, len).iter().map(|v| v * v).collect::<Vec<_>>());
        let before = values(3, len);
        let after = |dampening| {
            let mut parameters = before.clone();
            dampen(&cpu(), dampening, &forget, &retain, &mut parameters);
            parameters
        };
        assert_eq!(after(Dampening { lambda: 1e9, ..DAMPENING }), before);
        let dampened = after(DAMPENING);
        assert_ne!(dampened, before);
        assert!(dampened.iter().zip(&before).all(|(after, before)| after.abs() <= before.abs()));
        assert_eq!(after(Dampening { alpha: f64::INFINITY, ..DAMPENING }), before);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let len = 2 * CHUNK + 7;
        assert_same_bits(|| {
            let (mut sums, mut parameters) = (vec![0.0; len], values(3, len));
            add_squares(&cpu(), 0.1, &values(1, len), &mut sums);
            dampen(&cpu(), DAMPENING, &sums, &values(2, len), &mut parameters);
            [sums, parameters].concat()
        });
    }
}
