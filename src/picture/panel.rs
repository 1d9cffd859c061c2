//! PNG panels of images side by side, as in a paper's figure: target | zero-filled | reconstruction | error.

use std::borrow::Cow;
use std::path::Path;

use super::canvas::{BLACK, Canvas, Line, Rgb};
use super::colormap::inferno;
use super::resample::enlarge;
use crate::atomic;
use crate::error::{Error, Result};

/// A figure: a grid of tiles under a title.
#[derive(Clone, Debug, Default)]
pub struct Panel<'a> {
    pub title: Option<String>,
    /// Written upwards at the left of each row; may be shorter than `rows`.
    pub row_labels: Vec<String>,
    pub rows: Vec<Vec<Tile<'a>>>,
}

/// One image with its heading above and its caption below.
#[derive(Clone, Debug)]
pub struct Tile<'a> {
    /// Magnitudes `[h, w]`, row-major; for an error map, absolute differences in the same unit.
    pub image: Cow<'a, [f32]>,
    pub shape: [usize; 2],
    /// May be empty.
    pub heading: String,
    pub caption: Vec<String>,
    pub kind: Kind,
}

/// How a tile's values become colours. `max` is the value shown as white in the grey images of the same row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Grayscale {
        max: f32,
    },
    /// Shown `factor` times as strong as the grey images, with a colour bar that says so.
    Error {
        max: f32,
        factor: f32,
    },
}

/// Images are enlarged until their shorter side has this many pixels.
const SMALLEST_TILE: usize = 240;
const MARGIN: usize = 14;
const GAP: usize = 8;

/// Heights of lettering in pixels. They grow with the images: a figure is printed at the width of its page.
#[derive(Clone, Copy)]
struct Type {
    title: f32,
    heading: f32,
    caption: f32,
    bar: usize,
    bar_label: f32,
}

impl Type {
    /// For images whose shorter side has this many pixels.
    fn beside(side: usize) -> Self {
        let scale = (side as f32 / SMALLEST_TILE as f32).clamp(1.0, 3.0);
        Self {
            title: 21.0 * scale,
            heading: 18.0 * scale,
            caption: 16.0 * scale,
            bar: (9.0 * scale) as usize,
            bar_label: 13.5 * scale,
        }
    }
}

impl Panel<'_> {
    /// Draws the figure. Fails where there is no tile, or a tile's data and shape differ.
    pub fn draw(&self) -> Result<Canvas> {
        self.check()?;
        let layout = Layout::new(self);
        let mut canvas = Canvas::new(layout.width, layout.height);
        let mut y = MARGIN;
        for line in &layout.title {
            canvas.text(((layout.width as f32 - line.width) / 2.0).max(0.0), y as f32, line);
            y += line.height.ceil() as usize;
        }
        y += layout.title.len().min(1) * GAP;
        for (i, (row, size)) in self.rows.iter().zip(&layout.rows).enumerate() {
            if let Some(label) = self.row_labels.get(i) {
                let label = Line::fitting(label, layout.lettering.heading, size.image as f32);
                let top = y as f32 + size.heading as f32 + (size.image as f32 - label.width) / 2.0;
                canvas.text_upwards(MARGIN as f32, top, &label);
            }
            for (tile, (x, width)) in row.iter().zip(layout.columns(size)) {
                tile.draw(&mut canvas, [x, y], width, size, layout.lettering);
            }
            y += size.total() + GAP;
        }
        Ok(canvas)
    }

    /// Draws the figure into a PNG file, whole or not at all.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        atomic::write_bytes(path, &self.draw()?.png()?)
    }

    fn check(&self) -> Result<()> {
        if self.rows.is_empty() || self.rows.iter().any(Vec::is_empty) {
            return Err(Error::input("a panel needs at least one tile in every row"));
        }
        for tile in self.rows.iter().flatten() {
            let [h, w] = tile.shape;
            if h * w == 0 || tile.image.len() != h * w {
                let count = tile.image.len();
                return Err(Error::input(format!(
                    "tile \"{}\" is [{h}, {w}] and has {count} values",
                    tile.heading
                )));
            }
        }
        Ok(())
    }
}

