//! Fig. 5: quality on what is kept over unlearning time, for the methods that were run at several retain fractions.

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, ticks};
use super::draw::{Area, Chart, Drawn, INK, MIDDLE, PALETTE, fitting, letters, mark, px, stroke, write};
use super::plot::described;
use crate::experiment::results::Measure;
use crate::report::study::condition::{Condition, Study};
use crate::report::study::findings::FORGOTTEN;
use crate::report::study::fit::{parabola, pareto_optimum};
use crate::report::study::numbers;

const SIZE: (u32, u32) = (720, 440);
/// Room for the legend at the right.
const LEGEND: f64 = 142.0;
/// Radius of the circle about the optimum.
const OPTIMUM: f64 = 11.0;

/// What is drawn, and how the optimum is chosen.
pub const READING: &str = "Each mark is a method at a retain fraction: mean over seeds, bars ± standard deviation over seeds. \
                           Curves: second-degree fit of BTA in the logarithm of time, for methods at three fractions or more. \
                           Circled: the Pareto optimum, of the networks that lost at least half of what the oracle lost on \
                           KTA (of all of them where that is not known or none did): no other is both faster and better in \
                           BTA, and it is the nearest to the corner of least time and best BTA, with both axes scaled to \
                           the extent of those networks.";

pub struct Tradeoff {
    series: Vec<Series>,
    ordinate: String,
    /// BTA of G and of the oracle.
    references: Vec<(String, f64)>,
    optimum: Option<(usize, usize)>,
}

struct Series {
    label: String,
    /// Of its colour and mark.
    index: usize,
    points: Vec<Point>,
    /// In log10 of seconds.
    fit: Option<[f64; 3]>,
}

#[derive(Clone, Copy)]
struct Point {
    fraction: f64,
    /// log10 of seconds.
    time: f64,
    bta: f64,
    sd: f64,
    forgot: bool,
}

