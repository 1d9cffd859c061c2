//! `kerase experiment --dry-run`: what would be run, how long that takes, and how much memory.

use std::collections::BTreeMap;

use crate::backend::{Backend, ImageShape};
use crate::bench::sample::Sample;
use crate::bench::step::times;
use crate::cli::output::print;
use crate::data::set::VolumeSet;
use crate::device::{Device, Work};
use crate::engine::Workload;
use crate::error::Result;
use crate::experiment::Graph;
use crate::experiment::node::{Node, Task};
use crate::experiment::settings::{SetSource, Settings};
use crate::model::VarNet;
use crate::plan::Plan;
use crate::report::study::numbers::duration;
use crate::table::{Style, render};
use crate::unlearn::Method;

/// What would be run.
pub struct DryRun<'s> {
    pub settings: &'s Settings,
    pub graph: &'s Graph,
    pub device: Device,
    /// Processes side by side.
    pub jobs: u16,
}

/// What was measured on the device, and counted for it.
struct Estimate {
    /// Of a batch's gradient, and of a slice's reconstruction.
    seconds_per_gradient: f64,
    seconds_per_image: f64,
    /// Of the run that needs most.
    bytes: u64,
}

/// Slices of one size: as they are stored, and their targets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    coils: usize,
    matrix: [usize; 2],
    target: [usize; 2],
}

impl Work for DryRun<'_> {
    type Output = Result<()>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let estimate = self.estimate(ops)?;
        let seconds = |node: &Node| {
            let work = node.work;
            work.gradients as f64 * estimate.seconds_per_gradient
                + work.images as f64 * estimate.seconds_per_image
        };
        let header = ["run", "steps", "slices reconstructed", "expected time", "state"].map(String::from);
        let rows = self.graph.nodes.iter().map(|node| {
            let state = match (node.is_done(), node.directory.exists()) {
                (true, _) => "done",
                (_, true) => "begun",
                _ => "",
            };
            let time = match node.task {
                Task::Simulate(_) => String::new(),
                _ => duration(seconds(node)),
            };
            vec![
                node.name.clone(),
                node.work.steps.to_string(),
                node.work.images.to_string(),
                time,
                state.into(),
            ]
        });
        print(render(Style::Terminal, header.to_vec(), rows, 1))?;
        let parts = self.graph.nodes.len();
        let left: Vec<&Node> = self.graph.nodes.iter().filter(|node| !node.is_done()).collect();
        if left.is_empty() {
            return print(format!(
                "{parts} parts, all of them done: the command without --dry-run reports on them"
            ));
        }
        let left: f64 = left.into_iter().map(seconds).sum();
        let shared = match self.jobs {
            1 => String::new(),
            jobs => format!(", shared by {jobs} processes"),
        };
        print(format!(
            "{parts} parts; what is not done takes {}{shared} on {} at {} a step of one term and {} a slice \
             (measured just now, data in memory); a run needs up to {:.1} MiB",
            duration(left),
            self.device.described(),
            duration(estimate.seconds_per_gradient),
            duration(estimate.seconds_per_image),
            estimate.bytes as f64 / f64::from(1 << 20)
        ))
    }
}

impl DryRun<'_> {
    /// The shapes of the retain set, or of all sets, and how many slices have them.
    fn shapes(&self, all: bool) -> Result<BTreeMap<Shape, usize>> {
        let most = self.settings.sampling.virtual_coils.unwrap_or(usize::MAX);
        let mut shapes = BTreeMap::new();
        let mut add = |shape: Shape, slices: usize| *shapes.entry(shape).or_insert(0) += slices;
        for (_, source) in self.settings.sets.all().into_iter().take(if all { usize::MAX } else { 1 }) {
            match source {
                SetSource::Path(path) => {
                    for (shape, slices) in VolumeSet::open(path)?.shapes() {
                        let target = shape.target.unwrap_or(shape.matrix);
                        add(Shape { coils: shape.coils.min(most), matrix: shape.matrix, target }, slices);
                    }
                }
                SetSource::Simulated(subjects) => {
                    let config = self.settings.simulated(subjects.simulate)?;
                    let coils = config.coils.min(most);
                    let [first, last] = subjects.subjects.map(|subject| subject as usize);
                    let slices = (last + 1).saturating_sub(first) * config.slices;
                    add(Shape { coils, matrix: config.matrix, target: config.recon }, slices);
                }
            }
        }
        Ok(shapes)
    }

    fn estimate<B: Backend<Real = f32>>(&self, ops: &B) -> Result<Estimate> {
        let network = self.settings.network;
        let recompute = self.settings.training.low_memory;
        let all = self.shapes(true)?;
        // A batch ends where a set does.
        let batch = self.settings.training.batch.min(all.values().sum());
        let image = |shape: &Shape, n: usize| {
            let [rows, columns] = shape.matrix;
            ImageShape { n, coils: shape.coils, rows, columns }
        };
        // Of the retain set's slices the largest stand for all: an estimate should rather be too long.
        let retain = self.shapes(false)?;
        let largest = |shapes: &BTreeMap<Shape, usize>| {
            shapes.keys().copied().max_by_key(|shape| shape.coils * shape.matrix[0] * shape.matrix[1])
        };
        let typical = largest(&retain).expect("a set has volumes");

        let net = VarNet::new(network)?;
        let mut bytes = 0;
        for shape in all.keys() {
            let task = Workload::Learn { target: shape.target, recompute };
            bytes = bytes.max(Plan::of(&net, image(shape, batch), task, self.device.precision())?.total());
        }
        let methods = self.settings.methods.iter().filter_map(|row| row.method.parse::<Method>().ok());
        let extra = methods.map(|method| method.extra_networks()).max().unwrap_or(0);
        bytes += (extra * net.layout.len() * size_of::<f32>()) as u64;

        // The first time makes what is made once.
        let sample = Sample::of(network, image(&typical, batch), typical.target);
        let mut trainer = sample.trainer(ops, recompute)?;
        let [seconds_per_gradient, _] = times([1, 1], || trainer.run())?;
        let single = Sample::of(network, image(&typical, 1), typical.target);
        let mut reconstructor = single.reconstructor(ops)?;
        let [seconds_per_image, _] = times([1, 1], || reconstructor.run())?;
        Ok(Estimate { seconds_per_gradient, seconds_per_image, bytes })
    }
}
