//! What the tests of training and unlearning share: a folder with tiny volumes, runs in it, and what they leave.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdf5_pure::{AttrValue, CompoundTypeBuilder, FileBuilder};
use kerase::data::ismrmrd::Header;
use kerase::data::volume::NewVolume;
use kerase::data::write::write_volume;
use kerase::model::{Architecture, Weights};
use kerase::run::state::Checkpoint;
use kerase::simulate::{Anatomy, SimulateConfig, file_name, simulate_volume};
use serde_json::Value;

use crate::support::Folder;

pub const NETWORK: Architecture =
    Architecture { cascades: 1, chans: 2, pools: 1, sens_chans: 2, sens_pools: 1 };
pub const NETWORK_OPTIONS: &str = "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1";
pub const SAMPLING: &str = "--mask equispaced_fraction --acceleration 4 --center-fraction 0.16";

/// One subject of 2 coils, 32 × `columns`.
pub fn volume(anatomy: Anatomy, subject: u64, slices: usize, columns: usize) -> NewVolume {
    let config = SimulateConfig {
        matrix: [32, columns],
        recon: [16, 16],
        slices,
        coils: 2,
        ..SimulateConfig::new(anatomy)
    };
    simulate_volume(&config, subject).unwrap()
}

/// A folder with sets of tiny volumes.
pub trait Sets {
    /// Adds subjects of 3 slices to a set.
    fn add(&self, set: &str, anatomy: Anatomy, subjects: std::ops::RangeInclusive<u64>);
    /// `brain` of 2 volumes, `knee` of 1, `test` with another brain.
    fn sets(&self);
    fn state(&self, run: &str) -> Checkpoint;
    /// None where nothing is kept, or it is not all there.
    fn best(&self, run: &str) -> Option<Best>;
    /// The lines of metrics.jsonl of one kind.
    fn lines(&self, run: &str, kind: &str) -> Vec<Value>;
    /// Everything of a run that must not depend on how often it was stopped.
    fn lasting(&self, run: &str) -> Lasting;
    fn init(&self, name: &str);
    fn start(&self, arguments: &str) -> Child;
}

/// What a run leaves, without how long it took.
#[derive(Debug, PartialEq)]
pub struct Lasting {
    model: Vec<u8>,
    state: Checkpoint,
    metrics: Vec<Value>,
    best: Option<Best>,
}

/// The best network that a run keeps.
#[derive(Debug, PartialEq)]
pub struct Best {
    pub model: Vec<u8>,
    pub state: Checkpoint,
    pub said: Value,
}

impl Lasting {
    pub fn steps(&self) -> u64 {
        self.state.state.step
    }
}

impl Sets for Folder {
    fn add(&self, set: &str, anatomy: Anatomy, subjects: std::ops::RangeInclusive<u64>) {
        std::fs::create_dir_all(self.path(set)).unwrap();
        for subject in subjects {
            let path = self.path(set).join(file_name(anatomy, subject));
            write_volume(path, &volume(anatomy, subject, 3, 24)).unwrap();
        }
    }

    fn sets(&self) {
        self.add("brain", Anatomy::Brain, 1..=2);
        self.add("knee", Anatomy::Knee, 1..=1);
        self.add("test", Anatomy::Brain, 3..=3);
    }

    fn state(&self, run: &str) -> Checkpoint {
        let len = NETWORK.layout().0.len();
        Checkpoint::read(&self.path(run).join("state.safetensors"), len).unwrap()
    }

    fn best(&self, run: &str) -> Option<Best> {
        let best = format!("{run}/best");
        let config = self.path(&best).join("config.toml");
        self.path(&best).join("best.json").exists().then(|| {
            let mut state = self.state(&best);
            state.state.seconds = 0.0;
            assert!(config.exists() && self.list(&best).len() == 4, "{:?}", self.list(&best));
            let said = self.json(&format!("{best}/best.json"));
            Best { model: self.read(&format!("{best}/model.safetensors")), state, said }
        })
    }

    fn lines(&self, run: &str, kind: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(&format!("{run}/metrics.jsonl"))).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| kind.is_empty() || line["kind"] == kind).collect()
    }

    fn lasting(&self, run: &str) -> Lasting {
        let mut state = self.state(run);
        state.state.seconds = 0.0;
        let mut metrics = self.lines(run, "");
        for line in &mut metrics {
            line.as_object_mut().unwrap().remove("seconds");
        }
        let best = self.best(run);
        Lasting { model: self.read(&format!("{run}/model.safetensors")), state, metrics, best }
    }

    /// A network that has learnt nothing.
    fn init(&self, name: &str) {
        let weights = Weights {
            architecture: NETWORK,
            parameters: NETWORK.initial_parameters(1),
            metadata: Default::default(),
        };
        weights.write(self.path(name)).unwrap();
    }

    fn start(&self, arguments: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kerase"));
        command.current_dir(self.path("")).args(arguments.split_whitespace());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// Waits until a run has logged so many lines, then sends it a signal and returns how it ended.
#[cfg(unix)]
pub fn signal_after(mut child: Child, log: &Path, lines: usize, signal: &str) -> std::process::ExitStatus {
    let started = Instant::now();
    let logged = || std::fs::read_to_string(log).map_or(0, |text| text.lines().count());
    while logged() < lines {
        assert!(started.elapsed() < Duration::from_secs(60), "no {lines} lines in {}", log.display());
        assert!(child.try_wait().unwrap().is_none(), "the run ended before the signal");
        std::thread::sleep(Duration::from_millis(1));
    }
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    child.wait().unwrap()
}

/// How a volume's file differs from what `write_volume` writes.
#[derive(Default)]
pub struct Oddity {
    pub no_target: bool,
    /// In place of the largest value; `Some(None)` leaves the attribute out.
    pub max: Option<Option<f64>>,
}

/// Writes what `write_volume` refuses: NaN, no target, another `max`.
pub fn write_odd(path: &Path, volume: &NewVolume, odd: Oddity) {
    let NewVolume { slices, coils, matrix: [rows, columns], recon: [height, width], .. } = *volume;
    let sizes = |sizes: &[usize]| sizes.iter().map(|&size| size as u64).collect::<Vec<_>>();
    let complex = CompoundTypeBuilder::with_size(8).f32_field("r", 0).f32_field("i", 4).build().unwrap();
    let mut file = FileBuilder::new();
    file.create_dataset("kspace")
        .with_compound_data(
            complex,
            bytemuck::cast_slice(&volume.kspace).to_vec(),
            volume.kspace.len() as u64,
        )
        .with_shape(&sizes(&[slices, coils, rows, columns]));
    if !odd.no_target {
        file.create_dataset("reconstruction_rss")
            .with_f32_data(&volume.reconstruction_rss)
            .with_shape(&sizes(&[slices, height, width]));
    }
    file.create_dataset("ismrmrd_header").with_vlen_strings(&[&Header::xml(volume)]).with_shape(&[]);
    let largest = volume.reconstruction_rss.iter().copied().fold(0.0, f32::max);
    if let Some(max) = odd.max.unwrap_or(Some(f64::from(largest))) {
        file.set_attr("max", AttrValue::F64(max));
    }
    let bytes = file.finish().unwrap();
    std::fs::write(path, bytes).unwrap();
}
