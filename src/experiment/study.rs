//! A study under way in one process: what its tasks are carried out with.

use std::sync::atomic::AtomicBool;

use crate::data::loader::LoaderOptions;
use crate::experiment::graph::Graph;
use crate::experiment::node::Node;
use crate::experiment::node_files::Done;
use crate::experiment::settings::Settings;
use crate::provenance::Provenance;
use crate::run::{Session, Start};

pub struct Experiment<'e> {
    pub settings: &'e Settings,
    pub graph: &'e Graph,
    pub stop: &'e AtomicBool,
    /// Whether this process says that it waits for others.
    pub leads: bool,
    pub loader: LoaderOptions,
    /// Who computes.
    pub by: Provenance,
}

impl Experiment<'_> {
    /// What this process leaves of a node that it has done.
    pub(super) fn done(&self) -> Done {
        let threads = rayon::current_num_threads();
        Done { by: Some(self.by.clone()), threads, ..Done::default() }
    }

    /// A run that was begun goes on.
    pub(super) fn session<'n>(&'n self, node: &'n Node) -> Session<'n> {
        let begun = node.directory.join("config.toml").exists();
        let start = if begun { Start::Resume } else { Start::New };
        Session { loader: self.loader, ..Session::alone(&node.directory, start, self.stop) }
    }
}