impl Tradeoff {
    /// None where no method was run at several fractions.
    pub fn new(study: &Study) -> Option<Self> {
        let point = |condition: &&Condition| {
            let seconds = condition.seconds()?.mean;
            let bta = condition.quality(Measure::Bta)?.psnr;
            (seconds > 0.0 && bta.mean.is_finite()).then(|| Point {
                fraction: condition.fraction.unwrap_or_default(),
                time: seconds.log10(),
                bta: bta.mean,
                sd: bta.sd.unwrap_or(0.0),
                forgot: study.forgotten(condition).is_some_and(|f| f.mean >= FORGOTTEN),
            })
        };
        let series: Vec<Series> = study
            .sweeps()
            .iter()
            .map(|sweep| {
                let points: Vec<Point> = sweep.conditions.iter().filter_map(point).collect();
                let fit = parabola(&points.iter().map(|p| (p.time, p.bta)).collect::<Vec<_>>());
                Series { label: sweep.label.into(), index: study.index(sweep.label), points, fit }
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if series.is_empty() {
            return None;
        }
        let both = study.original().into_iter().chain(study.oracle());
        let references = both.filter_map(|c| Some((c.label.into(), c.quality(Measure::Bta)?.psnr.mean)));
        let references = references.filter(|(_, bta): &(String, f64)| bta.is_finite()).collect();
        let all = || series.iter().enumerate().flat_map(|(s, of)| (0..of.points.len()).map(move |p| (s, p)));
        let forgot: Vec<_> = all().filter(|&(s, p)| series[s].points[p].forgot).collect();
        let candidates: Vec<_> = if forgot.is_empty() { all().collect() } else { forgot };
        let places: Vec<(f64, f64)> =
            candidates.iter().map(|&(s, p)| (series[s].points[p].time, series[s].points[p].bta)).collect();
        let optimum = pareto_optimum(&places).map(|i| candidates[i]);
        let ordinate = format!("BTA: PSNR on {} (dB)", Measure::Bta.set(&study.results.kinds));
        Some(Self { series, ordinate, references, optimum })
    }

    /// "NL-FT with 10 % of the retain data".
    pub fn optimum(&self) -> Option<String> {
        let (s, p) = self.optimum?;
        let series = &self.series[s];
        Some(format!(
            "{} with {} of the retain data",
            series.label,
            numbers::percent(series.points[p].fraction)
        ))
    }

    fn points(&self) -> impl Iterator<Item = Point> {
        self.series.iter().flat_map(|series| series.points.iter().copied())
    }
}

impl Chart for Tradeoff {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        let least = |of: fn(Point) -> f64| self.points().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(Point) -> f64| self.points().map(of).fold(f64::NEG_INFINITY, f64::max);
        let room = (0.06 * (most(|p| p.time) - least(|p| p.time))).max(0.04);
        let (left, right) = (least(|p| p.time) - room, most(|p| p.time) + room);
        let highest = self.references.iter().map(|r| r.1).fold(most(|p| p.bta + p.sd), f64::max);
        let lowest = self.references.iter().map(|r| r.1).fold(least(|p| p.bta - p.sd), f64::min);
        // A parabola may leave the points far below or above, and may take a quarter more room for it.
        let curves = || self.series.iter().flat_map(Series::curve).map(|(_, bta)| bta);
        let extent = (highest - lowest).max(0.1);
        let highest = curves().fold(highest, f64::max).min(highest + 0.25 * extent);
        let lowest = curves().fold(lowest, f64::min).max(lowest - 0.25 * extent);
        let (bottom, top) = (lowest - 0.07 * extent, highest + 0.07 * extent);

        let (plot, legend) = area.split_horizontally(px(f64::from(SIZE.0) - LEGEND));
        let x = Axis::new(left, right, time_ticks(left, right), |time| numbers::duration(10f64.powf(time)));
        let y = Axis::new(bottom, top, ticks(bottom, top, 6), |bta| numbers::trimmed(bta, 2));
        let chart = described(&plot, 58.0, (x, "unlearning time"), (y, &self.ordinate))?;
        let inner = plot.strip_coord_spec();
        let at = |time: f64, bta: f64| chart.backend_coord(&(time, bta));

        for (i, (_, bta)) in self.references.iter().enumerate() {
            let line = DashedPathElement::new(
                vec![at(left, *bta), at(right, *bta)],
                px(if i == 0 { 2.0 } else { 7.0 }),
                px(4.0),
                stroke(MIDDLE, 1.25),
            );
            inner.draw(&line)?;
        }
        for series in &self.series {
            let color = series.color();
            let curve = series.curve();
            for part in curve.split(|(_, bta)| !(bottom..=top).contains(bta)).filter(|part| part.len() > 1) {
                let part: Vec<_> = part.iter().map(|&(time, bta)| at(time, bta)).collect();
                inner.draw(&PathElement::new(part, stroke(color.mix(0.75), 1.5)))?;
            }
            for point in &series.points {
                if point.sd > 0.0 {
                    let ends =
                        vec![at(point.time, point.bta - point.sd), at(point.time, point.bta + point.sd)];
                    inner.draw(&PathElement::new(ends, stroke(color, 1.5)))?;
                }
                mark(&inner, at(point.time, point.bta), series.index, 4.5, color)?;
            }
        }
        self.name_fractions(&inner, [left, right], at)?;
        if let Some((s, p)) = self.optimum {
            let point = self.series[s].points[p];
            inner.draw(&Circle::new(at(point.time, point.bta), px(OPTIMUM - 0.5), stroke(INK, 2.0)))?;
        }
        self.draw_legend(&legend)
    }
}

/// Left, top, right and bottom.
type Box = [i32; 4];

fn overlap(a: Box, b: Box) -> bool {
    a[0] <= b[2] && b[0] <= a[2] && a[1] <= b[3] && b[1] <= a[3]
}

impl Series {
    fn color(&self) -> RGBColor {
        PALETTE[self.index % PALETTE.len()]
    }

