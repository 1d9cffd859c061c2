//! How far float32 may be from the reference, and how far it is.
//!
//! A tolerance is a number of roundings. One costs at most [`UNIT`] of the number that is rounded; a sum of K terms of
//! either sign, in any order, costs about √K of them, since errors walk at random as the sum itself does. An element
//! may be off by four times that (the largest of thousands is four standard deviations out), the whole result in its
//! norm by twice: one wrong element among many correct ones meets the first bound, a small mistake in all the second.
//!
//! Where the operands of products are rounded (see [`Precision`]), to a share u of themselves, a product is off by about
//! 0.7 u: two errors, each uniform up to u for the smallest of numbers and up to u/2 for the largest. The errors of a
//! sum walk at random as the sum itself does, so the sum is off by as large a share, however many terms it has: that is
//! u/[`UNIT`] roundings, 2¹³ for TF32 and 2¹⁶ for bf16, for any K.
//!
//! The CPU makes 3×3 convolutions by fewer products (`cpu/winograd.rs`), and sums them up for four rows at once: what the
//! first and the last of these are off by is up to twice as much, and so is their tolerance.
//!
//! Where feature maps are stored as bf16, their values are off by up to u = 2⁻⁸ of themselves beside that, by 0.4 u on
//! average: half of u/[`UNIT`] roundings, which lets an element be off by 2 u and the whole by u. The reference reads what
//! the device reads, so reading costs nothing. Statistics and plane means follow from the rounded values and are off by
//! less.

use crate::precision::Precision;

/// Half of the distance from 1 to the next float32: what one rounding costs, relatively.
pub const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    roundings: f64,
    scale: Scale,
}

/// The size of the numbers that were rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// The root mean square of the result, but at least this.
    OfResult(f64),
    Given(f64),
}

impl Tolerance {
    /// No difference at all.
    pub const EXACT: Self = Self::roundings(0.0);

    pub const fn roundings(roundings: f64) -> Self {
        Self { roundings, scale: Scale::OfResult(0.0) }
    }

    /// Of sums over so many terms, each of which took a few roundings to make.
    pub fn sum(terms: usize) -> Self {
        Self::roundings(4.0 + (terms as f64).sqrt())
    }

    /// The same for sums of products whose operands were rounded so.
    pub fn products(self, precision: Precision) -> Self {
        Self { roundings: self.roundings + 1.5 * precision.unit() / UNIT, ..self }
    }

    /// The same for sums that are made in another way than term by term, so many times as far off.
    pub fn times(self, times: f64) -> Self {
        Self { roundings: self.roundings * times, ..self }
    }

    /// The same for values of a feature map, which are rounded once more when they are stored.
    pub fn stored(self, precision: Precision) -> Self {
        Self { roundings: self.roundings + 0.5 * precision.stored_unit() / UNIT, ..self }
    }

    /// The size of the numbers that were rounded, where that is not the root mean square of the result: a mean that
    /// cancels, or (0) numbers of very different sizes.
    pub fn scale(self, scale: f64) -> Self {
        Self { scale: Scale::Given(scale), ..self }
    }

    /// The same, but for results that may be larger: few numbers may all cancel.
    pub fn scale_at_least(self, scale: f64) -> Self {
        Self { scale: Scale::OfResult(scale), ..self }
    }

    /// By how much an element may be off, relative to scale and value.
    fn relative(self) -> f64 {
        4.0 * self.roundings * UNIT
    }
}

/// The element that uses most of its tolerance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    pub index: usize,
    pub got: f64,
    pub reference: f64,
    pub allowed: f64,
    /// The error as a share of what is allowed.
    pub used: f64,
}

/// How a result differs from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Absent where the result is empty.
    pub worst: Option<Worst>,
    /// The largest error, and the largest relative to scale and value.
    pub absolute: f64,
    pub relative: f64,
    /// What `relative` may be.
    pub tolerance: f64,
    /// The error's norm, and what it may be.
    pub norm: f64,
    pub norm_allowed: f64,
}

