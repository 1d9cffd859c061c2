//! How soon networks relearn the forget set: a plot for each compared method, beside the oracle's.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, ticks};
use super::draw::{Area, Chart, Drawn, FAINT, INK, MIDDLE, PALETTE, fitting, letters, px, stroke, write};
use crate::audit::evidence::Relearning;
use crate::audit::relearn::Relearned;
use crate::report::study::condition::Study;
use crate::report::study::evidence::audits;
use crate::report::study::numbers;

const COLUMNS: usize = 3;
const CELL: (u32, u32) = (240, 186);
/// Above the plots.
const LEGEND: u32 = 34;

pub const READING: &str = "Mean loss on the forget set over steps of fine-tuning on it, as a multiple of G's loss there: at \
                           the dashed line it is back, which a dot marks. A line a seed; a line that ends above it was not \
                           back within the steps that were tried. Where the unlearned network is back much sooner than the \
                           oracle, it has kept something.";

pub struct RelearnCurves {
    panels: Vec<Panel>,
}

struct Panel {
    name: String,
    /// Whether it is the oracle's, and its points.
    lines: Vec<(bool, Vec<(f64, f64)>)>,
}

impl RelearnCurves {
    /// None where nothing was relearned.
    pub fn new(study: &Study) -> Option<Self> {
        let audits = audits(study).into_iter();
        Self::of(audits.filter_map(|audit| Some((audit.label.as_str(), audit.relearning.as_ref()?))))
    }

    /// A plot for each name; those of one name stand side by side.
    pub fn of<'r>(relearnings: impl Iterator<Item = (&'r str, &'r Relearning)>) -> Option<Self> {
        let mut panels: Vec<Panel> = Vec::new();
        for (name, relearning) in relearnings {
            let points = |relearned: &Relearned| -> Vec<(f64, f64)> {
                let points = relearned.curve.iter().map(|p| (p.step as f64, p.loss / relearning.goal));
                points.filter(|p| p.1.is_finite()).collect()
            };
            if panels.last().is_none_or(|panel| panel.name != name) {
                panels.push(Panel { name: name.into(), lines: Vec::new() });
            }
            let networks = &relearning.networks;
            let lines = [(true, &networks.oracle), (false, &networks.after)];
            let lines = lines.into_iter().filter_map(|(oracle, of)| Some((oracle, points(of.as_ref()?))));
            panels.last_mut().expect("just pushed").lines.extend(lines.filter(|(_, line)| !line.is_empty()));
        }
        panels.retain(|panel| panel.lines.iter().any(|(oracle, _)| !oracle));
        (!panels.is_empty()).then_some(Self { panels })
    }
}

fn color(oracle: bool) -> RGBColor {
    if oracle { MIDDLE } else { PALETTE[0] }
}

impl Chart for RelearnCurves {
    fn size(&self) -> (u32, u32) {
        let rows = self.panels.len().div_ceil(COLUMNS) as u32;
        (CELL.0 * COLUMNS as u32, LEGEND + CELL.1 * rows)
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        for (oracle, name, x) in [(false, "unlearned", 12.0), (true, "oracle", 150.0)] {
            let y = px(18.0);
            area.draw(&PathElement::new(vec![(px(x), y), (px(x + 24.0), y)], stroke(color(oracle), 2.5)))?;
            write(area, name, (px(x + 30.0), y), &letters(14.0, INK, HPos::Left, VPos::Center))?;
        }
        self.panels.iter().enumerate().try_for_each(|(i, panel)| {
            let left = px(f64::from(CELL.0)) * (i % COLUMNS) as i32;
            let top = px(f64::from(LEGEND)) + px(f64::from(CELL.1)) * (i / COLUMNS) as i32;
            let size = (px(f64::from(CELL.0)) as u32, px(f64::from(CELL.1)) as u32);
            panel.draw(&area.clone().shrink((left, top), size))
        })
    }
}

impl Panel {
    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        let all = || self.lines.iter().flat_map(|(_, line)| line.iter().copied());
        let right = all().map(|p| p.0).fold(1.0, f64::max) * 1.05;
        let [low, high] = [all().map(|p| p.1).fold(1.0, f64::min), all().map(|p| p.1).fold(1.0, f64::max)];
        let room = (0.06 * (high - low)).max(0.02);
        let (bottom, top) = (low - room, high + room);
        let name = fitting(&self.name, 15.0, f64::from(CELL.0) - 60.0);
        let middle = px((f64::from(CELL.0) + 44.0 - 10.0) / 2.0);
        write(area, &name, (middle, px(12.0)), &letters(15.0, INK, HPos::Center, VPos::Center))?;
        let mut chart = ChartBuilder::on(area)
            .margin_top(px(24.0))
            .margin_right(px(10.0))
            .margin_bottom(px(6.0))
            .x_label_area_size(px(24.0))
            .y_label_area_size(px(44.0))
            .build_cartesian_2d(
                Axis::new(0.0, right, ticks(0.0, right, 4), |step| numbers::trimmed(step, 1)),
                Axis::new(bottom, top, ticks(bottom, top, 4), |share| numbers::trimmed(share, 2)),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(stroke(FAINT, 0.75))
            .axis_style(stroke(MIDDLE, 1.0))
            .set_all_tick_mark_size(px(3.0))
            .label_style(letters(12.0, INK, HPos::Center, VPos::Center))
            .draw()?;
        let goal = DashedLineSeries::new([(0.0, 1.0), (right, 1.0)], px(5.0), px(4.0), stroke(INK, 1.0));
        chart.draw_series(goal)?;
        for (oracle, line) in &self.lines {
            let style = stroke(color(*oracle).mix(0.85), 1.5);
            chart.draw_series(LineSeries::new(line.iter().copied(), style))?;
            // A line of a step or none would hardly be seen.
            let back = line.last().filter(|(_, loss)| *loss <= 1.0);
            chart.draw_series(back.map(|&end| Circle::new(end, px(3.5), color(*oracle).filled())))?;
        }
        Ok(())
    }
}
