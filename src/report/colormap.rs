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
