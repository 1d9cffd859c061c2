//! Winograd's minimal filtering F(4, 3) along the columns of an image: a filter of three rows makes four rows of output
//! by 6 products instead of 12.
//!
//! A filter w of three rows, six rows d of input and the four rows y of output that they make are polynomials, which
//! are multiplied by their values at six points ("parts"): 0, ±p, ±q and ∞. With matrices that depend on these alone
//!
//! ```text
//! y   = Aᵀ[(G·w) ⊙ (Bᵀ·d)]        (forward, and data gradient with flipped filters)
//! d_w = Gᵀ[(A·d_y) ⊙ (Bᵀ·d)]      (weight gradient: the first line's transpose)
//! ```
//!
//! where rows stand for whole rows of a plane and ⊙ for what the three columns of a filter do to it: sums over channels
//! or pixels go inside of the bracket, so that splitting and joining is done once a channel, and products once for each
//! two of them (Lavin and Gray 2016, section 4). Of points whose powers are exact, 11/16 and 11/8 round least.

use std::array::from_fn;

use pulp::{Simd, WithSimd};

use crate::real::Real;

/// Rows of output that are made together.
pub const BAND: usize = 4;
/// Products that they take, for each column of a filter.
pub const PARTS: usize = 6;

/// Parts that filters which reach so far to each side make of a plane.
pub fn parts(radius: usize) -> usize {
    if radius == 0 { 1 } else { PARTS }
}

/// How many times as far off outputs and gradients of inputs may be in float32 as with twelve products: so much are the
/// first and the last row of a band from few channels. Over all rows it is 1.3 to 1.5 times. Gradients of weights, which
/// are sums over many pixels, need no more than they did.
pub const ROUNDING: f64 = 2.0;

/// p and q.
const POINTS: [f64; 2] = [0.6875, 1.375];

/// Powers of the points as every matrix needs them: the point, and the other one's square.
fn pairs() -> [(f64, f64); 2] {
    let [p, q] = POINTS;
    [(p, q * q), (q, p * p)]
}

/// p²q² and p² + q².
fn symmetric() -> (f64, f64) {
    let [pp, qq] = POINTS.map(|point| point * point);
    (pp * qq, pp + qq)
}

/// What the three rows of a filter count at each of the points.
fn filter_weights() -> [[f64; 3]; 2] {
    pairs().map(|(point, other)| {
        let all = 1.0 / (2.0 * point * point * (point * point - other));
        [all, point * all, point * point * all]
    })
}

/// Rows that are to be split, `stride` apart: a band's begin [`BAND`] rows after the one before's. Rows of a part are
/// `stride` apart too, parts `part`. Up to a register is read and written beyond the last row of each.
pub struct Bands<'a, T> {
    pub rows: &'a [T],
    pub stride: usize,
    pub bands: usize,
    pub parts: &'a mut [T],
    pub part: usize,
}

/// `parts = Bᵀ·rows` for each column of each band and the two rows behind it.
pub struct SplitInputs<'a, T>(pub Bands<'a, T>);

impl<T: Real> WithSimd for SplitInputs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let constant = |value: f64| T::splat(simd, T::real(value));
        let fma = |a, b, c| T::fma(simd, a, b, c);
        let (product, sum) = symmetric();
        let (product, less_sum) = (constant(product), constant(-sum));
        let pairs = pairs().map(|(point, other)| [point, -point, -other].map(constant));
        let Bands { rows, stride, bands, parts, part } = self.0;
        for band in 0..bands {
            let rows = &rows[band * BAND * stride..];
            for at in (0..stride).step_by(T::lanes::<S>()) {
                let d: [T::Lanes<S>; PARTS] = from_fn(|row| T::load::<S>(&rows[row * stride + at..]));
                let mut put =
                    |of: usize, value| T::store::<S>(value, &mut parts[of * part + band * stride + at..]);
                put(0, fma(product, d[0], fma(less_sum, d[2], d[4])));
                for (i, [point, less_point, less_other]) in pairs.into_iter().enumerate() {
                    let even = fma(less_other, d[2], d[4]);
                    let odd = fma(less_other, d[1], d[3]);
                    put(2 * i + 1, fma(point, odd, even));
                    put(2 * i + 2, fma(less_point, odd, even));
                }
                put(5, fma(product, d[1], fma(less_sum, d[3], d[5])));
            }
        }
    }
}

/// `parts = A·rows` for each column of each band.
pub struct SplitGradient<'a, T>(pub Bands<'a, T>);

