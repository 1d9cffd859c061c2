//! How fast the CPU's operations are at the paper's shapes: `cargo bench`, one line an operation.
//!
//! One cascade's U-Net on a knee slice of 15 coils and 320 x 320, level by level, and the operations on coil images
//! around it.

use std::time::{Duration, Instant};

use kerase::backend::{
    Backend, FeatureMap, ImageShape, InputGradient, MapGradient, MapShape, Memory, Purpose, Span,
};
use kerase::cpu::Cpu;

type Buffer = <Cpu<f32> as Memory>::Buffer;

const CHANS: usize = 18;
const SIDE: usize = 320;
const LEVELS: usize = 5;
const IMAGES: ImageShape = ImageShape { n: 1, coils: 15, rows: SIDE, columns: SIDE };

/// The fastest of as many repetitions as fit into half a second, at least three.
fn fastest(mut run: impl FnMut()) -> Duration {
    let began = Instant::now();
    let mut fastest = Duration::MAX;
    for repetition in 0.. {
        if repetition >= 3 && began.elapsed() > Duration::from_millis(500) {
            break;
        }
        let start = Instant::now();
        run();
        fastest = fastest.min(start.elapsed());
    }
    fastest
}

fn report(name: &str, work: f64, unit: &str, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("{name:<44}{:>10.2} ms{:>9.1} {unit}", 1e3 * seconds, work / seconds / 1e9);
}

/// Values in (-1, 1) without a pattern: the fractions of multiples of the golden ratio.
fn noise(cpu: &Cpu<f32>, len: usize) -> Buffer {
    let values: Vec<f32> =
        (0..len).map(|i| (2.0 * (i as f64 * 0.618_033_988_75).fract() - 1.0) as f32).collect();
    let mut buffer = cpu.zeros(Purpose::Images, len);
    cpu.upload(&values, &mut buffer);
    buffer
}

fn map(cpu: &Cpu<f32>, shape: MapShape) -> FeatureMap<Buffer> {
    let statistics: Vec<f32> = (0..shape.planes()).flat_map(|_| [0.0, 1.0]).collect();
    let mut stats = cpu.zeros(Purpose::Images, statistics.len());
    cpu.upload(&statistics, &mut stats);
    FeatureMap { shape, values: noise(cpu, shape.len()), stats: Some(stats) }
}

fn gradient(cpu: &Cpu<f32>, shape: MapShape) -> MapGradient<Buffer> {
    MapGradient {
        values: noise(cpu, shape.len()),
        sums: Some(cpu.zeros(Purpose::Images, 2 * shape.planes())),
    }
}

/// One 3 x 3 convolution over the concatenation of `inputs`, forward and backward.
fn conv3x3(cpu: &Cpu<f32>, inputs: &[usize], outputs: usize, side: usize) {
    let shape = |channels| MapShape { n: 1, channels, height: side, width: side };
    let maps: Vec<_> = inputs.iter().map(|&channels| map(cpu, shape(channels))).collect();
    let maps: Vec<_> = maps.iter().collect();
    let total: usize = inputs.iter().sum();
    let weight = Span { offset: 0, len: 9 * total * outputs };
    let parameters = noise(cpu, weight.len);
    let mut output = map(cpu, shape(outputs));
    let name = format!(
        "{} -> {outputs}, {side} x {side}",
        inputs.iter().map(usize::to_string).collect::<Vec<_>>().join(" + ")
    );
    let flop = (2 * weight.len * side * side) as f64;
    let took = fastest(|| cpu.conv3x3(&maps, &parameters, weight, &mut output));
    report(&format!("conv3x3           {name}"), flop, "GFLOP/s", took);

    let d_output = gradient(cpu, output.shape);
    let mut d_parameters = cpu.zeros(Purpose::Images, weight.len);
    let mut d_maps: Vec<_> = inputs.iter().map(|&channels| gradient(cpu, shape(channels))).collect();
    let took = fastest(|| {
        let mut d_inputs: Vec<_> =
            d_maps.iter_mut().map(|gradient| Some(InputGradient { gradient, partial: false })).collect();
        cpu.conv3x3_backward(
            &maps,
            &parameters,
            weight,
            &output,
            &d_output,
            &mut d_parameters,
            &mut d_inputs,
        );
    });
    report(&format!("conv3x3_backward  {name}"), 2.0 * flop, "GFLOP/s", took);
}

