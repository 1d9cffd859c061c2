//! Centre crops, as fastMRI makes them.

/// The smaller of two sizes along each axis: what `center_crop_to_smallest` crops both images to.
pub fn smaller(a: [usize; 2], b: [usize; 2]) -> [usize; 2] {
    [a[0].min(b[0]), a[1].min(b[1])]
}

/// The centre of an image `[h, w]`: fastMRI's `center_crop`, where the smaller half of an odd rest is cut off above
/// and on the left.
///
/// # Panics
/// Where `image` is not of size `from`, or `to` is larger along an axis.
pub fn center_crop(image: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    assert_eq!(image.len(), from[0] * from[1], "an image of another size");
    assert!(to[0] <= from[0] && to[1] <= from[1], "cannot crop {from:?} to {to:?}");
    let [top, left] = [(from[0] - to[0]) / 2, (from[1] - to[1]) / 2];
    let rows = image.chunks_exact(from[1].max(1)).skip(top).take(to[0]);
    rows.flat_map(|row| &row[left..left + to[1]]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_kept() {
        let image: Vec<f32> = (0..20).map(|i| i as f32).collect();
        assert_eq!(center_crop(&image, [4, 5], [4, 5]), image);
        // h_from = (4 - 3)//2 = 0, w_from = (5 - 2)//2 = 1.
        assert_eq!(center_crop(&image, [4, 5], [3, 2]), [1.0, 2.0, 6.0, 7.0, 11.0, 12.0]);
        assert_eq!(center_crop(&image, [5, 4], [1, 1]), [9.0]);
        assert_eq!(smaller([3, 9], [4, 2]), [3, 2]);
    }
}