impl Comparison {
    pub fn of(got: &[f64], reference: &[f64], tolerance: Tolerance) -> Self {
        assert_eq!(got.len(), reference.len(), "results of one case have one length");
        let squares = |values: &mut dyn Iterator<Item = f64>| {
            values.filter(|v| v.is_finite()).map(|v| v * v).sum::<f64>()
        };
        let reference_norm = squares(&mut reference.iter().copied()).sqrt();
        let root_len = (reference.len() as f64).sqrt();
        let scale = match tolerance.scale {
            Scale::Given(scale) => scale,
            Scale::OfResult(least) => least.max(reference_norm / root_len.max(1.0)),
        };
        let mut comparison = Self {
            worst: None,
            absolute: 0.0,
            relative: 0.0,
            tolerance: tolerance.relative(),
            norm: squares(&mut got.iter().zip(reference).map(|(got, reference)| got - reference)).sqrt(),
            norm_allowed: 2.0 * tolerance.roundings * UNIT * reference_norm.max(scale * root_len),
        };
        for (index, (&got, &reference)) in got.iter().zip(reference).enumerate() {
            let error = error(got, reference);
            let value = if reference.is_finite() { reference.abs() } else { 0.0 };
            let allowed = comparison.tolerance * (scale + value);
            let worst = Worst { index, got, reference, allowed, used: ratio(error, allowed) };
            if comparison.worst.is_none_or(|before| worst.used > before.used) {
                comparison.worst = Some(worst);
            }
            comparison.absolute = comparison.absolute.max(error);
            comparison.relative = comparison.relative.max(ratio(error, scale + reference.abs()));
        }
        comparison
    }

    pub fn norm_used(&self) -> f64 {
        ratio(self.norm, self.norm_allowed)
    }

    /// The larger share of the two tolerances; more than 1 fails.
    pub fn used(&self) -> f64 {
        self.worst.map_or(0.0, |worst| worst.used).max(self.norm_used())
    }
}

/// NaN and infinity must be where the reference has them, and nowhere else.
fn error(got: f64, reference: f64) -> f64 {
    let same = got == reference || got.is_nan() && reference.is_nan();
    match (got - reference).abs() {
        _ if same => 0.0,
        error if error.is_nan() => f64::INFINITY,
        error => error,
    }
}

fn ratio(error: f64, allowed: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_element_is_found_and_named() {
        let reference = [1.0, -2.0, 3.0, 0.0];
        let tolerance = Tolerance::roundings(2.0);
        let mut got = reference;
        assert_eq!(Comparison::of(&got, &reference, tolerance).used(), 0.0);
        got[1] += 1e-7;
        assert!(Comparison::of(&got, &reference, tolerance).used() < 1.0);
        got[2] += 1e-5;
        let worst = Comparison::of(&got, &reference, tolerance).worst.unwrap();
        assert!(worst.used > 1.0);
        assert_eq!((worst.index, worst.got, worst.reference), (2, got[2], 3.0));
    }

    #[test]
    fn a_small_mistake_everywhere_fails_by_its_norm() {
        let reference: Vec<f64> = (0..1000).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let got: Vec<f64> = reference.iter().map(|x| x + 6.0 * UNIT * 0.7).collect();
        let comparison = Comparison::of(&got, &reference, Tolerance::roundings(2.0));
        assert!(comparison.worst.unwrap().used < 1.0 && comparison.used() > 1.0);
    }

    #[test]
    fn what_is_not_finite_must_be_so_in_both() {
        let used = |got: f64, reference: f64| {
            Comparison::of(&[got, 1.0], &[reference, 1.0], Tolerance::roundings(2.0)).used()
        };
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        for (got, reference) in [(nan, nan), (infinity, infinity)] {
            assert_eq!(used(got, reference), 0.0);
        }
        for (got, reference) in
            [(nan, 1.0), (1.0, nan), (infinity, nan), (infinity, -infinity), (infinity, 1.0)]
        {
            assert!(used(got, reference) > 1.0, "{got} {reference}");
        }
    }

    #[test]
    fn exact_is_exact() {
        let used = |got: f64| Comparison::of(&[got], &[1.0], Tolerance::EXACT).used();
        assert_eq!(used(1.0), 0.0);
        assert_eq!(used(1.0 + f64::EPSILON), f64::INFINITY);
    }
}
