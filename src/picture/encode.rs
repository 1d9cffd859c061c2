//! Pixels as the bytes of a PNG file.

use crate::error::{Error, Result};

/// `pixels` are row-major, RGB for three bytes a pixel and grey for one.
///
/// # Errors
/// A size of nothing, or one that does not go with the pixels.
pub fn png(pixels: &[u8], [width, height]: [usize; 2], color: png::ColorType) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| {
        Error::input(format!("cannot encode a picture of {width}×{height} pixels: {e}"))
    };
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size(width), size(height));
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}