    /// Points of the fit, from the first of the points to the last; none where there is no fit.
    fn curve(&self) -> Vec<(f64, f64)> {
        let (Some([a, b, c]), Some(first), Some(last)) = (self.fit, self.points.first(), self.points.last())
        else {
            return Vec::new();
        };
        let times = (0..=80).map(|k| first.time + (last.time - first.time) * f64::from(k) / 80.0);
        times.map(|t| (t, a + b * t + c * t * t)).collect()
    }
}

impl Tradeoff {
    /// Beside each mark, where that covers no other mark, name or line; or else no other mark or name.
    fn name_fractions<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        [left, right]: [f64; 2],
        at: impl Fn(f64, f64) -> (i32, i32),
    ) -> Drawn<DB> {
        let about = |(x, y): (i32, i32), r: i32| [x - r, y - r, x + r, y + r];
        let mut marks: Vec<Box> = Vec::new();
        let mut lines: Vec<Box> = Vec::new();
        for (_, bta) in &self.references {
            let ((from, y), (to, _)) = (at(left, *bta), at(right, *bta));
            lines.push([from, y, to, y]);
        }
        for (s, series) in self.series.iter().enumerate() {
            lines.extend(series.curve().into_iter().map(|(t, bta)| about(at(t, bta), px(1.0))));
            let radius = |p: usize| self.radius(s, p);
            lines.extend(series.points.iter().map(|p| {
                let ((x, low), (_, high)) = (at(p.time, p.bta - p.sd), at(p.time, p.bta + p.sd));
                [x, high, x, low]
            }));
            marks.extend(
                series
                    .points
                    .iter()
                    .enumerate()
                    .map(|(p, point)| about(at(point.time, point.bta), radius(p))),
            );
        }
        for (s, series) in self.series.iter().enumerate() {
            for (p, point) in series.points.iter().enumerate() {
                let text = numbers::percent(point.fraction);
                let (x, y) = at(point.time, point.bta);
                let (w, h) = (px(text.chars().count() as f64 * 3.6), px(6.0));
                let away = self.radius(s, p) + px(2.0);
                let sides = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
                let place = |lines: &[Box]| {
                    sides.into_iter().find_map(|(beside, below)| {
                        let (cx, cy) = (x + beside * (w + away), y + below * (h + away));
                        let covered = [cx - w, cy - h, cx + w, cy + h];
                        let free = |taken: &Box| !overlap(covered, *taken);
                        let within = covered[0] >= at(left, 0.0).0 && covered[2] <= at(right, 0.0).0;
                        (within && marks.iter().all(free) && lines.iter().all(free))
                            .then_some(((cx, cy), covered))
                    })
                };
                // Where there is no room at all, the order along the curve tells.
                if let Some((place, covered)) = place(&lines).or_else(|| place(&[])) {
                    let [x0, y0, x1, y1] = covered;
                    area.draw(&Rectangle::new([(x0, y0), (x1, y1)], WHITE.mix(0.75).filled()))?;
                    let style = letters(12.0, series.color(), HPos::Center, VPos::Center);
                    write(area, &text, place, &style)?;
                    marks.push(covered);
                }
            }
        }
        Ok(())
    }

    /// Of what is drawn about a point.
    fn radius(&self, series: usize, point: usize) -> i32 {
        if self.optimum == Some((series, point)) { px(OPTIMUM) } else { px(5.0) }
    }

    fn draw_legend<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        let name = letters(14.0, INK, HPos::Left, VPos::Center);
        let mut y = 24.0;
        let mut line = |text: &str, draw: &dyn Fn((i32, i32)) -> Drawn<DB>| {
            draw((px(14.0), px(y)))?;
            write(area, &fitting(text, 14.0, LEGEND - 34.0), (px(30.0), px(y)), &name)?;
            y += 22.0;
            Ok(())
        };
        for series in &self.series {
            line(&series.label, &|at| mark(area, at, series.index, 4.5, series.color()))?;
        }
        for (i, (label, _)) in self.references.iter().enumerate() {
            line(label, &|(x, y)| {
                area.draw(&DashedPathElement::new(
                    vec![(x - px(11.0), y), (x + px(11.0), y)],
                    px(if i == 0 { 2.0 } else { 7.0 }),
                    px(4.0),
                    stroke(MIDDLE, 1.25),
                ))
            })?;
        }
        if self.optimum.is_some() {
            line("Pareto optimum", &|at| area.draw(&Circle::new(at, px(8.0), stroke(INK, 2.0))))?;
        }
        Ok(())
    }
}

/// 1, 2, 5 times powers of ten of a second, minute or hour; fewer over many decades. In log10 of seconds.
fn time_ticks(left: f64, right: f64) -> Vec<f64> {
    let within = |seconds: &f64| (left..=right).contains(&seconds.log10());
    let mut round: Vec<f64> = (-6..1).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e))).collect();
    round.extend([10.0, 20.0]);
    round.extend([1.0, 2.0, 5.0, 10.0, 20.0].map(|minutes| minutes * 60.0));
    round.extend([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0].map(|hours| hours * 3600.0));
    round.sort_by(f64::total_cmp);
    round.dedup();
    let mut ticks: Vec<f64> = round.into_iter().filter(within).map(f64::log10).collect();
    while ticks.len() > 10 {
        ticks = ticks.into_iter().step_by(2).collect();
    }
    ticks
}