fn conv_transpose(cpu: &Cpu<f32>, inputs: usize, outputs: usize, side: usize) {
    let shape = |channels, side| MapShape { n: 1, channels, height: side, width: side };
    let input = map(cpu, shape(inputs, side / 2));
    let mut output = map(cpu, shape(outputs, side));
    let weight = Span { offset: 0, len: 4 * inputs * outputs };
    let parameters = noise(cpu, weight.len);
    let flop = (2 * weight.len * (side / 2).pow(2)) as f64;
    let took = fastest(|| cpu.conv_transpose(&input, &parameters, weight, &mut output));
    report(&format!("conv_transpose    {inputs} -> {outputs}, {side} x {side}"), flop, "GFLOP/s", took);
}

/// The bytes counted are those of the coil images alone: what must be read or written once.
fn coil_images(cpu: &Cpu<f32>) {
    let [sens, kspace] = [0, 1].map(|_| noise(cpu, IMAGES.multicoil()));
    let [m0, u, v] = [0, 1, 2].map(|_| noise(cpu, IMAGES.combined()));
    let mut combined = cpu.zeros(Purpose::Images, IMAGES.combined());
    let mut output = cpu.zeros(Purpose::Images, IMAGES.pixels());
    let mut images = cpu.zeros(Purpose::Images, IMAGES.multicoil());
    let mut mask = cpu.zeros(Purpose::Images, IMAGES.columns);
    let columns: Vec<f32> =
        (0..SIDE).map(|x| f32::from(u8::from(x % 8 == 0 || x.abs_diff(SIDE / 2) < 7))).collect();
    cpu.upload(&columns, &mut mask);
    let bytes = 4.0 * IMAGES.multicoil() as f64;
    report("ifft2c", 2.0 * bytes, "GB/s", fastest(|| cpu.ifft2c(IMAGES, &kspace, &mask, &mut images)));
    report("divide_by_rss", 2.0 * bytes, "GB/s", fastest(|| cpu.divide_by_rss(IMAGES, &kspace, &mut images)));
    let took = fastest(|| cpu.sens_reduce(IMAGES, &sens, &kspace, &mut combined));
    report("sens_reduce", 2.0 * bytes, "GB/s", took);
    let took = fastest(|| cpu.cascade_input(IMAGES, &sens, &mask, &m0, &u, &v, &mut combined));
    report("cascade_input", bytes, "GB/s", took);
    let took = fastest(|| cpu.rss_output(IMAGES, &sens, &mask, &kspace, &u, &v, &mut output));
    report("rss_output", 2.0 * bytes, "GB/s", took);
}

fn main() {
    // `cargo test --benches` runs this too, and only wants to know that it runs.
    let test = !std::env::args().any(|argument| argument == "--bench");
    let cpu = Cpu::default();
    println!("CPU, {} threads, SIMD: {}", rayon::current_num_threads(), kerase::device::cpu_simd());
    conv3x3(&cpu, &[2], CHANS, SIDE);
    if test {
        return;
    }
    for level in 0..LEVELS {
        let (channels, side) = (CHANS << level, SIDE >> level);
        conv3x3(&cpu, &[channels], channels, side);
        if level + 1 < LEVELS {
            conv3x3(&cpu, &[channels, channels], channels, side);
            conv_transpose(&cpu, 2 * channels, channels, side);
        }
    }
    coil_images(&cpu);
}
