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
//! two of them (Lavin and Gray 2016, section 4). Points 5/8 and 5/4 are between 1/2 and 2, where powers stay small, and
//! their squares are exact: float32 then rounds 1.4 times as much as with 12 products, where 1 and 2 make it 1.9 times.

use std::array::from_fn;

use pulp::{Simd, WithSimd};

use crate::real::Real;

/// Rows of output that are made together.
pub const BAND: usize = 4;
/// Products that they take, for each column of a filter.
pub const PARTS: usize = 6;

/// p and q.
const POINTS: [f64; 2] = [0.625, 1.25];

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

/// `parts = Bᵀ·rows` for each column of each band.
///
/// Rows are `stride` apart, and a band's six begin [`BAND`] rows after the one before's; rows of a part are `stride`
/// apart too, parts `part`. Up to a register is read and written beyond the last row of each.
pub struct SplitInputs<'a, T> {
    pub rows: &'a [T],
    pub stride: usize,
    pub bands: usize,
    pub parts: &'a mut [T],
    pub part: usize,
}

impl<T: Real> WithSimd for SplitInputs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let constant = |value: f64| T::splat(simd, T::real(value));
        let fma = |a, b, c| T::fma(simd, a, b, c);
        let (product, sum) = symmetric();
        let (product, less_sum) = (constant(product), constant(-sum));
        let pairs = pairs().map(|(point, other)| [point, -point, -other].map(constant));
        let Self { rows, stride, bands, parts, part } = self;
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

/// `parts = A·rows` for each column of each band of [`BAND`] rows; laid out as in [`SplitInputs`].
pub struct SplitGradient<'a, T>(pub SplitInputs<'a, T>);

impl<T: Real> WithSimd for SplitGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let constant = |value: f64| T::splat(simd, T::real(value));
        let pairs = POINTS.map(|point| [point, point * point, point.powi(3)].map(constant));
        let SplitInputs { rows, stride, bands, parts, part } = self.0;
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

/// `rows = Aᵀ·parts`: whole rows of `width` pixels, as many as there are. All else as in [`SplitInputs`].
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

/// `G·w`: the three rows of many filters, each lane one of them.
#[inline(always)]
pub fn split_filters<T: Real, const N: usize>(rows: [[T; N]; 3]) -> [[T; N]; PARTS] {
    let mut parts = [[T::zero(); N]; PARTS];
    let (product, _) = symmetric();
    let at_zero = T::real(1.0 / product);
    let weights = pairs().map(|(point, other)| {
        let all = 1.0 / (2.0 * point * point * (point * point - other));
        [all, point * all, point * point * all].map(T::real)
    });
    for lane in 0..N {
        let [first, second, third] = from_fn(|row| rows[row][lane]);
        parts[0][lane] = first * at_zero;
        for (i, weights) in weights.into_iter().enumerate() {
            let even = first * weights[0] + third * weights[2];
            let odd = second * weights[1];
            parts[2 * i + 1][lane] = even + odd;
            parts[2 * i + 2][lane] = even - odd;
        }
        parts[5][lane] = third;
    }
    parts
}

/// `Gᵀ·parts`: the gradients of the three rows of many filters.
#[inline(always)]
pub fn join_filters<T: Real, const N: usize>(parts: [[T; N]; PARTS]) -> [[T; N]; 3] {
    let mut rows = [[T::zero(); N]; 3];
    let (product, _) = symmetric();
    let at_zero = T::real(1.0 / product);
    let weights = pairs().map(|(point, other)| {
        let all = 1.0 / (2.0 * point * point * (point * point - other));
        [all, point * all, point * point * all].map(T::real)
    });
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