impl<T: Real> WithSimd for SplitGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let constant = |value: f64| T::splat(simd, T::real(value));
        let pairs = POINTS.map(|point| [point, point * point, point.powi(3)].map(constant));
        let Bands { rows, stride, bands, parts, part } = self.0;
        for band in 0..bands {
            let rows = &rows[band * BAND * stride..];
            for at in (0..stride).step_by(T::lanes::<S>()) {
                let g: [T::Lanes<S>; BAND] = from_fn(|row| T::load::<S>(&rows[row * stride + at..]));
                let mut put =
                    |of: usize, value| T::store::<S>(value, &mut parts[of * part + band * stride + at..]);
                put(0, g[0]);
                for (i, [first, second, third]) in pairs.into_iter().enumerate() {
                    let even = T::fma(simd, second, g[2], g[0]);
                    let odd = T::fma(simd, third, g[3], T::times(simd, first, g[1]));
                    put(2 * i + 1, T::plus(simd, even, odd));
                    put(2 * i + 2, T::minus(simd, even, odd));
                }
                put(5, g[3]);
            }
        }
    }
}

/// `rows = Aᵀ·parts`: whole rows of `width` pixels, as many as there are. All else as in [`Bands`].
pub struct JoinOutputs<'a, T> {
    pub parts: &'a [T],
    pub part: usize,
    pub stride: usize,
    pub rows: &'a mut [T],
    pub width: usize,
}

impl<T: Real> WithSimd for JoinOutputs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let constant = |value: f64| T::splat(simd, T::real(value));
        let [p, q] = POINTS.map(|point| [1, 2, 3].map(|power| constant(point.powi(power))));
        let plus = |a, b| T::plus(simd, a, b);
        let minus = |a, b| T::minus(simd, a, b);
        let Self { parts, part, stride, rows, width } = self;
        let lanes = T::lanes::<S>();
        for (band, rows) in rows.chunks_mut(BAND * width).enumerate() {
            for at in (0..width).step_by(lanes) {
                let m: [T::Lanes<S>; PARTS] =
                    from_fn(|of| T::load::<S>(&parts[of * part + band * stride + at..]));
                let (even_p, odd_p) = (plus(m[1], m[2]), minus(m[1], m[2]));
                let (even_q, odd_q) = (plus(m[3], m[4]), minus(m[3], m[4]));
                let y = [
                    plus(plus(even_p, even_q), m[0]),
                    T::fma(simd, p[0], odd_p, T::times(simd, q[0], odd_q)),
                    T::fma(simd, p[1], even_p, T::times(simd, q[1], even_q)),
                    T::fma(simd, p[2], odd_p, T::fma(simd, q[2], odd_q, m[5])),
                ];
                for (row, y) in rows.chunks_exact_mut(width).zip(y) {
                    match row[at..].split_at_mut_checked(lanes) {
                        Some((to, _)) => T::store::<S>(y, to),
                        None => T::store_part(simd, y, &mut row[at..]),
                    }
                }
            }
        }
    }
}

/// `G·w`: the three rows of many filters, each lane one of them; computed in double precision, as one rounding of a
/// weight goes into every pixel.
#[inline(always)]
pub fn split_filters<T: Real, const N: usize>(rows: [[T; N]; 3]) -> [[T; N]; PARTS] {
    let mut parts = [[T::zero(); N]; PARTS];
    let (product, _) = symmetric();
    let weights = filter_weights();
    for lane in 0..N {
        let [first, second, third] = from_fn(|row| rows[row][lane].as_f64());
        parts[0][lane] = T::real(first / product);
        for (i, weights) in weights.into_iter().enumerate() {
            let even = first * weights[0] + third * weights[2];
            let odd = second * weights[1];
            parts[2 * i + 1][lane] = T::real(even + odd);
            parts[2 * i + 2][lane] = T::real(even - odd);
        }
        parts[5][lane] = rows[2][lane];
    }
    parts
}

