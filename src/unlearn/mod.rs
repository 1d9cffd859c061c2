//! Making a trained network forget a set of volumes.
//!
//! [`methods`] has a file a method, a constant [`Method`] with whatever it does; [`schedule`] turns it and its settings into
//! steps, [`request`] carries it out and [`record`] says what was done.

mod beginning;
pub mod config;
pub mod hyperparameters;
pub mod knob;
pub mod mask;
pub mod measured;
pub mod method;
pub mod methods;
pub mod mixing;
pub mod optimizer_state;
pub mod paper;
pub mod preparation;
pub mod record;
pub mod request;
pub mod schedule;
mod sets;
pub mod strength;
pub mod trained_on;
mod warnings;

pub use config::UnlearnConfig;
pub use hyperparameters::Hyperparameters;
pub use knob::Knob;
pub use method::Method;
pub use methods::METHODS;
pub use optimizer_state::OptimizerState;
pub use request::Unlearning;
pub use strength::{Recipe, Strength};
