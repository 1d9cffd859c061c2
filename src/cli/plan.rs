//! `kerase info --plan`: what a network needs of a device's memory, before anything is started.

use serde::Serialize;

use super::args::NetworkArgs;
use crate::backend::{ImageShape, Purpose};
use crate::data::set::VolumeSet;
use crate::engine::{Workload, beside};
use crate::error::{Error, Result};
use crate::model::{Architecture, VarNet};
use crate::plan::{Plan, countable};
use crate::precision::Precision;

/// What is planned for; without options it is the paper's network, on the largest slices of --data, or else on
/// a fastMRI brain slice.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// Count the memory that training and inference of a network need: that of --model, or of the options below
    #[arg(long)]
    pub plan: bool,

    #[command(flatten)]
    network: NetworkArgs,

    /// Coils of a slice [default: those of the largest slices of --data, or 16]
    #[arg(long, value_name = "N", help_heading = "Slices of a plan")]
    coils: Option<usize>,

    /// k-space matrix [default: that of the largest slices of --data, or 640 368]
    #[arg(long, num_args = 2, value_names = ["ROWS", "COLUMNS"], help_heading = "Slices of a plan")]
    matrix: Option<Vec<usize>>,

    /// Slices in a step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Slices of a plan")]
    batch: Option<usize>,

    /// Plan for a training with --low-memory
    #[arg(long, help_heading = "Slices of a plan")]
    low_memory: bool,

    /// Plan for fp32, tf32 or bf16, which stores feature maps in half the memory [default: fp32]
    #[arg(long, value_name = "PRECISION", help_heading = "Slices of a plan")]
    precision: Option<Precision>,
}

/// What a network needs for batches of one shape.
#[derive(Debug, Serialize)]
pub struct Report {
    architecture: Architecture,
    batch: usize,
    coils: usize,
    matrix: [usize; 2],
    /// The set whose largest slices gave what no option did.
    #[serde(skip_serializing_if = "Option::is_none")]
    largest_of: Option<String>,
    low_memory: bool,
    precision: Precision,
    /// Coil images that go through the sensitivity network at a time.
    group: usize,
    training: Need,
    inference: Need,
    /// Training with the room for inference beside it.
    training_and_validation_bytes: u64,
    /// Of the host, where a training saves or is read back.
    host_bytes_while_saving: u64,
}

#[derive(Debug, Serialize)]
struct Need {
    total_bytes: u64,
    /// By what buffers are for.
    bytes: Plan,
    keeps: &'static str,
    /// In the backward pass.
    makes_again: &'static str,
}

impl PlanArgs {
    /// What needs how much, where `--plan` was given. `model` is the network of `--model`, `set` what `--data` names.
    ///
    /// # Errors
    /// Options of a plan without it, a network that is impossible, or images that are too small for it.
    pub fn report(&self, model: Option<Architecture>, set: Option<&VolumeSet>) -> Result<Option<Report>> {
        let Self { plan, network, coils, matrix, batch, low_memory, precision } = self;
        let shaped = [coils.is_some(), matrix.is_some(), batch.is_some(), *low_memory, precision.is_some()];
        if !plan {
            return if shaped.contains(&true) || network.any() {
                Err(Error::input("the options of a network and its slices go with --plan: add it"))
            } else {
                Ok(None)
            };
        }
        if model.is_some() && network.any() {
            return Err(Error::input(
                "--plan counts for the network of --model: leave out the network's options",
            ));
        }
        let architecture = network.architecture(model.unwrap_or_default())?;
        let set = set.filter(|_| coils.is_none() || matrix.is_none());
        let of_set = set.and_then(|set| {
            let shapes = set.shapes().into_keys();
            shapes.max_by_key(|shape| shape.coils * shape.matrix[0] * shape.matrix[1])
        });
        let of_set = of_set.map_or((16, [640, 368]), |shape| (shape.coils, shape.matrix));
        let matrix = matrix.as_ref().map_or(of_set.1, |sizes| [sizes[0], sizes[1]]);
        let [rows, columns] = matrix;
        let shape = ImageShape { n: batch.unwrap_or(1), coils: coils.unwrap_or(of_set.0), rows, columns };
        if !countable(shape) {
            return Err(Error::input(format!(
                "--coils {} --matrix {rows} {columns} --batch {}: expected 1 to 256 coils and slices and 1 to 16384 rows \
                 and columns",
                shape.coils, shape.n
            )));
        }
        let net = VarNet::new(architecture)?;
        // A target is as large as its image at most.
        let learn = Workload::Learn { target: matrix, recompute: *low_memory };
        let precision = precision.unwrap_or_default();
        let training = Plan::of(&net, shape, learn, precision)?;
        let inference = Plan::of(&net, shape, Workload::Reconstruct, precision)?;
        // Scratch is the larger of both.
        let of = |purpose| inference.by_purpose().get(&purpose).copied().unwrap_or_default();
        let shared = of(Purpose::Parameters) + of(Purpose::Scratch);
        let (keeps, makes_again) = if *low_memory {
            ("each cascade's input", "all feature maps, one U-Net at a time")
        } else {
            ("every feature map but pooled ones", "pooled maps")
        };
        Ok(Some(Report {
            architecture,
            batch: shape.n,
            coils: shape.coils,
            matrix,
            largest_of: set.map(|set| set.named()),
            low_memory: *low_memory,
            precision,
            group: net.group(shape),
            training_and_validation_bytes: training.total().saturating_add(inference.total() - shared),
            host_bytes_while_saving: beside(true, net.layout.len()) as u64,
            training: Need { total_bytes: training.total(), bytes: training, keeps, makes_again },
            inference: Need {
                total_bytes: inference.total(),
                bytes: inference,
                keeps: "the maps of one U-Net of either kind",
                makes_again: "nothing",
            },
        }))
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { architecture, batch, coils, matrix: [rows, columns], training, inference, .. } = self;
        let slices = if *batch == 1 { "slice" } else { "slices" };
        writeln!(f, "VarNet of {architecture}")?;
        writeln!(
            f,
            "{batch} {slices} of {coils} coils, {rows} x {columns}, in {}; {} coil images at a time",
            self.precision, self.group
        )?;
        if let Some(set) = &self.largest_of {
            writeln!(f, "sizes that no option gives are those of the largest slices of {}", set)?;
        }
        writeln!(f)?;
        let mut row = |name: &str, training: &str, inference: &str| {
            writeln!(f, "{name:<20}{training:>12}{inference:>12}")
        };
        row("MiB", if self.low_memory { "low memory" } else { "training" }, "inference")?;
        for (purpose, bytes) in training.bytes.by_purpose() {
            let inference = inference.bytes.by_purpose().get(purpose);
            row(&purpose.to_string(), &mib(*bytes), &inference.map_or("-".into(), |bytes| mib(*bytes)))?;
        }
        row("total", &mib(training.total_bytes), &mib(inference.total_bytes))?;
        for (name, need) in [("training", training), ("inference", inference)] {
            write!(
                f,
                "\n{name} keeps {}; made again for the backward pass: {}",
                need.keeps, need.makes_again
            )?;
        }
        write!(
            f,
            "\nscratch is what the GPU's kernels use within themselves\n\
             training with --validation, the rooms of both: {} MiB; rooms of other shapes are kept while there is memory\n\
             while a training saves it needs another {} MiB of the host's memory, which counts where that is the device's (cpu)",
            mib(self.training_and_validation_bytes),
            mib(self.host_bytes_while_saving)
        )
    }
}
