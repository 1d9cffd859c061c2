use kerase::cpu::tile::*;
use std::time::Instant;
fn run(threads: usize, ic: usize, oc: usize, rows: usize, w: usize) {
    let arch = pulp::Arch::new();
    let stride = w + 1;
    let plane = ((rows + 2) * stride + 64).next_multiple_of(16);
    let b = block_of(oc);
    let body = || {
        let x = vec![1f32; ic * plane + 256];
        let taps: Vec<usize> =
            (0..ic).flat_map(|c| (0..9).map(move |k| c * plane + (k / 3) * stride + k % 3)).collect();
        let wt = vec![0.5f32; ic * 9 * b];
        let mut y = vec![0f32; 8 * plane + 256];
        let g = vec![0.5f32; 8 * plane + 256];
        let mut sums = vec![0f32; 24];
        let n = (2e9 / (2.0 * (ic * 9 * oc * rows * w) as f64)).ceil() as usize;
        let t = Instant::now();
        for _ in 0..n {
            for _ in 0..oc.div_ceil(b) {
                Correlate {
                    x: &x,
                    taps: &taps,
                    weights: &wt,
                    block: b,
                    y: &mut y,
                    plane,
                    len: rows * stride,
                }
                .run(arch);
            }
        }
        let f = 2.0 * (n * ic * 9 * oc * rows * w) as f64;
        let a = f / t.elapsed().as_secs_f64() / 1e9;
        let t = Instant::now();
        let rb = reduce_block_of(oc);
        for _ in 0..n {
            for o in 0..oc.div_ceil(rb) {
                for i in (0..ic).step_by(2) {
                    for ky in 0..3 {
                        Reduce {
                            g: &g[o % 2 * plane..],
                            plane,
                            block: rb,
                            x: &x,
                            taps: [0, 1, 2, 3, 4, 5].map(|k| (i + k / 3) * plane + ky * stride + k % 3),
                            len: rows * stride,
                            sums: &mut sums,
                        }
                        .run(arch);
                    }
                }
            }
        }
        (a, f / t.elapsed().as_secs_f64() / 1e9)
    };
    let r: Vec<(f64, f64)> = std::thread::scope(|s| {
        (0..threads)
            .map(|_| s.spawn(body))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|h| h.join().unwrap())
            .collect()
    });
    println!(
        "t{threads} {ic}->{oc} {rows}x{w} block {b}: {:.0} / {:.0} GFLOP/s",
        r.iter().map(|x| x.0).sum::<f64>(),
        r.iter().map(|x| x.1).sum::<f64>()
    );
}
fn main() {
    for t in [1, 2] {
        run(t, 18, 18, 16, 320);
        run(t, 36, 36, 16, 160);
        run(t, 144, 144, 16, 40);
        run(t, 288, 144, 20, 20);
        run(t, 8, 8, 16, 320);
        run(t, 16, 16, 16, 16);
        run(t, 18, 2, 16, 320);
    }
}
