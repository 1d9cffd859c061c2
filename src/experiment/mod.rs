//! The paper's whole study from one file: what is to be run ([`settings`], [`study_sets`], [`graph`] of [`node`]s), its running
//! ([`study`], [`execute`], [`node_files`]), and what it found ([`results`], [`gather`], [`pictures`]).

mod audits;
pub mod execute;
pub mod gather;
pub mod graph;
mod loss_curve;
pub mod node;
pub mod node_files;
pub mod pictures;
mod plan_audits;
pub mod results;
pub mod settings;
pub mod study;
pub mod study_sets;
mod tasks;
mod test_sets;
mod unknown_key;

pub use graph::Graph;
pub use settings::Settings;
pub use study::Experiment;
