//! Trains again what a run of `kerase train` trained, from its config.toml, on the CPU in float64: what roundings made of
//! the run shows in the difference of their metrics.jsonl.
//!
//! ```text
//! cargo run --release --example train_fp64 -- RUN OUT
//! ```

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use kerase::cpu::Cpu;
use kerase::error::Result;
use kerase::run::{RunDirectory, Session, Start};
use kerase::train::Training;

/// Trains again what a run trained, on the CPU in float64
#[derive(Parser)]
struct Options {
    /// A directory of `kerase train`
    run: PathBuf,
    /// The directory to make
    out: PathBuf,
}

fn main() -> Result<()> {
    let Options { run, out } = Options::parse();
    let config = RunDirectory::check(&run, Start::Resume)?.settings("train")?;
    let stop = AtomicBool::new(false);
    let training = Training { config, session: Session::alone(&out, Start::New, &stop) };
    rayon::scope(|_| training.run(&Cpu::<f64>::default()))?;
    Ok(())
}
