//! How soon networks relearn the forget set: a plot for each compared method, beside the oracle's.

use plotters::prelude::*;

use super::axis::{Axis, ticks};
use super::draw::{Area, Chart, Drawn, INK, MIDDLE, PALETTE, px, stroke};
use super::grid;
use crate::audit::evidence::Relearning;
use crate::audit::relearn::Relearned;
use crate::report::study::condition::Study;
use crate::report::study::evidence::audits;
use crate::report::study::numbers;

pub const READING: &str = "Mean loss on the forget set over steps of fine-tuning on it, as a multiple of G's loss there: at \
                           the dashed line it is back, which a dot marks. A line a seed; a line that ends above it was not \
                           back within the steps that were tried. Where the unlearned network is back much sooner than the \
                           oracle, it seems to have kept something.";

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
        grid::size(self.panels.len())
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        grid::key(area, 12.0, color(false), "unlearned")?;
        grid::key(area, 150.0, color(true), "oracle")?;
        grid::cells(area, &self.panels, Panel::draw)
    }
}

impl Panel {
    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        let all = || self.lines.iter().flat_map(|(_, line)| line.iter().copied());
        let right = all().map(|p| p.0).fold(1.0, f64::max) * 1.05;
        let [low, high] = [all().map(|p| p.1).fold(1.0, f64::min), all().map(|p| p.1).fold(1.0, f64::max)];
        let room = (0.06 * (high - low)).max(0.02);
        let (bottom, top) = (low - room, high + room);
        let x = Axis::new(0.0, right, ticks(0.0, right, 4), |step| numbers::trimmed(step, 1));
        let y = Axis::new(bottom, top, ticks(bottom, top, 4), |share| numbers::trimmed(share, 2));
        let mut chart = grid::plot(area, &self.name, 44.0, x, y)?;
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
