use pulp::*;
use std::time::Instant;
struct P;
impl WithSimd for P {
    type Output = f64;
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f64 {
        let x = s.splat_f32s(std::hint::black_box(0.999));
        let y = s.splat_f32s(std::hint::black_box(0.001));
        let mut a = [x; 24];
        let t = Instant::now();
        let n = 20_000_000usize;
        for _ in 0..n {
            for v in &mut a {
                *v = s.mul_add_e_f32s(*v, x, y);
            }
        }
        let e = t.elapsed().as_secs_f64();
        std::hint::black_box(a);
        (n * 24 * 2 * S::F32_LANES) as f64 / e / 1e9
    }
}
fn main() {
    for t in [1, 2] {
        let r: Vec<f64> = std::thread::scope(|s| {
            (0..t)
                .map(|_| s.spawn(|| Arch::new().dispatch(P)))
                .collect::<Vec<_>>()
                .into_iter()
                .map(|h| h.join().unwrap())
                .collect()
        });
        println!("{t} threads: {r:?}");
    }
}