impl Tile<'_> {
    fn factor(&self) -> usize {
        SMALLEST_TILE.div_ceil(self.shape[0].min(self.shape[1])).max(1)
    }

    fn size(&self) -> [usize; 2] {
        self.shape.map(|n| n * self.factor())
    }

    fn colour(&self, value: f32) -> Rgb {
        match self.kind {
            // A value that is not a number is painted so that nobody takes it for tissue.
            _ if value.is_nan() => [255, 0, 255],
            Kind::Grayscale { max } => [(255.0 * (value / max).clamp(0.0, 1.0)).round() as u8; 3],
            Kind::Error { max, factor } => inferno(value * factor / max),
        }
    }

    /// Draws the tile into a column that begins at (x, y) and is `width` wide.
    fn draw(&self, canvas: &mut Canvas, [x, y]: [usize; 2], width: usize, row: &RowSize, lettering: Type) {
        let centred = |line: &Line| x as f32 + ((width as f32 - line.width) / 2.0).max(0.0);
        if !self.heading.is_empty() {
            let heading = Line::fitting(&self.heading, lettering.heading, width as f32);
            canvas.text(centred(&heading), y as f32, &heading);
        }
        let [h, w] = self.size();
        let (left, top) = (x + (width - w) / 2, y + row.heading + (row.image - h) / 2);
        for (i, value) in enlarge(&self.image, self.shape, self.factor()).into_iter().enumerate() {
            canvas.set(left + i % w, top + i / w, self.colour(value));
        }
        let mut below = y + row.heading + row.image + GAP / 2;
        if let Kind::Error { max, factor } = self.kind {
            self.draw_bar(canvas, [left, below], w, [max, factor], lettering);
            below += bar_height(lettering);
        }
        for line in &self.caption {
            let line = Line::fitting(line, lettering.caption, width as f32);
            canvas.text(centred(&line), below as f32, &line);
            below += line_height(lettering.caption);
        }
    }

    /// The colour scale of an error map, from no error to the one shown brightest, in per cent of white.
    fn draw_bar(
        &self,
        canvas: &mut Canvas,
        [x, y]: [usize; 2],
        width: usize,
        [max, factor]: [f32; 2],
        lettering: Type,
    ) {
        for dx in 0..width {
            let colour = self.colour(max / factor * dx as f32 / (width - 1).max(1) as f32);
            for dy in 0..lettering.bar {
                let rim = dx == 0 || dx == width - 1 || dy == 0 || dy == lettering.bar - 1;
                canvas.set(x + dx, y + dy, if rim { BLACK } else { colour });
            }
        }
        let y = (y + lettering.bar + 1) as f32;
        let [zero, name, end] =
            ["0".to_string(), format!("|error| ×{}", short(factor)), percent(100.0 / factor)]
                .map(|text| Line::new(&text, lettering.bar_label));
        canvas.text(x as f32, y, &zero);
        canvas.text(x as f32 + (width as f32 - name.width) / 2.0, y, &name);
        canvas.text((x + width) as f32 - end.width, y, &end);
    }
}

/// Heights of one row's parts, in pixels, from the top.
struct RowSize {
    heading: usize,
    image: usize,
    /// The colour bar and the caption of the tile that has most below it.
    below: usize,
    widths: Vec<usize>,
}

impl RowSize {
    fn new(row: &[Tile], lettering: Type) -> Self {
        let below = |tile: &Tile| {
            let bar = usize::from(matches!(tile.kind, Kind::Error { .. })) * bar_height(lettering);
            bar + tile.caption.len() * line_height(lettering.caption)
        };
        let headed = row.iter().any(|t| !t.heading.is_empty());
        Self {
            heading: usize::from(headed) * (line_height(lettering.heading) + 2),
            image: row.iter().map(|t| t.size()[0]).max().unwrap_or(0),
            below: row.iter().map(below).max().unwrap_or(0) + GAP / 2,
            widths: row.iter().map(|t| t.size()[1]).collect(),
        }
    }

    fn total(&self) -> usize {
        self.heading + self.image + self.below
    }
}

struct Layout {
    width: usize,
    height: usize,
    left: usize,
    lettering: Type,
    title: Vec<Line>,
    rows: Vec<RowSize>,
    /// Widest tile of each column, so that columns line up between rows.
    widths: Vec<usize>,
}

impl Layout {
    fn new(panel: &Panel) -> Self {
        let sides = panel.rows.iter().flatten().flat_map(|tile| tile.size());
        let lettering = Type::beside(sides.min().unwrap_or(SMALLEST_TILE));
        let rows: Vec<RowSize> = panel.rows.iter().map(|row| RowSize::new(row, lettering)).collect();
        let columns = rows.iter().map(|r| r.widths.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| rows.iter().filter_map(|r| r.widths.get(i)).copied().max().unwrap_or(0))
            .collect();
        let labelled = panel.row_labels.iter().any(|label| !label.is_empty());
        let left = MARGIN + usize::from(labelled) * (line_height(lettering.heading) + GAP / 2);
        let width = left + widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1) + MARGIN;
        let title = panel
            .title
            .as_deref()
            .map_or(Vec::new(), |t| wrap(t, lettering.title, (width - 2 * MARGIN) as f32));
        let titles: usize = title.iter().map(|line| line.height.ceil() as usize).sum();
        let body: usize = rows.iter().map(RowSize::total).sum::<usize>() + GAP * rows.len().saturating_sub(1);
        let height = 2 * MARGIN + titles + title.len().min(1) * GAP + body;
        Self { width, height, left, lettering, title, rows, widths }
    }

    /// (x, width) of each tile of a row.
    fn columns<'a>(&'a self, row: &'a RowSize) -> impl Iterator<Item = (usize, usize)> + 'a {
        let start = |i: usize| self.left + self.widths[..i].iter().sum::<usize>() + GAP * i;
        (0..row.widths.len()).map(move |i| (start(i), self.widths[i]))
    }
}

/// Of a colour bar with its labels.
fn bar_height(lettering: Type) -> usize {
    lettering.bar + 2 + line_height(lettering.bar_label)
}

fn line_height(size: f32) -> usize {
    Line::new("", size).height.ceil() as usize
}

/// Breaks text between words into lines no wider than `width`; a single long word is made smaller.
fn wrap(text: &str, size: f32, width: f32) -> Vec<Line> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if Line::new(&longer, size).width <= width => *lines.last_mut().unwrap() = longer,
            _ => lines.push(word.to_string()),
        }
    }
    lines.iter().map(|line| Line::fitting(line, size, width)).collect()
}

/// At most two decimals, and none that are zero: 5, 2.5, 0.33.
fn short(value: f32) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn percent(value: f32) -> String {
    format!("{} %", short(value))
}
