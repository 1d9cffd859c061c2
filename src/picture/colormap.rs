//! The colours of error maps: matplotlib's inferno (public domain, CC0), whose lightness rises evenly from black,
//! so that it also reads in print and to colour-blind eyes.

/// Colour of `t`, clamped to 0..=1. NaN is shown as 0.
pub fn inferno(t: f32) -> [u8; 3] {
    let position = t.clamp(0.0, 1.0) * (INFERNO.len() - 1) as f32;
    let below = (position as usize).min(INFERNO.len() - 2);
    let f = position - below as f32;
    let f = if f.is_nan() { 0.0 } else { f };
    std::array::from_fn(|c| {
        let (a, b) = (f32::from(INFERNO[below][c]), f32::from(INFERNO[below + 1][c]));
        (a + f * (b - a)).round() as u8
    })
}

/// Every eighth entry of the original 256; what lies between is interpolated to within 2 of 255.
#[rustfmt::skip]
const INFERNO: [[u8; 3]; 33] = [
    [0, 0, 4],
    [4, 3, 18],
    [11, 7, 36],
    [21, 11, 55],
    [33, 12, 74],
    [46, 10, 90],
    [60, 9, 101],
    [74, 12, 107],
    [87, 16, 109],
    [99, 20, 110],
    [112, 25, 110],
    [125, 30, 109],
    [137, 34, 106],
    [150, 39, 102],
    [163, 43, 97],
    [175, 49, 92],
    [187, 55, 85],
    [198, 62, 77],
    [209, 70, 68],
    [219, 79, 59],
    [227, 89, 50],
    [235, 101, 40],
    [241, 113, 30],
    [246, 127, 20],
    [249, 141, 10],
    [251, 156, 6],
    [252, 171, 15],
    [251, 186, 31],
    [249, 202, 50],
    [245, 217, 73],
    [242, 232, 101],
    [243, 245, 134],
    [252, 255, 164],
];

#[cfg(test)]
mod tests {
    use super::inferno;

    #[test]
    fn goes_from_black_to_pale_yellow_ever_lighter() {
        assert_eq!(inferno(0.0), [0, 0, 4]);
        assert_eq!(inferno(1.0), [252, 255, 164]);
        assert_eq!((inferno(-3.0), inferno(7.0)), (inferno(0.0), inferno(1.0)));
        assert_eq!(inferno(f32::NAN), inferno(0.0));
        let luma = |i: i32| {
            let [r, g, b] = inferno(i as f32 / 100.0).map(f32::from);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        assert!((0..100).all(|i| luma(i + 1) > luma(i) - 0.5));
        // matplotlib's entry 128 of 255.
        let middle = inferno(128.0 / 255.0);
        assert!(
            middle.iter().zip([188, 55, 84]).all(|(&a, b): (&u8, i32)| (i32::from(a) - b).abs() <= 2),
            "{middle:?}"
        );
    }
}
