//! Loss over steps, a plot for each of G, the oracle and the compared methods.

use plotters::prelude::*;

use super::axis::{Axis, ticks};
use super::draw::{Area, Chart, Drawn, MIDDLE, PALETTE, stroke};
use super::grid;
use crate::experiment::results::{LossPoint, RunResult};
use crate::report::study::condition::{Condition, Study};
use crate::report::study::numbers;

/// Points of a curve: what lies between two is their mean.
const POINTS: usize = 80;

pub const READING: &str = "A line a seed, means over stretches of steps. For methods, J on retain slices and on forget slices \
                           where the run tells them apart; the objective, with its signs, weights and penalties, where it \
                           does not. Each plot has its own scale.";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Objective,
    Retain,
    Forget,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Objective, Self::Retain, Self::Forget];

    fn name(self) -> &'static str {
        match self {
            Self::Objective => "objective",
            Self::Retain => "retain slices",
            Self::Forget => "forget slices",
        }
    }

    fn color(self) -> RGBColor {
        match self {
            Self::Objective => MIDDLE,
            Self::Retain => PALETTE[0],
            Self::Forget => PALETTE[1],
        }
    }

    fn of(self, point: &LossPoint) -> Option<f64> {
        match self {
            Self::Objective => Some(point.loss),
            Self::Retain => point.retain_loss,
            Self::Forget => point.forget_loss,
        }
    }
}

pub struct LossCurves {
    panels: Vec<Panel>,
}

struct Panel {
    name: String,
    lines: Vec<(Kind, Vec<(f64, f64)>)>,
}

impl LossCurves {
    /// None where no run has a curve.
    pub fn new(study: &Study) -> Option<Self> {
        let panels: Vec<Panel> =
            study.rows().map(Panel::new).filter(|panel| !panel.lines.is_empty()).collect();
        (!panels.is_empty()).then_some(Self { panels })
    }
}

impl Chart for LossCurves {
    fn size(&self) -> (u32, u32) {
        grid::size(self.panels.len())
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        let drawn = |kind: &Kind| self.panels.iter().any(|p| p.lines.iter().any(|line| line.0 == *kind));
        for (i, kind) in Kind::ALL.into_iter().filter(drawn).enumerate() {
            grid::key(area, 12.0 + 150.0 * i as f64, kind.color(), kind.name())?;
        }
        grid::cells(area, &self.panels, Panel::draw)
    }
}

impl Panel {
    fn new(condition: &Condition) -> Self {
        let has = |kind: Kind| {
            condition
                .runs
                .iter()
                .flat_map(|run| &run.loss)
                .any(|point| kind.of(point).is_some_and(f64::is_finite))
        };
        let split = has(Kind::Retain) || has(Kind::Forget);
        let kinds = Kind::ALL.into_iter().filter(|&kind| (kind == Kind::Objective) != split);
        let lines = kinds.flat_map(|kind| condition.runs.iter().map(move |run| (kind, thinned(run, kind))));
        Self { name: condition.label.into(), lines: lines.filter(|(_, line)| !line.is_empty()).collect() }
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        let all = || self.lines.iter().flat_map(|(_, line)| line.iter().copied());
        let range = |of: fn((f64, f64)) -> f64| {
            let low = all().map(of).fold(f64::INFINITY, f64::min);
            let high = all().map(of).fold(f64::NEG_INFINITY, f64::max);
            let room = if high > low { 0.05 * (high - low) } else { 0.5 * high.abs().max(1e-3) };
            (low - room, high + room)
        };
        let (bottom, top) = range(|p| p.1);
        let (_, right) = range(|p| p.0);
        let x = Axis::new(0.0, right, ticks(0.0, right, 4), thousands);
        let y = Axis::new(bottom, top, ticks(bottom, top, 4), short);
        let mut chart = grid::plot(area, &self.name, 52.0, x, y)?;
        for (kind, line) in &self.lines {
            let style = stroke(kind.color().mix(0.8), 1.25);
            chart.draw_series(LineSeries::new(line.iter().copied(), style))?;
        }
        Ok(())
    }
}

/// A run's curve, finite values alone, at most [`POINTS`] of them.
fn thinned(run: &RunResult, kind: Kind) -> Vec<(f64, f64)> {
    let points = run.loss.iter().filter_map(|p| Some((p.step as f64, kind.of(p)?)));
    let points: Vec<(f64, f64)> = points.filter(|p| p.1.is_finite()).collect();
    let mean = |of: fn(&(f64, f64)) -> f64, part: &[(f64, f64)]| {
        part.iter().map(of).sum::<f64>() / part.len() as f64
    };
    let parts = points.chunks(points.len().div_ceil(POINTS).max(1));
    parts.map(|part| (mean(|p| p.0, part), mean(|p| p.1, part))).collect()
}

/// "500", "2k", "1.5M".
fn thousands(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{}M", numbers::trimmed(value / 1e6, 1)),
        v if v >= 1e3 => format!("{}k", numbers::trimmed(value / 1e3, 1)),
        _ => numbers::trimmed(value, 0),
    }
}

/// At most four digits, or a power of ten.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v >= 1e4 => thousands(value),
        v if v < 1e-3 => format!("{value:.0e}"),
        _ => numbers::trimmed(value, 3),
    }
}
