//! The optimiser: ℓ1 penalty, global norm, clip and Adam, in PyTorch's order of operations.

use rayon::prelude::*;

use super::Cpu;
use super::rows::{CHUNK, lane_sum};
use crate::backend::AdamStep;
use crate::real::Real;

/// See [`crate::backend::Update`].
pub fn update<T: Real>(
    cpu: &Cpu<T>,
    update: AdamStep,
    parameters: &mut [T],
    mask: Option<&[T]>,
    gradient: &[T],
    first_moment: &mut [T],
    second_moment: &mut [T],
) -> f64 {
    let gamma = T::real(update.l1);
    let masks = |chunk: usize, len: usize| mask.map(|mask| &mask[chunk * CHUNK..][..len]);
    let squares: Vec<f64> = gradient
        .par_chunks(CHUNK)
        .zip(parameters.par_chunks(CHUNK))
        .enumerate()
        .map(|(chunk, (gradient, parameters))| {
            cpu.vectorised(
                #[inline(always)]
                || match masks(chunk, gradient.len()) {
                    None => lane_sum([gradient, parameters], |[g, p]| squared(g, p, gamma)),
                    Some(mask) => lane_sum([gradient, parameters, mask], |[g, p, m]| {
                        if m == T::zero() { 0.0 } else { squared(g, p, gamma) }
                    }),
                },
            )
        })
        .collect();
    let norm = squares.iter().sum::<f64>().sqrt();
    if !norm.is_finite() {
        return norm;
    }

    let adam = Adam::new(update, norm);
    let moments = first_moment.par_chunks_mut(CHUNK).zip(second_moment.par_chunks_mut(CHUNK));
    let values = parameters.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
    values.zip(moments).enumerate().for_each(|(chunk, ((parameters, gradient), (first, second)))| {
        cpu.vectorised(
            #[inline(always)]
            || {
                let moments = first.iter_mut().zip(second.iter_mut());
                let values = parameters.iter_mut().zip(gradient).zip(moments);
                let step = |parameter: &mut T, gradient, first: &mut T, second: &mut T| {
                    adam.step(penalised(gradient, *parameter, gamma), parameter, first, second);
                };
                // Two loops: without a branch the first one vectorises.
                match masks(chunk, gradient.len()) {
                    None => {
                        values.for_each(|((parameter, &gradient), (first, second))| {
                            step(parameter, gradient, first, second);
                        });
                    }
                    Some(mask) => {
                        let trained = values.zip(mask).filter(|(_, mask)| **mask != T::zero());
                        trained.for_each(|(((parameter, &gradient), (first, second)), _)| {
                            step(parameter, gradient, first, second);
                        });
                    }
                }
            },
        );
    });
    norm
}

/// `g + γ·sign(θ)`, where sign(0) = 0.
#[inline(always)]
fn penalised<T: Real>(gradient: T, parameter: T, gamma: T) -> T {
    let zero = T::zero();
    let above = if parameter > zero { gamma } else { zero };
    let below = if parameter < zero { gamma } else { zero };
    gradient + (above - below)
}

#[inline(always)]
fn squared<T: Real>(gradient: T, parameter: T, gamma: T) -> f64 {
    let g = penalised(gradient, parameter, gamma).as_f64();
    g * g
}

/// The scalars of one step, computed in double precision as Python does, then rounded once.
struct Adam<T> {
    clip: T,
    beta1: T,
    one_minus_beta1: T,
    beta2: T,
    one_minus_beta2: T,
    bias_correction2_sqrt: T,
    eps: T,
    minus_step_size: T,
}

