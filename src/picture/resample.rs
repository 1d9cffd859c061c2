//! Enlarging an image by a whole factor, so that small ones have room for their captions.

/// `[h, w]` → `[h·factor, w·factor]` by Catmull-Rom interpolation, edges repeated. Factor 1 is a copy.
///
/// The cubic can overshoot next to a sharp edge; each value is held within those of the four pixels around it, so
/// that no dark or bright rim appears that the data do not have. A NaN stays one, and so do its enlarged neighbours.
pub fn enlarge(image: &[f32], [h, w]: [usize; 2], factor: usize) -> Vec<f32> {
    let rows: Vec<Tap> = (0..h * factor).map(|i| Tap::new(i, h, factor)).collect();
    let columns: Vec<Tap> = (0..w * factor).map(|i| Tap::new(i, w, factor)).collect();
    let mut out = Vec::with_capacity(rows.len() * columns.len());
    for row in &rows {
        for column in &columns {
            let mut value = 0.0;
            for (y, wy) in row.index.iter().zip(row.weight) {
                for (x, wx) in column.index.iter().zip(column.weight) {
                    // A pixel without weight must not pass on its NaN.
                    if wy * wx != 0.0 {
                        value += wy * wx * image[y * w + x];
                    }
                }
            }
            let near = [1, 2].map(|i| [1, 2].map(|j| image[row.index[i] * w + column.index[j]]));
            let near = near.as_flattened();
            let low = near.iter().copied().fold(f32::INFINITY, f32::min);
            let high = near.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // `max` and `min` would turn a NaN into a number.
            out.push(if value.is_nan() { value } else { value.max(low).min(high) });
        }
    }
    out
}

/// The four pixels that an output pixel is made of, along one axis.
struct Tap {
    index: [usize; 4],
    weight: [f32; 4],
}

impl Tap {
    fn new(i: usize, size: usize, factor: usize) -> Self {
        let centre = (i as f32 + 0.5) / factor as f32 - 0.5;
        let first = centre.floor();
        let t = centre - first;
        Self {
            index: [-1, 0, 1, 2].map(|d| (first as i64 + d).clamp(0, size as i64 - 1) as usize),
            weight: [
                ((-0.5 * t + 1.0) * t - 0.5) * t,
                (1.5 * t - 2.5) * t * t + 1.0,
                ((-1.5 * t + 2.0) * t + 0.5) * t,
                (0.5 * t - 0.5) * t * t,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_constants_and_straight_lines() {
        let flat = enlarge(&[3.5; 20], [4, 5], 3);
        assert_eq!(flat.len(), 12 * 15);
        assert!(flat.iter().all(|&v| (v - 3.5).abs() < 1e-5));
        let ramp: Vec<f32> = (0..8).map(|x| x as f32).collect();
        let wide = enlarge(&ramp, [1, 8], 4);
        // Away from the repeated edges, the ramp goes on at a quarter of a pixel a step.
        for (x, value) in wide.iter().enumerate().take(26).skip(6) {
            assert!((value - ((x as f32 + 0.5) / 4.0 - 0.5)).abs() < 1e-5, "{x}: {value}");
        }
    }

    #[test]
    fn factor_one_is_a_copy_and_edges_do_not_overshoot() {
        let step = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        assert_eq!(enlarge(&step, [1, 6], 1), step);
        assert!(enlarge(&step, [1, 6], 5).iter().all(|v| (0.0..=1.0).contains(v)));
    }
}
