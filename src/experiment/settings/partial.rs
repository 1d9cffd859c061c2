//! Tables that a study's file may have in part, where a run's config.toml has them whole.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

use crate::batch::{Sampling, center_fraction};
use crate::model::Architecture;

/// The paper's network, but for the keys that are there.
pub(super) fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Architecture, D::Error> {
    over_default(Table::deserialize(deserializer)?)
}

/// The paper's sampling, but for the keys that are there. Center fractions follow from accelerations, as in options.
pub(super) fn sampling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sampling, D::Error> {
    let mut given = Table::deserialize(deserializer)?;
    if let (Some(Value::Array(accelerations)), None) =
        (given.get("accelerations"), given.get("center_fractions"))
    {
        let fraction = |acceleration: &Value| {
            let acceleration = acceleration.as_integer().and_then(|n| u32::try_from(n).ok())?;
            Some(Value::Float(center_fraction(acceleration)))
        };
        // One that is no number is refused below.
        let fractions: Vec<Value> = accelerations.iter().filter_map(fraction).collect();
        given.insert("center_fractions".into(), Value::Array(fractions));
    }
    over_default(given)
}

fn over_default<T: Default + Serialize + DeserializeOwned, E: Error>(given: Table) -> Result<T, E> {
    let mut whole = Table::try_from(T::default()).map_err(E::custom)?;
    whole.extend(given);
    whole.try_into().map_err(|error: toml::de::Error| E::custom(error.message()))
}
