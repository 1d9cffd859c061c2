//! A plot's axes: the lines behind it, ticks and lettering, as all charts have them.

use plotters::chart::{ChartContext, MeshStyle};
use plotters::coord::cartesian::Cartesian2d;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::draw::{Area, Drawn, FAINT, INK, MIDDLE, letters, px, stroke};

pub type Plot<'a, DB> = ChartContext<'a, DB, Cartesian2d<Axis, Axis>>;

/// A plot whose axes say what they are. Names of ticks have `left` pixels at the left.
pub fn described<'a, DB: DrawingBackend>(
    area: &Area<DB>,
    left: f64,
    (x, abscissa): (Axis, &str),
    (y, ordinate): (Axis, &str),
) -> Drawn<DB, Plot<'a, DB>> {
    let mut plot = ChartBuilder::on(area)
        .margin(px(8.0))
        .x_label_area_size(px(42.0))
        .y_label_area_size(px(left))
        .build_cartesian_2d(x, y)?;
    mesh(&mut plot, 4.0, 14.0)
        .axis_desc_style(letters(15.0, INK, HPos::Center, VPos::Center))
        .x_desc(abscissa)
        .y_desc(ordinate)
        .draw()?;
    Ok(plot)
}

/// Ticks of a length and names of a height, in pixels.
pub fn mesh<'a, 'p, DB: DrawingBackend>(
    plot: &'p mut Plot<'a, DB>,
    tick: f64,
    name: f64,
) -> MeshStyle<'a, 'p, Axis, Axis, DB> {
    let mut mesh = plot.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(stroke(FAINT, 0.75))
        .axis_style(stroke(MIDDLE, 1.0))
        .set_all_tick_mark_size(px(tick))
        .label_style(letters(name, INK, HPos::Center, VPos::Center));
    mesh
}
