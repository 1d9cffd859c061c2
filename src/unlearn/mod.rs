//! Making a trained network forget a set of volumes.
//!
//! One file a method; [`method`] holds what they share, [`schedule`] turns a method and its settings into steps,
//! [`request`] carries it out and [`record`] says what was done.

pub mod ft;
pub mod ga;
pub mod ga_ft;
pub mod ga_l1;
pub mod ga_l1_ft;
pub mod method;
pub mod nl;
pub mod nl_ft;
pub mod record;
pub mod request;
pub mod schedule;

pub use method::{METHODS, Method, Recipe};
pub use request::{UnlearnConfig, Unlearning};
