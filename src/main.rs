use std::process::ExitCode;

use clap::Parser;
use kerase::cli::Cli;
use kerase::cli::stop::full_quotas_are_errors;
use kerase::progress::is_silent;

fn main() -> ExitCode {
    full_quotas_are_errors();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Rank 0 says what stopped a job.
            if !is_silent() {
                eprintln!("error: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
