//! `kerase bench --data`: how quickly slices come from the files of a set, against how quickly training steps take
//! them.

use std::fmt;

use serde::Serialize;

use super::sample::{Sample, Sizes, check};
use super::step::times;
use super::{Subject, loader};
use crate::backend::{Backend, ImageShape};
use crate::data::loader::LoaderOptions;
use crate::data::set::VolumeSet;
use crate::data::volume::SliceShape;
use crate::device::{Device, Work};
use crate::error::{Error, Result};
use crate::model::Architecture;
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
    #[serde(flatten)]
    subject: Subject,
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

/// Steps to set the loader against.
pub struct Steps {
    pub device: Device,
    pub architecture: Architecture,
    pub low_memory: bool,
    pub warm_up: u32,
}

/// Reads the set `iters` times with each number of threads, and takes as many steps on a slice as most of the set's are.
///
/// # Errors
/// A slice that cannot be read, a network that is none, a device that fails. Where a step is impossible or too large for the
/// device, the report says so.
pub fn measure(set: VolumeSet, options: LoaderOptions, iters: u32, steps: Option<Steps>) -> Result<Report> {
    let shapes = set.shapes();
    let (&most, _) = shapes.iter().max_by_key(|(_, slices)| **slices).expect("a set has slices");
    let loader = loader::measure(set, iters, options)?;
    let (step, step_left_out) = match steps.map(|steps| steps.measure(most, iters, &loader)) {
        None => (None, None),
        Some(Ok(step)) => (Some(step), None),
        Some(Err(Error::NoMemory(why) | Error::Input(why))) => (None, Some(why)),
        Some(Err(error)) => return Err(error),
    };
    Ok(Report { loader, step, step_left_out })
}

impl Steps {
    fn measure(self, shape: SliceShape, iters: u32, loader: &loader::Report) -> Result<StepRate> {
        let Self { device, architecture, low_memory, warm_up } = self;
        let SliceShape { coils, matrix: [rows, columns], target } = shape;
        let target = target.ok_or_else(|| Error::input("most slices have no target to learn from"))?;
        let shape = ImageShape { n: 1, coils, rows, columns };
        check(architecture, shape)?;
        let sample = Sample::of(architecture, shape, target);
        let seconds = device.run(TrainingStep { sample: &sample, low_memory, warm_up, iters })??;
        let [first_loader_to_step, loader_to_step] = loader.rates().map(|rate| rate * seconds);
        Ok(StepRate {
            subject: Subject { device: device.to_string(), ..Subject::new(&sample, device, None) },
            seconds,
            slices_per_second: 1.0 / seconds,
            first_loader_to_step,
            loader_to_step,
            waits: Waits::of(loader_to_step),
        })
    }
}

/// The seconds that it takes.
struct TrainingStep<'s> {
    sample: &'s Sample,
    low_memory: bool,
    warm_up: u32,
    iters: u32,
}

impl Work for TrainingStep<'_> {
    type Output = Result<f64>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Result<f64> {
        let Self { sample, low_memory, warm_up, iters } = self;
        let mut trial = sample.trainer(ops, low_memory)?;
        let mut progress = Progress::new(1 + u64::from(warm_up) + u64::from(iters), "taking steps");
        let mut take = || {
            trial.run()?;
            progress.step("");
            Ok(())
        };
        let [first, _] = times([0, 1], &mut take)?;
        let [median, _] = if first > LONG { [first; 2] } else { times([warm_up, iters], &mut take)? };
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
        let Self { subject: Subject { device, precision, sizes, .. }, slices_per_second, .. } = self;
        let Sizes { architecture, coils, height, width } = sizes;
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