/// `Gᵀ·parts`: the gradients of the three rows of many filters.
#[inline(always)]
pub fn join_filters<T: Real, const N: usize>(parts: [[T; N]; PARTS]) -> [[T; N]; 3] {
    let mut rows = [[T::zero(); N]; 3];
    let (product, _) = symmetric();
    let at_zero = T::real(1.0 / product);
    let weights = filter_weights().map(|weights| weights.map(T::real));
    for lane in 0..N {
        rows[0][lane] = parts[0][lane] * at_zero;
        rows[2][lane] = parts[5][lane];
        for (i, weights) in weights.into_iter().enumerate() {
            let even = parts[2 * i + 1][lane] + parts[2 * i + 2][lane];
            let odd = parts[2 * i + 1][lane] - parts[2 * i + 2][lane];
            rows[0][lane] += even * weights[0];
            rows[1][lane] += odd * weights[1];
            rows[2][lane] += even * weights[2];
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::cpu::testing::values;
    use crate::cpu::tile::MARGIN;

    /// Columns, of several bands: not a multiple of a register.
    const STRIDE: usize = 37;
    const BANDS: usize = 2;
    const ROWS: usize = BANDS * BAND;
    const PART: usize = BANDS * STRIDE + MARGIN;

    fn split<T: Real>(rows: &[T], gradient: bool) -> Vec<T> {
        let mut padded = rows.to_vec();
        padded.resize(rows.len() + MARGIN, T::nan());
        let mut parts = vec![T::nan(); PARTS * PART];
        let bands = Bands { rows: &padded, stride: STRIDE, bands: BANDS, parts: &mut parts, part: PART };
        let arch = Cpu::<T>::default().arch;
        if gradient {
            arch.dispatch(SplitGradient(bands))
        } else {
            arch.dispatch(SplitInputs(bands))
        }
        parts
    }

    fn join<T: Real>(parts: &[T]) -> Vec<T> {
        let mut rows = vec![T::nan(); ROWS * STRIDE];
        Cpu::<T>::default().arch.dispatch(JoinOutputs {
            parts,
            part: PART,
            stride: STRIDE,
            rows: &mut rows,
            width: STRIDE,
        });
        rows
    }

    /// What filters `[channels, 3]` make of rows `[channels, ROWS + 2, STRIDE]`, in parts.
    fn filtered<T: Real>(rows: &[T], filters: &[T]) -> Vec<T> {
        let mut sums = vec![T::zero(); PARTS * PART];
        for (rows, filter) in rows.chunks_exact((ROWS + 2) * STRIDE).zip(filters.chunks_exact(3)) {
            let filter = split_filters(from_fn(|row| [filter[row]]));
            for (at, (sum, x)) in sums.iter_mut().zip(split(rows, false)).enumerate() {
                *sum = x.mul_add(filter[at / PART][0], *sum);
            }
        }
        join(&sums)
    }

    /// The same by definition.
    fn correlated<T: Real>(rows: &[T], filters: &[T]) -> Vec<T> {
        let mut sums = vec![T::zero(); ROWS * STRIDE];
        for (rows, filter) in rows.chunks_exact((ROWS + 2) * STRIDE).zip(filters.chunks_exact(3)) {
            for (at, sum) in sums.iter_mut().enumerate() {
                for (row, &weight) in filter.iter().enumerate() {
                    *sum = weight.mul_add(rows[at + row * STRIDE], *sum);
                }
            }
        }
        sums
    }

    #[test]
    fn six_products_make_what_twelve_do() {
        let (rows, filters) = (values(1, 3 * (ROWS + 2) * STRIDE), values(2, 9));
        let (got, want) = (filtered(&rows, &filters), correlated(&rows, &filters));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-14, "{got} {want}");
        }
    }

    #[test]
    fn the_gradient_of_a_filter_is_what_its_products_say() {
        let (rows, g) = (values(3, (ROWS + 2) * STRIDE), values(4, ROWS * STRIDE));
        let (x, of_g) = (split(&rows, false), split(&g, true));
        let parts = from_fn(|part| {
            let of_part = part * PART..part * PART + BANDS * STRIDE;
            [x[of_part.clone()].iter().zip(&of_g[of_part]).map(|(x, g)| x * g).sum::<f64>()]
        });
        let got = join_filters(parts);
        for row in 0..3 {
            let want: f64 = g.iter().zip(&rows[row * STRIDE..]).map(|(g, x)| g * x).sum();
            assert!((got[row][0] - want).abs() < 1e-12, "{row}: {got:?} {want}");
        }
    }

    /// Root mean squares over one row of every band, as shares of the definition's own in float32. The three columns of
    /// a filter are so many channels more.
    #[test]
    fn float32_rounds_as_much_as_is_allowed_for() {
        for channels in [8, 64].map(|channels| 3 * channels) {
            let single = |values: Vec<f64>| values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
            let mut errors = [[0.0; BAND]; 2];
            for seed in 0..20 {
                let rows = single(values(2 * seed, channels * (ROWS + 2) * STRIDE));
                let filters = single(values(2 * seed + 1, channels * 3));
                let double = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
                let want = correlated(&double(&rows), &double(&filters));
                for (errors, got) in
                    errors.iter_mut().zip([filtered(&rows, &filters), correlated(&rows, &filters)])
                {
                    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                        errors[at / STRIDE % BAND] += (f64::from(*got) - want).powi(2);
                    }
                }
            }
            let share = |row: usize| (errors[0][row] / errors[1][row]).sqrt();
            println!("{channels} channels: {:.2?}", from_fn::<f64, BAND, _>(share));
            for row in 0..BAND {
                assert!(share(row) < ROUNDING, "{channels} channels, row {row}: {}", share(row));
            }
        }
    }
}
