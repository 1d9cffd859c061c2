//! Evidence of forgetting: what an unlearning run did to a network, measured from outside, and a record of it that can be
//! verified later.
//!
//! [`subject`] reads the run, [`opened`] all that is to be looked at, [`observe`] looks at one network on all sets;
//! [`membership`], [`relearn`], [`distance`] and [`interval`] are the measures, [`conclude`] works out what follows from
//! them, [`flags`] says what stands out, and [`notes`] what cannot be said. [`evidence`] is what a record says, [`gather`]
//! makes one, [`record`] writes and reads it, and [`verify`] says whether record, data and weights still belong together.
//! What each number means and what it does not: docs/audit.md.

pub mod conclude;
pub mod distance;
pub mod evidence;
pub mod flags;
pub mod gather;
pub mod interval;
#[cfg(test)]
mod made_up;
pub mod membership;
pub mod network;
pub mod notes;
pub mod observe;
pub mod opened;
pub mod record;
pub mod relearn;
pub mod settings;
pub mod subject;
pub mod verify;

pub use evidence::{Audit, Request};
pub use observe::Observed;
pub use settings::AuditSettings;
pub use subject::Subject;
