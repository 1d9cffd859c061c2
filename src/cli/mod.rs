//! The command line. Each command is a file with its `Args`: clap parses them, `plan` checks everything that can be
//! checked before anything is computed or written, and what remains is done by the library.

pub mod args;
pub mod audit;
pub mod bench;
pub mod build_info;
pub mod convert;
pub mod demo;
pub mod evaluate;
pub mod experiment;
pub mod info;
pub mod labelled;
pub mod loader_args;
pub mod output;
pub mod plan;
pub mod rank_args;
pub mod reconstruct;
pub mod report;
pub mod request_args;
pub mod run_args;
pub mod sample_args;
pub mod simulate;
pub mod stop;
pub mod train;
pub mod trained_with;
pub mod unlearn;
pub mod validate;
pub mod verify;
pub mod volume_figure;

use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::provenance::version_and_commit;

/// Trains E2E-VarNet for multi-coil MRI reconstruction and makes trained models forget data.
#[derive(Debug, Parser)]
#[command(version = version(), max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// In the order in which one meets them. (A doc comment would become the text of the help.)
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Simulate(simulate::Args),
    Convert(convert::Args),
    Train(train::Args),
    Unlearn(unlearn::Args),
    Audit(audit::Args),
    Verify(verify::Args),
    Evaluate(evaluate::Args),
    Reconstruct(reconstruct::Args),
    Experiment(experiment::Args),
    Report(report::Args),
    Bench(bench::Args),
    Validate(validate::Args),
    Info(info::Args),
}

fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(version_and_commit);
    &VERSION
}

impl Cli {
    /// Runs the command that was given.
    ///
    /// # Errors
    /// What the command returns; [`Error::exit_code`](crate::error::Error::exit_code) is the process's.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Demo(args) => args.run(),
            Command::Simulate(args) => args.run(),
            Command::Convert(args) => args.run(),
            Command::Train(args) => args.run(),
            Command::Unlearn(args) => args.run(),
            Command::Audit(args) => args.run(),
            Command::Verify(args) => args.run(),
            Command::Evaluate(args) => args.run(),
            Command::Reconstruct(args) => args.run(),
            Command::Experiment(args) => args.run(),
            Command::Report(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Validate(args) => args.run(),
            Command::Info(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("kerase {}", command.get_name());
            assert!(help.contains(&example), "{}: {help}", command.get_name());
        }
    }
}
