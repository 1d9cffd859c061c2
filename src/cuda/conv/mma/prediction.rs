//! What the 3×3 convolutions of the paper's network are predicted to take on an H100, as docs/tensor-cores.md has it.

use super::cut::{BANDWIDTH, CLOCK, Instructions, WARPS};
use super::{Cut, MULTIPROCESSORS, pack, weights};
use crate::backend::MapShape;
use crate::cuda::conv::problem::{Kind, Makes, Problem};
use crate::cuda::conv::tilings::{Tiled, Tilings};
use crate::precision::Precision;

/// What one launch is predicted to take.
struct Prediction {
    kernel: String,
    blocks: usize,
    products: f64,
    /// Products' share that stands for channels and pixels that there are.
    useful: f64,
    bytes: f64,
    microseconds: f64,
    /// Where other launches fill whatever it leaves idle.
    busy: f64,
}

impl Prediction {
    /// `bytes` read and written at least once; `clocks` of a multiprocessor: alone, and with everything at work.
    fn new(
        kernel: String,
        blocks: usize,
        products: f64,
        macs: f64,
        bytes: usize,
        clocks: [f64; 2],
        k: usize,
    ) -> Self {
        let bytes = bytes as f64;
        let [microseconds, busy] = clocks.map(|clocks| 1e6 * (clocks / CLOCK).max(bytes / BANDWIDTH));
        let useful = macs / (products * (128 * k) as f64);
        Self { kernel, blocks, products, useful, bytes, microseconds, busy }
    }

    fn row(&self, layer: &str, pass: &str) -> String {
        let Self { kernel, blocks, products, useful, bytes, microseconds, busy } = self;
        let [products, megabytes, useful] = [products / 1e6, bytes / 1e6, useful * 100.0];
        format!(
            "| {layer} | {pass} | {kernel} | {blocks} | {products:.2} | {useful:.0} % | {megabytes:.1} | \
             {busy:.1} | {microseconds:.1} |"
        )
    }
}

fn correlation(precision: Precision, makes: Makes, map: MapShape, ins: usize, outs: usize) -> Prediction {
    let cut = Cut::of(&Tilings::built_in(), precision, makes, map, ins, outs);
    let instructions = Instructions::of(precision, makes);
    let k = 8 * pack(precision);
    let words = ins.div_ceil(pack(precision));
    let warps = map.n * cut.tiles * cut.groups * WARPS / cut.tiling.warps()[2];
    let products = (warps * 4 * 9 * cut.by) as f64 * words.div_ceil(4) as f64 / 2.0;
    let pixels = map.n * map.pixels();
    let macs = (pixels * ins * outs * 9) as f64;
    let values = Problem::new(Kind::Conv3x3(makes), map, ins, outs).values();
    let bytes = precision.map_bytes() * values + size_of::<u32>() * cut.filters();
    Prediction::new(
        cut.name(),
        cut.tiles * cut.groups * map.n,
        products,
        macs,
        bytes,
        [
            cut.clocks,
            cut.block(words, &instructions) * (cut.tiles * cut.groups * map.n) as f64
                / MULTIPROCESSORS as f64,
        ],
        k,
    )
}

fn sum(precision: Precision, map: MapShape, ins: usize) -> Prediction {
    let cut = weights::Cut::of(&Tilings::built_in(), precision, map, ins);
    let pixels = map.n * map.pixels();
    let macs = (pixels * ins * map.channels * 9) as f64;
    let values = Problem::new(Kind::Filters, map, ins, map.channels).values();
    let bytes = precision.map_bytes() * values + cut.partial_bytes();
    let products = cut.products(precision);
    Prediction::new(
        cut.name(),
        cut.blocks(),
        products,
        macs,
        bytes,
        [cut.clocks(precision), cut.busy(precision)],
        8 * pack(precision),
    )
}

/// The layers of a U-Net that sees `n` images at a time: size, channels in and out, and how many there are of each.
fn layers(n: usize, chans: usize) -> Vec<(String, MapShape, usize, usize)> {
    let mut layers = Vec::new();
    for level in 0..=4 {
        let c = chans << level;
        let shape = MapShape { n, channels: c, height: 640 >> level, width: 368 >> level };
        let below = if level == 0 { 2 } else { c / 2 };
        let bottom = level == 4;
        for (ins, times) in [(below, 1), (c, 2 - usize::from(bottom)), (2 * c, usize::from(!bottom))] {
            let name = format!("{n} × {ins} → {c}, {} × {}", shape.height, shape.width);
            layers.push((name, shape, ins, times));
        }
    }
    layers.retain(|layer| layer.3 > 0);
    layers
}

/// Prints what stands in docs/tensor-cores.md:
/// `cargo test --release --lib prediction -- --nocapture`.
#[test]
fn prediction() {
    for precision in [Precision::Tf32, Precision::Bf16] {
        println!("\n### {precision}\n");
        println!(
            "| layer | pass | kernel | blocks | 10⁶ mma | useful | MB | busy, µs | µs |\n\
             |---|---|---|--:|--:|--:|--:|--:|--:|"
        );
        let mut totals = [0.0f64; 2];
        for (network, (n, chans, times_all)) in [(1, 18, 12), (4, 8, 4)].into_iter().enumerate() {
            for (layer, map, ins, times) in layers(n, chans) {
                let (outs, inputs) = (map.channels, map.with_channels(ins));
                let passes = [
                    ("forward", correlation(precision, Makes::Output, map, ins, outs)),
                    ("inputs", correlation(precision, Makes::InputGradients, inputs, outs, ins)),
                    ("filters", sum(precision, map, ins)),
                ];
                for (pass, predicted) in passes {
                    println!("{}", predicted.row(&layer, pass));
                    // The network's 2 channels may be a ninth of what a kernel multiplies: it waits for memory.
                    let least = if ins == 2 { 0.05 } else { 0.1 };
                    assert!(predicted.useful > least && predicted.useful <= 1.0, "{layer} {pass}");
                    totals[network] += predicted.microseconds * (times * times_all) as f64;
                }
            }
        }
        println!("\n12 cascades: {:.1} ms; 16 coils: {:.1} ms.", totals[0] / 1e3, totals[1] / 1e3);
    }
}
