//! `kerase demo`.

use std::path::PathBuf;

use crate::backend::Backend;
use crate::cli::args::DeviceArgs;
use crate::cli::output::print;
use crate::cli::stop;
use crate::demo::{Demo, Results};
use crate::device::Work;
use crate::error::Result;
use crate::table::Style;

const EXAMPLE: &str = "\
Example:
  kerase demo
  kerase demo --out my-demo --threads 2";

/// Simulates two organs, trains on both, forgets one and shows what became of it, in minutes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Directory for data, networks and results; it must be new or empty
    #[arg(long, value_name = "DIR", default_value = "kerase-demo")]
    out: PathBuf,

    #[command(flatten)]
    device: DeviceArgs,
}

impl Work for &Demo<'_> {
    type Output = Result<Option<Results>>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        Demo::run(self, ops, |text| print(text))
    }
}

impl Args {
    /// # Errors
    /// As [`Demo::run`].
    pub fn run(self) -> Result<()> {
        let device = self.device.start()?;
        let stop = stop::on_signals()?;
        let demo = Demo { out: &self.out, stop: &stop, precision: device.precision() };
        let Some(results) = device.run(&demo)?? else {
            let out = self.out.display();
            print(format!("stopped: {out} holds what was done so far; remove it to start the demo again"))?;
            stop.exit()
        };
        print(results.evaluation.summary_table(Style::Terminal))?;
        print(
            "The oracle never saw a knee. An unlearned network should be as good as the original on brains and fall \
             to the oracle on knees.",
        )?;
        for panel in results.panels {
            print(format!("look at {}", panel.display()))?;
        }
        print(format!(
            "figures in {0}/metrics.json, record in {0}/unlearned/unlearning.json",
            self.out.display()
        ))
    }
}
