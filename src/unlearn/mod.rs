//! Making a trained network forget a set of volumes.
//!
//! One file a method, a constant [`Method`] with whatever it does; [`schedule`] turns it and its settings into steps,
//! [`request`] carries it out and [`record`] says what was done.

pub mod bad_teacher;
mod beginning;
pub mod config;
pub mod ft;
pub mod ga;
pub mod ga_ft;
pub mod ga_l1;
pub mod ga_l1_ft;
pub mod hyperparameters;
pub mod last_cascades;
mod measured;
pub mod method;
pub mod mixing;
pub mod neggrad_plus;
pub mod nl;
pub mod nl_ft;
pub mod preparation;
pub mod record;
pub mod request;
pub mod retrain;
pub mod salun;
pub mod schedule;
pub mod scrub;
mod sets;
pub mod ssd;
pub mod strength;
pub mod trained_on;
mod warnings;

pub use config::{OptimizerState, UnlearnConfig};
pub use hyperparameters::Hyperparameters;
pub use method::Method;
pub use request::Unlearning;
pub use strength::{Recipe, Strength};

use std::str::FromStr;

use crate::error::{Error, Result};

/// All methods, in the order in which they are listed.
pub const METHODS: [Method; 15] = [
    ft::METHOD,
    ga::METHOD,
    ga_l1::METHOD,
    nl::METHOD,
    ga_ft::METHOD,
    ga_l1_ft::METHOD,
    nl_ft::METHOD,
    neggrad_plus::METHOD,
    ssd::METHOD,
    bad_teacher::METHOD,
    scrub::METHOD,
    salun::METHOD,
    last_cascades::CF_K,
    last_cascades::EU_K,
    retrain::METHOD,
];

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        METHODS.into_iter().find(|m| m.name == name).ok_or_else(|| {
            let names = METHODS.map(|m| m.name).join(", ");
            Error::input(format!("there is no method {name}; the methods are {names}"))
        })
    }
}
