//! The paper's whole study from one file: what is to be run ([`settings`], [`study_sets`], [`graph`]), its running
//! ([`execute`], [`node_files`], [`audits`]), and what it found ([`results`], [`gather`], [`pictures`]).

pub mod audits;
pub mod execute;
pub mod gather;
pub mod graph;
mod loss_curve;
pub mod node_files;
pub mod pictures;
pub mod results;
pub mod settings;
pub mod study_sets;
mod unknown_key;

pub use execute::Experiment;
pub use graph::Graph;
pub use settings::Settings;
