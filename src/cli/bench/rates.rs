//! `kerase bench --data`: how quickly slices come from the files of a set, against how quickly training steps take
//! them.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::problem::{Problem, check};
use super::{Args, driver, loader, step};
use crate::backend::{Backend, ImageShape};
use crate::data::set::{SliceShape, VolumeSet};
use crate::device::{Device, Work};
use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::precision::Precision;
use crate::progress::Progress;

/// A step of so many seconds is not taken again: what is made in the first is little of it.
const LONG: f64 = 5.0;

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    loader: loader::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<StepRate>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    step_left_out: Option<String>,
}

/// The training step that the slices are for, one slice at a time.
#[derive(Serialize)]
struct StepRate {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    precision: Precision,
    #[serde(flatten)]
    architecture: Architecture,
    coils: usize,
    height: usize,
    width: usize,
    seconds: f64,
    slices_per_second: f64,
    /// The loader's slices a second for each that steps take: in the first pass, and in those after it.
    first_loader_to_step: f64,
    loader_to_step: f64,
    /// Who waits, after the first pass.
    waits: Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Waits {
    /// Slices lie ready.
    Loader,
    /// For its data.
    Device,
}

impl Waits {
    fn of(loader_to_step: f64) -> Self {
        if loader_to_step < 1.0 { Self::Device } else { Self::Loader }
    }
}

/// # Errors
/// A set or slice that cannot be read, a network that is none, a device that is not there or fails. Where a step is
/// impossible or too large for the device, the report says so.
pub fn measure(args: &Args, data: &Path) -> Result<Report> {
    let architecture = args.network.architecture()?;
    let device = if args.loader_only { None } else { Some(args.device.start()?) };
    let set = VolumeSet::open(data)?;
    let shapes = set.shapes();
    let (&most, _) = shapes.iter().max_by_key(|(_, slices)| **slices).expect("a set has slices");
    let loader = loader::measure(set, args.iters, args.loader.options())?;
    let report = Report { loader, step: None, step_left_out: None };
    let Some(device) = device else { return Ok(report) };
    let without = |report, why| Ok(Report { step_left_out: Some(why), ..report });
    let SliceShape { coils, matrix: [rows, columns], target } = most;
    let Some(target) = target else {
        return without(report, "most slices have no target to learn from".into());
    };
    let shape = ImageShape { n: 1, coils, rows, columns };
    let timed = check(architecture, shape).and_then(|()| {
        let problem = Problem::of(architecture, shape, target);
        device.run(TrainingStep { args, problem }).flatten()
    });
    let seconds = match timed {
        Ok(seconds) => seconds,
        Err(Error::NoMemory(why) | Error::Input(why)) => return without(report, why),
        Err(error) => return Err(error),
    };
    let step = Some(StepRate::of(&report.loader, device, architecture, most, seconds));
    Ok(Report { step, ..report })
}

impl StepRate {
    fn of(
        loader: &loader::Report,
        device: Device,
        architecture: Architecture,
        shape: SliceShape,
        seconds: f64,
    ) -> Self {
        let [first_loader_to_step, loader_to_step] = loader.rates().map(|rate| rate * seconds);
        let SliceShape { coils, matrix: [height, width], .. } = shape;
        Self {
            device: device.to_string(),
            driver: driver(device),
            precision: device.precision(),
            architecture,
            coils,
            height,
            width,
            seconds,
            slices_per_second: 1.0 / seconds,
            first_loader_to_step,
            loader_to_step,
            waits: Waits::of(loader_to_step),
        }
    }
}

/// The seconds that it takes.
struct TrainingStep<'a> {
    args: &'a Args,
    problem: Problem,
}

impl Work for TrainingStep<'_> {
    type Output = Result<f64>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Result<f64> {
        let Self { args: &Args { iters, warm_up, low_memory, .. }, problem } = self;
        let mut engine = step::ready_to_train(ops, &problem, low_memory)?;
        let mut progress = Progress::new(1 + u64::from(warm_up) + u64::from(iters), "taking steps");
        let mut take = || {
            problem.train(&mut engine)?;
            progress.step("");
            Ok(())
        };
        let [first, _] = step::times([0, 1], &mut take)?;
        let [median, _] = if first > LONG { [first; 2] } else { step::times([warm_up, iters], &mut take)? };
        progress.finish();
        Ok(median)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.loader)?;
        match (&self.step, &self.step_left_out) {
            (Some(step), _) => write!(f, "\n{step}"),
            (None, Some(why)) => {
                write!(f, "\nno step was timed to set this against: {why}")?;
                write!(f, "\na step that takes less than a slice here waits for its data")
            }
            (None, None) => write!(f, "\na step that takes less than a slice here waits for its data"),
        }
    }
}

impl fmt::Display for StepRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, precision, architecture, coils, height, width, slices_per_second, .. } = self;
        writeln!(
            f,
            "a training step of a VarNet of {architecture} on {device}, {precision}: {slices_per_second:.1} slices/s \
             ({:.2} ms for a slice of {coils} coils, {height} x {width})",
            1e3 * self.seconds
        )?;
        let [first, again] = [self.first_loader_to_step, self.loader_to_step].map(who_waits);
        write!(f, "first: {first}\nagain: {again}")
    }
}

fn who_waits(loader_to_step: f64) -> String {
    match Waits::of(loader_to_step) {
        Waits::Loader => {
            format!("the loader reads {loader_to_step:.2} times what steps take, and waits for them")
        }
        Waits::Device => format!(
            "the loader reads {loader_to_step:.2} times what steps take: the device waits for data {:.0} % of the time",
            100.0 * (1.0 - loader_to_step)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_is_waited_for() {
        assert_eq!([0.25, 1.0, 3.0].map(Waits::of), [Waits::Device, Waits::Loader, Waits::Loader]);
        assert!(
            who_waits(0.25)
                .ends_with("0.25 times what steps take: the device waits for data 75 % of the time")
        );
        assert!(who_waits(3.0).contains("3.00 times") && who_waits(3.0).contains("waits for them"));
    }
}
