//! Carries a study out: whoever finds something that can be done and that nobody does takes it on.
//!
//! Processes that share a directory share the work, on one machine or on several, and any of them may be killed: what
//! it was at is taken up by another, or by the next to come, where it was last saved.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::backend::Backend;
use crate::error::Result;
use crate::experiment::audits;
use crate::experiment::node::{Node, Task};
use crate::experiment::node_files::Claim;
use crate::experiment::study::Experiment;
use crate::experiment::test_sets::TestSets;
use crate::run::Outcome;

/// How often a process that has nothing to do looks again.
const PATIENCE: Duration = Duration::from_millis(500);

impl Experiment<'_> {
    /// Works until nothing is left to do. `say` gets a line for every beginning.
    ///
    /// # Errors
    /// The first failure of a part of the study; what is done stays done.
    pub fn run<B: Backend>(&self, ops: &B, say: &dyn Fn(&str) -> Result<()>) -> Result<Outcome> {
        let mut waiting = false;
        let mut checked = false;
        let mut tests = None;
        while let Some(next) = self.next()? {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Outcome::Stopped);
            }
            let Next::Take(index, claim) = next else {
                if !waiting && self.leads {
                    say("the rest is being done by other processes: waiting for them")?;
                }
                waiting = true;
                std::thread::sleep(PATIENCE);
                continue;
            };
            waiting = false;
            let node = &self.graph.nodes[index];
            if !matches!(node.task, Task::Simulate(_)) && !checked {
                self.graph.sets.check_apart()?;
                checked = true;
            }
            say(&format!("{} of {}: {}", index + 1, self.graph.nodes.len(), node.name))?;
            if self.carry_out(ops, node, &mut tests)? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
            drop(claim);
        }
        Ok(Outcome::Finished)
    }

    /// What to do now; none where all is done.
    fn next(&self) -> Result<Option<Next>> {
        let mut left = false;
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if node.is_done() {
                continue;
            }
            left = true;
            if !node.needs.iter().all(|&need| self.graph.nodes[need].is_done()) {
                continue;
            }
            if let Some(claim) = node.claim()?
                && !node.is_done()
            {
                return Ok(Some(Next::Take(index, claim)));
            }
        }
        Ok(left.then_some(Next::Wait))
    }

    fn carry_out<B: Backend>(&self, ops: &B, node: &Node, tests: &mut Option<TestSets>) -> Result<Outcome> {
        match &node.task {
            Task::Simulate(subjects) => self.simulate(node, *subjects),
            Task::Train(config) => self.train(ops, node, config),
            Task::Measure { training, .. } => {
                self.measure(ops, node, &self.graph.nodes[*training], self.tests(tests)?)
            }
            Task::Unlearn { config, .. } => self.unlearn(ops, node, config, self.tests(tests)?),
            Task::Observe(look) => audits::observe(self, ops, node, look),
            Task::Audit(parts) => audits::audit(self, ops, node, parts),
        }
        .map_err(|error| error.of(&node.name))
    }

    /// Opened once.
    fn tests<'t>(&self, tests: &'t mut Option<TestSets>) -> Result<&'t TestSets> {
        if let Some(tests) = tests {
            return Ok(tests);
        }
        Ok(tests.insert(TestSets::open(&self.graph.sets, &self.settings.sampling)?))
    }
}

enum Next {
    Take(usize, Claim),
    Wait,
}
