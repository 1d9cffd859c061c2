//! A white RGB picture that text, rectangles and pixels are drawn on, and its PNG encoding.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};

use super::encode;
use crate::error::Result;

/// DejaVu Sans, cut down to Latin, Greek and the signs that captions use; font/LICENSE beside it.
pub const FONT: &[u8] = include_bytes!("font/DejaVuSans.ttf");

pub type Rgb = [u8; 3];
pub const BLACK: Rgb = [0, 0, 0];
pub const WHITE: Rgb = [255, 255, 255];

#[derive(Clone, Debug)]
pub struct Canvas {
    width: usize,
    height: usize,
    /// `[height, width]`, row-major.
    pixels: Vec<Rgb>,
}

impl Canvas {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![WHITE; width * height] }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn pixel(&self, x: usize, y: usize) -> Rgb {
        self.pixels[y * self.width + x]
    }

    /// Does nothing outside the picture.
    pub fn set(&mut self, x: usize, y: usize, colour: Rgb) {
        if x < self.width && y < self.height {
            self.pixels[y * self.width + x] = colour;
        }
    }

    /// Draws one line of text with its top-left corner at (x, y).
    pub fn text(&mut self, x: f32, y: f32, line: &Line) {
        line.coverage(|dx, dy, c| self.blend(x as i64 + dx, y as i64 + dy, c));
    }

    /// Draws one line of text that reads from bottom to top; (x, y) is the top-left corner of what it covers.
    pub fn text_upwards(&mut self, x: f32, y: f32, line: &Line) {
        let length = line.width.ceil() as i64;
        line.coverage(|dx, dy, c| self.blend(x as i64 + dy, y as i64 + length - 1 - dx, c));
    }

    /// Black over what is there, by how much of the pixel is covered.
    fn blend(&mut self, x: i64, y: i64, coverage: f32) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x < self.width && y < self.height {
            let keep = 1.0 - coverage.clamp(0.0, 1.0);
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = pixel.map(|v| (f32::from(v) * keep).round() as u8);
        }
    }

    /// The picture as the bytes of a PNG file.
    pub fn png(&self) -> Result<Vec<u8>> {
        encode::png(self.pixels.as_flattened(), [self.width, self.height], png::ColorType::Rgb)
    }
}

/// One line of text, laid out.
pub struct Line {
    glyphs: Vec<Glyph>,
    /// In pixels.
    pub width: f32,
    pub height: f32,
}

impl Line {
    /// `size` is the line's height in pixels.
    pub fn new(text: &str, size: f32) -> Self {
        let font = font();
        let font = font.as_scaled(PxScale::from(size));
        let mut glyphs: Vec<Glyph> = Vec::new();
        let mut x = 0.0;
        for character in text.chars() {
            let mut glyph = font.scaled_glyph(character);
            if let Some(last) = glyphs.last() {
                x += font.kern(last.id, glyph.id);
            }
            glyph.position = point(x, font.ascent());
            x += font.h_advance(glyph.id);
            glyphs.push(glyph);
        }
        Self { glyphs, width: x, height: font.height() }
    }

    /// At `size`, or as much smaller as it takes to be no wider than `width`.
    pub fn fitting(text: &str, size: f32, width: f32) -> Self {
        let line = Self::new(text, size);
        if line.width <= width { line } else { Self::new(text, size * width / line.width) }
    }

    fn coverage(&self, mut draw: impl FnMut(i64, i64, f32)) {
        let font = font();
        for glyph in &self.glyphs {
            if let Some(outline) = font.outline_glyph(glyph.clone()) {
                let corner = outline.px_bounds().min;
                outline.draw(|x, y, c| {
                    draw(corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y), c);
                });
            }
        }
    }
}

fn font() -> FontRef<'static> {
    FontRef::try_from_slice(FONT).expect("the embedded font is a valid TrueType file")
}
