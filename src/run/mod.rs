//! A run: optimiser steps over slices, with checkpoints in a directory. Training and unlearning are both runs; they
//! differ in what each step is made of (its schedule).

mod agreement;
mod best;
pub mod board;
pub mod check;
mod checkpoint;
pub mod directory;
pub(crate) mod feed;
pub mod job;
pub mod keep_best;
pub mod metrics_log;
mod noise;
pub mod optimisation;
pub mod plateau;
pub mod schedule;
mod session;
pub mod share;
pub mod state;
pub(crate) mod step;
mod steps;
mod survey;
mod told;
pub mod usable;
pub mod validation;

pub use best::Best;
pub use directory::{RunDirectory, Start};
pub use job::{Outcome, Run};
pub use schedule::{PlannedStep, Role, Schedule, Term};
pub use session::Session;
pub use state::RunState;
pub use validation::Picture;
