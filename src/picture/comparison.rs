//! The usual row of a figure: a slice's target, then every reconstruction of it, each with its error.

use std::borrow::Cow;

use super::panel::{Kind, Tile};
use crate::metrics::Scores;

/// An image to compare with the target.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub name: &'a str,
    /// Magnitudes of the target's shape.
    pub image: &'a [f32],
    pub scores: Option<Scores>,
    /// Adds a tile with the absolute error after the image.
    pub with_error: bool,
}

/// Tiles of one row. All grey images share the target's window, and all error maps one factor, so that what looks
/// better in the row is better.
pub fn comparison<'a>(target: &'a [f32], shape: [usize; 2], candidates: &[Candidate<'a>]) -> Vec<Tile<'a>> {
    let max = percentile(target, 0.998);
    let errors: Vec<Vec<f32>> = candidates.iter().map(|c| absolute_error(target, c.image)).collect();
    let shown = candidates.iter().zip(&errors).filter(|(c, _)| c.with_error).map(|(_, e)| e.as_slice());
    let factor = error_factor(shown, max);

    let mut tiles = vec![Tile {
        image: Cow::Borrowed(target),
        shape,
        heading: "Target".into(),
        caption: Vec::new(),
        kind: Kind::Grayscale { max },
    }];
    for (candidate, error) in candidates.iter().zip(errors) {
        tiles.push(Tile {
            image: Cow::Borrowed(candidate.image),
            shape,
            heading: candidate.name.into(),
            caption: candidate.scores.map_or_else(Vec::new, caption),
            kind: Kind::Grayscale { max },
        });
        if candidate.with_error {
            tiles.push(Tile {
                image: Cow::Owned(error),
                shape,
                heading: "Error".into(),
                caption: Vec::new(),
                kind: Kind::Error { max, factor },
            });
        }
    }
    tiles
}

/// The two lines under a reconstruction.
fn caption(scores: Scores) -> Vec<String> {
    vec![format!("PSNR {:.2} dB", scores.psnr), format!("SSIM {:.4}", scores.ssim)]
}

pub fn absolute_error(target: &[f32], image: &[f32]) -> Vec<f32> {
    target.iter().zip(image).map(|(t, x)| (t - x).abs()).collect()
}

/// The value that a share `q` of the finite values does not exceed: a window that a few bright vessels do not darken.
/// At least the smallest positive number, so that an empty image can be shown.
pub fn percentile(values: &[f32], q: f64) -> f32 {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let index = (q * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(0.0).max(f32::MIN_POSITIVE)
}

/// The largest round factor that leaves at most 0.5 % of the error pixels at the top of the colour scale.
pub fn error_factor<'e>(errors: impl Iterator<Item = &'e [f32]>, max: f32) -> f32 {
    let largest = errors.map(|e| percentile(e, 0.995)).fold(f32::MIN_POSITIVE, f32::max);
    const ROUND: [f32; 7] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
    ROUND.into_iter().rev().find(|factor| largest * factor <= max).unwrap_or(1.0)
}
