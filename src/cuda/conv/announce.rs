//! What is made ahead for convolutions, for all of them at once: their filters as tensor cores take them, and room for the
//! parts of their weights' gradients, which are added up together once the last is done. A launch for each of these takes
//! longer than its work.

use crate::backend::Announce;
use crate::cuda::conv::announced::{Ahead, Coming};
use crate::cuda::conv::mma;
use crate::cuda::conv::wants::wants;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::memory::Lifetime;
use crate::cuda::{Buffer, Cuda};

/// See [`crate::backend::Announce`].
///
/// # Panics
/// Where convolutions that were announced before did not come.
pub fn announce<D: Driver>(cuda: &Cuda<D>, Announce { parameters, convolutions }: Announce<'_, Buffer<D>>) {
    assert!(cuda.announced().coming.is_empty(), "convolutions were announced that did not come");
    let wanted: Vec<_> = convolutions
        .iter()
        .map(|convolution| (convolution, wants(cuda, convolution)))
        .filter(|(_, wants)| !wants.is_nothing())
        .collect();
    let lens: Vec<_> = wanted
        .iter()
        .flat_map(|(_, wants)| [wants.filters.as_ref().map_or(0, |(cut, _)| cut.filters()), wants.parts])
        .collect();
    let places = cuda.scratch_for(Lifetime::Announcement, &lens);
    let mut layers = Vec::new();
    let mut coming = Vec::new();
    for ((convolution, wants), &[filters, parts]) in wanted.into_iter().zip(places.as_chunks().0) {
        let weights = parameters.read_from(convolution.weight.offset, convolution.weight.len);
        let filters = wants.filters.map_or(Const::null(), |(cut, shape)| {
            layers.push(mma::Layer { weights, to: filters.words(), shape, words: cut.filters() });
            filters.words().as_const()
        });
        let parts = if wants.parts > 0 { parts } else { Mut::null() };
        coming.push(Coming { convolution: convolution.clone(), weights, ahead: Ahead { filters, parts } });
    }
    mma::lay_out(cuda, &layers);
    cuda.announced().coming = coming;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::*;
    use crate::cuda::driver::emulated::{Emulated, Schedule};
    use crate::precision::Precision;

    type Device = Cuda<Emulated>;
    const MAP: MapShape = MapShape { n: 2, channels: 10, height: 9, width: 21 };
    const INPUTS: usize = 18;
    const WEIGHTS: usize = INPUTS * MAP.channels * 9;
    const SPANS: [Span; 2] = [Span { offset: 0, len: WEIGHTS }, Span { offset: WEIGHTS, len: WEIGHTS }];

    fn device(precision: Precision, schedule: Schedule) -> Device {
        Cuda::new(Emulated::new(schedule, usize::MAX)).with_precision(precision)
    }

    /// A transposed convolution from half of `MAP`.
    const UP: Span = Span { offset: 2 * WEIGHTS, len: 4 * INPUTS * MAP.channels };
    const BELOW: MapShape = MapShape { channels: INPUTS, height: 5, width: 11, ..MAP };
    const ABOVE: MapShape = MapShape { height: 10, width: 22, ..MAP };
    const PARAMETERS: usize = UP.offset + UP.len;

    fn announced(pass: &Pass) -> Vec<Convolution> {
        let convolution = |transposed, weight, output| Convolution {
            transposed,
            weight,
            inputs: INPUTS,
            output,
            pass: pass.clone(),
        };
        let [first, second] = SPANS.map(|weight| convolution(false, weight, MAP));
        vec![first, second, convolution(true, UP, ABOVE)]
    }

    /// Some numbers, never the same twice in a row.
    fn filled(ops: &Device, mut buffer: Buffer<Emulated>) -> Buffer<Emulated> {
        let values: Vec<f32> = (0..buffer.len()).map(|i| (i as f32 * 0.37).sin()).collect();
        ops.upload(&values, &mut buffer);
        buffer
    }

    fn map(ops: &Device, shape: MapShape) -> FeatureMap<Buffer<Emulated>> {
        FeatureMap {
            shape,
            values: filled(ops, ops.map(Purpose::Cascades, shape.len())),
            stats: Some(filled(ops, ops.zeros(Purpose::Cascades, 2 * shape.planes()))),
        }
    }

    /// Everything that these convolutions make, forward and backward.
    fn results(precision: Precision, schedule: Schedule, announce: bool) -> Vec<u32> {
        let ops = device(precision, schedule);
        let parameters = filled(&ops, ops.zeros(Purpose::Parameters, PARAMETERS));
        let mut d_parameters = filled(&ops, ops.zeros(Purpose::Optimiser, PARAMETERS));
        let input = map(&ops, MAP.with_channels(INPUTS));
        let mut bits = Vec::new();
        let mut keep = |buffer: &Buffer<Emulated>| {
            let mut values = vec![0.0; buffer.len()];
            ops.download(buffer, &mut values);
            bits.extend(values.into_iter().map(f32::to_bits));
        };
        let tell = |pass: Pass| {
            announce.then(|| ops.run(Announce { parameters: &parameters, convolutions: &announced(&pass) }))
        };
        tell(Pass::Forward);
        let outputs = SPANS.map(|weight| {
            let mut output = map(&ops, MAP);
            ops.run(Conv3x3 { inputs: &[&input], parameters: &parameters, weight, output: &mut output });
            keep(&output.values);
            output
        });
        let below = map(&ops, BELOW);
        let mut above = map(&ops, ABOVE);
        ops.run(ConvTranspose { input: &below, parameters: &parameters, weight: UP, output: &mut above });
        keep(&above.values);
        tell(Pass::Backward(0..INPUTS));
        let gradient = |shape| {
            let FeatureMap { values, stats, .. } = map(&ops, shape);
            MapGradient { values, sums: stats }
        };
        let (d_above, mut d_below) = (gradient(ABOVE), gradient(BELOW));
        ops.run(ConvTransposeBackward {
            input: &below,
            parameters: &parameters,
            weight: UP,
            output: &above,
            d_output: &d_above,
            d_parameters: &mut d_parameters,
            d_input: &mut d_below,
        });
        keep(&d_below.values);
        for (weight, output) in SPANS.into_iter().zip(&outputs) {
            let (d_output, mut d_input) = (gradient(MAP), gradient(input.shape));
            let place = Some(InputGradient { gradient: &mut d_input, partial: false });
            ops.run(Conv3x3Backward {
                inputs: &[&input],
                parameters: &parameters,
                weight,
                output,
                d_output: &d_output,
                d_parameters: &mut d_parameters,
                d_inputs: &mut [place],
            });
            keep(&d_input.values);
        }
        keep(&d_parameters);
        ops.finish().unwrap();
        bits
    }

    #[test]
    fn an_announcement_changes_no_bit() {
        for precision in Precision::ALL {
            let alone = results(precision, Schedule::Forward, false);
            for schedule in [Schedule::Forward, Schedule::Reverse] {
                assert_eq!(results(precision, schedule, true), alone, "{precision}, {schedule}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "did not come")]
    fn what_was_announced_has_to_come() {
        let ops = device(Precision::Tf32, Schedule::Forward);
        let parameters = ops.zeros(Purpose::Parameters, PARAMETERS);
        ops.run(Announce { parameters: &parameters, convolutions: &announced(&Pass::Forward) });
        ops.run(Announce { parameters: &parameters, convolutions: &announced(&Pass::Forward) });
    }
}