impl<T: Real> Adam<T> {
    fn new(update: AdamStep, norm: f64) -> Self {
        // Beyond 2³¹ steps both corrections are 1 anyway.
        let step = i32::try_from(update.step).unwrap_or(i32::MAX);
        let bias_correction1 = 1.0 - update.beta1.powi(step);
        let bias_correction2 = 1.0 - update.beta2.powi(step);
        Self {
            clip: T::real(update.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0))),
            beta1: T::real(update.beta1),
            one_minus_beta1: T::real(1.0 - update.beta1),
            beta2: T::real(update.beta2),
            one_minus_beta2: T::real(1.0 - update.beta2),
            bias_correction2_sqrt: T::real(bias_correction2.sqrt()),
            eps: T::real(update.eps),
            minus_step_size: T::real(-(update.lr / bias_correction1)),
        }
    }

    #[inline(always)]
    fn step(&self, gradient: T, parameter: &mut T, first: &mut T, second: &mut T) {
        let gradient = gradient * self.clip;
        // torch.lerp takes the end that is nearer.
        let change = gradient - *first;
        *first = if self.one_minus_beta1 < T::real(0.5) {
            *first + self.one_minus_beta1 * change
        } else {
            gradient - change * self.beta1
        };
        *second = *second * self.beta2 + self.one_minus_beta2 * gradient * gradient;
        let denominator = second.sqrt() / self.bias_correction2_sqrt + self.eps;
        *parameter += self.minus_step_size * *first / denominator;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    const UPDATE: AdamStep =
        AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 1, clip: None, l1: 0.0 };

    /// Parameters and both moments after `steps` steps on the gradients `(1 + t)·sin(3i + t) / 4`, and the last norm.
    fn run<T: Real>(settings: AdamStep, len: usize, steps: u64) -> ([Vec<T>; 3], f64) {
        let cpu = Cpu::default();
        let mut parameters: Vec<T> = (0..len).map(|i| T::real(((i as f64) * 0.7).cos())).collect();
        let (mut first, mut second) = (vec![T::zero(); len], vec![T::zero(); len]);
        let mut norm = 0.0;
        for t in 1..=steps {
            let sine = |i: usize| (3.0 * i as f64 + t as f64).sin();
            let gradient: Vec<T> = (0..len).map(|i| T::real((1 + t) as f64 * sine(i) / 4.0)).collect();
            let settings = AdamStep { step: t, ..settings };
            norm = update(&cpu, settings, &mut parameters, None, &gradient, &mut first, &mut second);
        }
        ([parameters, first, second], norm)
    }

    /// torch.optim.Adam in float64 on the gradients of [`run`], for i = torch.arange(6) and t = 1..4:
    /// `p.grad = (1 + t)*(3*i + t).sin()/4 + l1*p.detach().sign(); clip_grad_norm_([p], clip); adam.step()`.
    #[test]
    fn four_steps_are_those_of_pytorch() {
        let clipped = [
            [0.9702480290806449, 0.7963688913456104, 0.13630609695533044],
            [-0.469778836685182, -0.9778354925420781, -0.9003310709640283],
            [0.011847215098934417, -0.016858644312429623, 0.027045291823118923],
            [-0.03394816685510925, 0.03742910831770193, -0.04567355010056235],
            [0.00021029185886734601, 0.0001797962796678022, 0.00016777320558108495],
            [0.00015418618201625125, 0.00013869937475435778, 0.00014775244549257934],
        ];
        let settings = AdamStep { lr: 1e-2, clip: Some(0.5), l1: 0.01, ..UPDATE };
        let (state, norm) = run::<f64>(settings, 6, 4);
        assert_close(&state.concat(), clipped.as_flattened(), 1e-15);
        assert_close(&[norm], &[1.5651480393518407], 1e-15);

        let (state, _) = run::<f32>(settings, 6, 4);
        let state: Vec<f64> = state.concat().into_iter().map(f64::from).collect();
        assert_close(&state, clipped.as_flattened(), 1e-7);

        // Betas for which torch.lerp starts from its other end.
        let other_betas = [
            [0.982446118834898, 0.7858179317585633, 0.1456477281796039],
            [-0.47720340067876404, -0.9731525691798745, -0.9023914995832814],
            [-0.5816507774779169, 0.4637250636986727, -0.33651788961658224],
            [0.20257530768579415, -0.06457817959434317, -0.07471148120076262],
            [0.07426766933520769, 0.06690834411396943, 0.06066059895068459],
            [0.05602212564322356, 0.05336242231601855, 0.05289335941130482],
        ];
        let (state, _) = run::<f64>(AdamStep { lr: 1e-2, beta1: 0.3, beta2: 0.95, ..UPDATE }, 6, 4);
        assert_close(&state.concat(), other_betas.as_flattened(), 1e-15);
    }

    #[test]
    fn the_norm_is_of_the_penalised_gradient_and_before_the_clip() {
        for len in [1, 17, CHUNK + 5] {
            let (parameters, gradient) = (values(1, len), values(2, len));
            let expected = parameters.iter().zip(&gradient).map(|(p, g)| (g + 0.3 * p.signum()).powi(2));
            let expected = expected.sum::<f64>().sqrt();
            for clip in [None, Some(0.1), Some(1e6)] {
                let [mut p, mut m, mut v] = [parameters.clone(), vec![0.0; len], vec![0.0; len]];
                let settings = AdamStep { l1: 0.3, clip, ..UPDATE };
                let norm = update(&cpu(), settings, &mut p, None, &gradient, &mut m, &mut v);
                assert_close(&[norm], &[expected], 1e-14);
                let scale = clip.map_or(1.0, |clip| (clip / (expected + 1e-6)).min(1.0));
                let first: Vec<f64> = parameters
                    .iter()
                    .zip(&gradient)
                    .map(|(p, g)| 0.1 * scale * (g + 0.3 * p.signum()))
                    .collect();
                assert_close(&m, &first, 1e-14);
            }
        }
    }

    #[test]
    fn a_parameter_of_zero_has_no_penalty() {
        let [mut p, mut m, mut v] = [vec![0.0, -0.0, 2.0, -2.0], vec![0.0; 4], vec![0.0; 4]];
        update(&cpu(), AdamStep { l1: 0.5, ..UPDATE }, &mut p, None, &[0.0; 4], &mut m, &mut v);
        assert_close(&m, &[0.0, 0.0, 0.05, -0.05], 1e-16);
    }

    #[test]
    fn what_is_masked_stays_and_does_not_count() {
        for len in [1, 33, CHUNK + 5] {
            let [parameters, mut gradient] = [values(1, len), values(2, len)];
            let [first, second] = [values(3, len), values(4, len).iter().map(|v| v * v).collect::<Vec<_>>()];
            let mask: Vec<f64> = (0..len).map(|i| f64::from(u8::from(i % 3 == 0))).collect();
            let settings = AdamStep { l1: 0.3, clip: Some(0.5), step: 3, ..UPDATE };
            // What is left when the frozen ones are not there at all.
            let kept = |values: &[f64]| values.iter().copied().step_by(3).collect::<Vec<_>>();
            let [mut p, mut m, mut v] = [&parameters, &first, &second].map(|values| kept(values));
            let expected = update(&cpu(), settings, &mut p, None, &kept(&gradient), &mut m, &mut v);

            // A frozen gradient may be anything.
            gradient.iter_mut().enumerate().filter(|(i, _)| i % 3 == 2).for_each(|(_, g)| *g = f64::NAN);
            let state = &mut [parameters.clone(), first.clone(), second.clone()];
            let [all, firsts, seconds] = state;
            let norm = update(&cpu(), settings, all, Some(&mask), &gradient, firsts, seconds);
            assert_close(&[norm], &[expected], 1e-14);
            for (found, before, expected) in
                [(all, &parameters, &p), (firsts, &first, &m), (seconds, &second, &v)]
            {
                assert_close(&kept(found), expected, 1e-13);
                let frozen = (0..len).filter(|i| i % 3 != 0);
                frozen.for_each(|i| assert_eq!(found[i].to_bits(), before[i].to_bits(), "{i} of {len}"));
            }
        }
    }

    #[test]
    fn a_mask_of_ones_changes_no_bit() {
        let len = CHUNK + 77;
        let once = |mask: Option<&[f64]>| {
            let [mut p, mut m, mut v] = [values(1, len), values(2, len), vec![0.5; len]];
            let settings = AdamStep { clip: Some(0.5), ..UPDATE };
            let norm = update(&cpu(), settings, &mut p, mask, &values(4, len), &mut m, &mut v);
            [p, m, v, vec![norm]].concat()
        };
        assert_eq!(once(None), once(Some(&vec![1.0; len])));
    }

    #[test]
    fn a_norm_that_is_not_finite_changes_nothing() {
        for bad in [f64::NAN, f64::INFINITY] {
            let [mut p, mut m, mut v] = [values(3, 20), values(4, 20), values(5, 20)];
            let before = [p.clone(), m.clone(), v.clone()];
            let mut gradient = values(6, 20);
            gradient[19] = bad;
            assert!(!update(&cpu(), UPDATE, &mut p, None, &gradient, &mut m, &mut v).is_finite());
            assert_eq!([p, m, v], before);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        assert_same_bits(|| {
            let (state, norm) =
                run::<f64>(AdamStep { clip: Some(0.5), l1: 1e-3, ..UPDATE }, 3 * CHUNK + 7, 3);
            [state.concat(), vec![norm]].concat()
        });
    }
}
