//! How far unlearning has moved each part of the network.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::draw::{Area, Chart, Drawn, INK, MIDDLE, PALETTE, fitting, letters, mark, px, stroke, write};
use super::plot::described;
use crate::audit::distance::{Moved, PartDistance};
use crate::experiment::results::AuditResult;
use crate::report::study::condition::Study;
use crate::report::study::evidence::audits;

const SIZE: (u32, u32) = (720, 360);
const LEGEND: f64 = 130.0;

pub const READING: &str = "Distance of each part's weights from G's, relative to the norm of G's: ‖θ − θ_G‖ / ‖θ_G‖, mean over \
                           seeds, on a logarithmic scale; S is the sensitivity network, numbers are cascades. A part that \
                           has not moved stands at the lower edge. The oracle's weights, from a training of their own, \
                           are far away whatever they do: a distance is no measure of forgetting.";

pub struct Distances {
    parts: Vec<String>,
    series: Vec<Series>,
}

struct Series {
    label: String,
    /// None for the oracle.
    index: Option<usize>,
    /// Of each part: a power of ten; none where it has not moved.
    powers: Vec<Option<f64>>,
}

impl Distances {
    /// None where nothing was audited.
    pub fn new(study: &Study) -> Option<Self> {
        let audits = audits(study);
        let parts_of = |audit: &AuditResult| -> Vec<String> {
            let parts = audit.distances.iter().filter(|part| part.part != "all");
            parts.map(|part| name(&part.part)).collect()
        };
        let parts = parts_of(audits.first()?);
        let mut labels: Vec<&str> = Vec::new();
        for audit in &audits {
            if !labels.contains(&audit.label.as_str()) {
                labels.push(&audit.label);
            }
        }
        let count = parts.len();
        let series_of = |label: &str, index: Option<usize>, of: &[&AuditResult]| {
            let moved = |part: &PartDistance| if index.is_some() { part.after } else { part.oracle };
            let mean = |i: usize| -> Option<f64> {
                let moved: Vec<Moved> =
                    of.iter().filter_map(|audit| moved(audit.distances.get(i)?)).collect();
                let mean = moved.iter().map(|m| m.relative_l2).sum::<f64>() / moved.len() as f64;
                (mean > 0.0 && mean.is_finite()).then(|| mean.log10())
            };
            let any = of.iter().any(|audit| audit.distances.iter().any(|part| moved(part).is_some()));
            any.then(|| Series { label: label.into(), index, powers: (0..count).map(mean).collect() })
        };
        let mut series: Vec<Series> = Vec::new();
        for label in labels {
            let of: Vec<&AuditResult> = audits.iter().filter(|a| a.label == label).copied().collect();
            series.extend(series_of(label, Some(study.index(label)), &of));
        }
        // Every audit of a seed has the same.
        series.extend(series_of("oracle", None, &audits));
        let moved = series.iter().any(|series| series.powers.iter().any(Option::is_some));
        moved.then_some(Self { parts, series })
    }
}

/// "S", "1", "2".
fn name(part: &str) -> String {
    let number = part.strip_prefix("cascades.").and_then(|number| number.parse::<usize>().ok());
    number.map_or_else(|| "S".into(), |number| (number + 1).to_string())
}

impl Series {
    fn color(&self) -> RGBColor {
        self.index.map_or(MIDDLE, |index| PALETTE[index % PALETTE.len()])
    }
}

impl Chart for Distances {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        let powers = || self.series.iter().flat_map(|series| series.powers.iter().flatten().copied());
        let (low, high) =
            (powers().fold(f64::INFINITY, f64::min), powers().fold(f64::NEG_INFINITY, f64::max));
        let (bottom, top) = ((low - 0.3).floor(), (high + 0.1).ceil());
        let decades = (bottom as i32..=top as i32).map(f64::from).collect();
        let right = self.parts.len() as f64 - 0.5;
        let (plot, legend) = area.split_horizontally(px(f64::from(SIZE.0) - LEGEND));
        let x = Axis::new(-0.5, right, Vec::new(), |_| String::new());
        let y = Axis::new(bottom, top, decades, decade);
        let chart = described(&plot, 62.0, (x, "part of the network"), (y, "relative distance from G"))?;
        let at =
            |part: usize, power: Option<f64>| chart.backend_coord(&(part as f64, power.unwrap_or(bottom)));
        let inner = plot.strip_coord_spec();
        for (part, name) in self.parts.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(part as f64, bottom));
            write(&inner, name, (x, y + px(11.0)), &letters(14.0, INK, HPos::Center, VPos::Center))?;
        }
        for series in &self.series {
            let points: Vec<_> = series.powers.iter().enumerate().map(|(i, power)| at(i, *power)).collect();
            inner.draw(&PathElement::new(points.clone(), stroke(series.color().mix(0.75), 1.5)))?;
            for point in points {
                mark(&inner, point, series.index.unwrap_or(0), 4.0, series.color())?;
            }
        }
        for (i, series) in self.series.iter().enumerate() {
            let y = px(24.0 + 22.0 * i as f64);
            mark(&legend, (px(8.0), y), series.index.unwrap_or(0), 5.0, series.color())?;
            let label = fitting(&series.label, 14.0, LEGEND - 30.0);
            write(&legend, &label, (px(20.0), y), &letters(14.0, INK, HPos::Left, VPos::Center))?;
        }
        Ok(())
    }
}

/// "1", "0.1", "1e-4".
fn decade(power: f64) -> String {
    match power as i32 {
        power @ -3..=3 => format!("{}", 10f64.powi(power)),
        power => format!("1e{power}"),
    }
}
