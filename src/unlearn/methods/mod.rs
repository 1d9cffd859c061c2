//! The methods, a file each.

pub mod bad_teacher;
pub mod ft;
pub mod ga;
pub mod ga_ft;
pub mod ga_l1;
pub mod ga_l1_ft;
pub mod last_cascades;
pub mod neggrad_plus;
pub mod nl;
pub mod nl_ft;
pub mod retrain;
pub mod salun;
pub mod scrub;
pub mod ssd;

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::unlearn::method::Method;

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
