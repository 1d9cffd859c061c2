//! How charts become files: one drawing, as SVG and as PNG, in one font and one palette.

use std::fmt::Display;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::error::{Error, Result};
use crate::picture::canvas::FONT;
use crate::picture::encode;

pub type Area<DB> = DrawingArea<DB, Shift>;
pub type Drawn<DB, T = ()> = std::result::Result<T, DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Of Okabe and Ito, which colour-blind eyes tell apart; yellow is left out, as it vanishes on white paper.
pub const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// Lettering and axes. The page turns these three with its own colours.
pub const INK: RGBColor = RGBColor(0, 0, 0);
pub const FAINT: RGBColor = RGBColor(217, 217, 217);
pub const MIDDLE: RGBColor = RGBColor(110, 110, 110);

/// Charts are laid out in units of which so many make a pixel of the SVG: plotters rounds to whole ones.
const FINE: u32 = 4;
/// The PNG has half as many pixels, each the mean of four: that smooths the edges.
const SMOOTH: usize = 2;

/// Something to draw, on any of plotters' backends.
pub trait Chart {
    /// Width and height, in pixels of the SVG.
    fn size(&self) -> (u32, u32);

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB>;
}

/// A length in pixels of the SVG, in the units that charts are drawn in.
pub fn px(length: f64) -> i32 {
    (length * f64::from(FINE)).round() as i32
}

/// # Errors
/// What plotters cannot draw.
pub fn svg(chart: &impl Chart) -> Result<String> {
    let (size, fine) = sizes(chart);
    let mut text = String::new();
    draw_on(SVGBackend::with_string(&mut text, fine), chart)?;
    let inner = format!("width=\"{}\" height=\"{}\"", fine.0, fine.1);
    Ok(text.replacen(&inner, &format!("width=\"{}\" height=\"{}\"", size.0, size.1), 1))
}

/// # Errors
/// As [`svg`].
pub fn png(chart: &impl Chart) -> Result<Vec<u8>> {
    let (_, fine) = sizes(chart);
    let [width, height] = [fine.0 as usize, fine.1 as usize];
    let mut pixels = vec![255; width * height * 3];
    draw_on(BitMapBackend::with_buffer(&mut pixels, fine), chart)?;
    let size = [width / SMOOTH, height / SMOOTH];
    let mut smooth = Vec::with_capacity(size[0] * size[1] * 3);
    for y in 0..size[1] {
        for x in 0..size[0] {
            for channel in 0..3 {
                let sum: usize = (0..SMOOTH * SMOOTH)
                    .map(|i| {
                        let [row, column] = [y * SMOOTH + i / SMOOTH, x * SMOOTH + i % SMOOTH];
                        usize::from(pixels[(row * width + column) * 3 + channel])
                    })
                    .sum();
                smooth.push((sum / (SMOOTH * SMOOTH)) as u8);
            }
        }
    }
    encode::png(&smooth, size, ::png::ColorType::Rgb)
}

fn sizes(chart: &impl Chart) -> ((u32, u32), (u32, u32)) {
    let (width, height) = chart.size();
    ((width, height), (width * FINE, height * FINE))
}

fn draw_on<DB: DrawingBackend>(backend: DB, chart: &impl Chart) -> Result<()> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        assert!(register_font("sans-serif", FontStyle::Normal, FONT).is_ok(), "the embedded font is valid");
    });
    let failed = |e: &dyn Display| Error::input(format!("cannot draw a figure: {e}"));
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    chart.draw(&area).map_err(|e| failed(&e))?;
    area.present().map_err(|e| failed(&e))
}

/// Lettering of a height in pixels of the SVG.
pub fn letters(size: f64, color: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    ("sans-serif", px(size)).into_font().color(&color).pos(Pos::new(horizontal, vertical))
}

/// One line of text about a point.
pub fn write<DB: DrawingBackend>(
    area: &Area<DB>,
    text: &str,
    at: (i32, i32),
    style: &TextStyle,
) -> Drawn<DB> {
    area.draw(&Text::new(text.to_string(), at, style.clone()))
}

/// A line's style, its width in pixels of the SVG.
pub fn stroke(color: impl Color, width: f64) -> ShapeStyle {
    ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: px(width).unsigned_abs() }
}

/// The text, or its beginning where it is wider than a number of pixels.
pub fn fitting(text: &str, size: f64, width: f64) -> String {
    let wide = |text: &str| f64::from(crate::picture::canvas::Line::new(text, size as f32).width) > width;
    if !wide(text) {
        return text.to_string();
    }
    let mut cut = text.to_string();
    while cut.pop().is_some() && wide(&format!("{cut}…")) {}
    format!("{}…", cut.trim_end())
}

/// A mark about a point: each method has its own shape, as colours do not survive every printer.
pub fn mark<DB: DrawingBackend>(
    area: &Area<DB>,
    (x, y): (i32, i32),
    shape: usize,
    radius: f64,
    color: RGBColor,
) -> Drawn<DB> {
    let r = px(radius);
    // Corners in units of the radius, grown so that all shapes look equally large.
    let corners: &[(f64, f64)] = match shape % 5 {
        0 => return area.draw(&Circle::new((x, y), r, color.filled())),
        1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2 => &[(0.0, -1.25), (1.15, 0.8), (-1.15, 0.8)],
        3 => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        _ => &[(0.0, 1.25), (1.15, -0.8), (-1.15, -0.8)],
    };
    let at = |&(dx, dy): &(f64, f64)| (x + (dx * f64::from(r)) as i32, y + (dy * f64::from(r)) as i32);
    area.draw(&Polygon::new(corners.iter().map(at).collect::<Vec<_>>(), color.filled()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_end_in_an_ellipsis() {
        assert_eq!(fitting("NL-FT", 14.0, 100.0), "NL-FT");
        let cut = fitting("a name that nobody would give to a method", 14.0, 100.0);
        assert!(cut.ends_with('…') && cut.starts_with("a name"), "{cut}");
    }
}
