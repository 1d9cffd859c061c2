//! Small multiples: plots of one size in rows of three, below a legend.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::draw::{Area, Drawn, INK, fitting, letters, px, stroke, write};
use super::plot::{Plot, mesh};

const COLUMNS: usize = 3;
const CELL: (f64, f64) = (240.0, 186.0);
/// Above the plots.
const LEGEND: f64 = 34.0;
/// Free at the right of a plot.
const RIGHT: f64 = 10.0;

/// Of a chart with so many plots.
pub fn size(plots: usize) -> (u32, u32) {
    let rows = plots.div_ceil(COLUMNS) as f64;
    ((CELL.0 * COLUMNS as f64) as u32, (LEGEND + CELL.1 * rows) as u32)
}

/// What lines of a colour are: in the legend, from `x` on.
pub fn key<DB: DrawingBackend>(area: &Area<DB>, x: f64, color: RGBColor, name: &str) -> Drawn<DB> {
    let y = px(18.0);
    area.draw(&PathElement::new(vec![(px(x), y), (px(x + 24.0), y)], stroke(color, 2.5)))?;
    write(area, name, (px(x + 30.0), y), &letters(14.0, INK, HPos::Left, VPos::Center))
}

/// Draws each panel in a cell of its own.
pub fn cells<DB: DrawingBackend, P>(
    area: &Area<DB>,
    panels: &[P],
    draw: impl Fn(&P, &Area<DB>) -> Drawn<DB>,
) -> Drawn<DB> {
    let size = (px(CELL.0) as u32, px(CELL.1) as u32);
    panels.iter().enumerate().try_for_each(|(i, panel)| {
        let left = px(CELL.0 * (i % COLUMNS) as f64);
        let top = px(LEGEND + CELL.1 * (i / COLUMNS) as f64);
        draw(panel, &area.clone().shrink((left, top), size))
    })
}

/// A cell's plot, below its name. Names of ticks have `left` pixels at the left.
pub fn plot<'a, DB: DrawingBackend>(
    cell: &Area<DB>,
    name: &str,
    left: f64,
    x: Axis,
    y: Axis,
) -> Drawn<DB, Plot<'a, DB>> {
    let name = fitting(name, 15.0, CELL.0 - 60.0);
    let middle = px((CELL.0 + left - RIGHT) / 2.0);
    write(cell, &name, (middle, px(12.0)), &letters(15.0, INK, HPos::Center, VPos::Center))?;
    let mut plot = ChartBuilder::on(cell)
        .margin_top(px(24.0))
        .margin_right(px(RIGHT))
        .margin_bottom(px(6.0))
        .x_label_area_size(px(24.0))
        .y_label_area_size(px(left))
        .build_cartesian_2d(x, y)?;
    mesh(&mut plot, 3.0, 12.0).draw()?;
    Ok(plot)
}
