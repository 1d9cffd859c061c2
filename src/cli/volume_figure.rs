//! The figure of one volume: for some of its slices, target, zero-filled image, reconstruction and error.

use std::borrow::Cow;

use crate::metrics::Scores;
use crate::picture::comparison::{Candidate, comparison, percentile};
use crate::picture::panel::{Kind, Panel, Tile};

/// The images of one slice, all of one size.
pub struct Row {
    pub slice: usize,
    /// Height and width.
    pub size: [usize; 2],
    pub target: Option<Vec<f32>>,
    pub zero_filled: Vec<f32>,
    pub image: Vec<f32>,
    /// Of the zero-filled image and of the reconstruction, where there is a target.
    pub scores: Option<[Scores; 2]>,
}

/// `count` of the slices, evenly spread.
pub fn chosen(slices: &[usize], count: usize) -> Vec<usize> {
    let count = count.min(slices.len());
    (0..count).map(|i| slices[(2 * i + 1) * slices.len() / (2 * count)]).collect()
}

/// A line of tiles for every row, under the volume's name.
pub fn figure<'a>(volume: &str, rows: &'a [Row]) -> Panel<'a> {
    Panel {
        title: Some(volume.to_string()),
        row_labels: rows.iter().map(|row| format!("slice {}", row.slice)).collect(),
        rows: rows.iter().map(tiles).collect(),
    }
}

fn tiles(row: &Row) -> Vec<Tile<'_>> {
    let names = ["Zero-filled", "Reconstruction"];
    match &row.target {
        Some(target) => {
            let scores = |i: usize| row.scores.map(|scores| scores[i]);
            let candidates = [
                Candidate { name: names[0], image: &row.zero_filled, scores: scores(0), with_error: false },
                Candidate { name: names[1], image: &row.image, scores: scores(1), with_error: true },
            ];
            comparison(target, row.size, &candidates)
        }
        None => {
            // One window for both, as they show the same intensities.
            let max = percentile(&row.image, 0.998);
            let tile = |name: &str, image| Tile {
                image: Cow::Borrowed(image),
                shape: row.size,
                heading: name.into(),
                caption: Vec::new(),
                kind: Kind::Grayscale { max },
            };
            vec![tile(names[0], row.zero_filled.as_slice()), tile(names[1], row.image.as_slice())]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_spread() {
        assert_eq!(chosen(&[3, 4, 5, 6, 7], 1), [5]);
        assert_eq!(chosen(&[0, 1, 2, 3, 4, 5], 3), [1, 3, 5]);
        assert_eq!(chosen(&[0, 1], 5), [0, 1]);
        assert!(chosen(&[0, 1], 0).is_empty());
    }
}
