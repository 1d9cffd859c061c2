//! The sets of a study: where their volumes are, or how they are simulated.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::experiment::results::Kinds;
use crate::simulate::Anatomy;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sets {
    /// D_r.
    pub retain: SetSource,
    /// D_f, on which UA is measured.
    pub forget: SetSource,
    /// BTA: unseen volumes like those of D_r.
    pub retain_test: SetSource,
    /// KTA: unseen volumes like those of D_f.
    pub forget_test: SetSource,
    /// Volumes like those of D_r, by which [`Training::keep_best`] chooses G and the oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_validation: Option<SetSource>,
    /// Volumes like those of D_f, by which G is chosen, too. The oracle is not: it knows nothing of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_validation: Option<SetSource>,
    /// Absent: the anatomies that are simulated, where they are two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Kinds>,
}

/// A set as `kerase train --data` takes it, or subjects to simulate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SetSource {
    Path(PathBuf),
    Simulated(Subjects),
}

impl<'de> Deserialize<'de> for SetSource {
    /// Not untagged: then serde would not say what is wrong with the subjects.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SetSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or { simulate = \"brain\" or \"knee\", subjects = [first, last] }")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> std::result::Result<SetSource, E> {
                Ok(SetSource::Path(path.into()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<SetSource, M::Error> {
                Subjects::deserialize(MapAccessDeserializer::new(map)).map(SetSource::Simulated)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Subjects `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subjects {
    pub simulate: Anatomy,
    pub subjects: [u64; 2],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulate {
    pub matrix: [usize; 2],
    pub recon: [usize; 2],
    pub slices: usize,
    pub coils: usize,
    /// Absent: what each anatomy has in `kerase simulate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    #[serde(default = "forty_two")]
    pub seed: u64,
}

fn forty_two() -> u64 {
    42
}

impl Sets {
    pub fn kinds(&self) -> Kinds {
        let simulated = match [&self.retain, &self.forget] {
            [SetSource::Simulated(retain), SetSource::Simulated(forget)]
                if retain.simulate != forget.simulate =>
            {
                Some([retain, forget].map(|subjects| subjects.simulate.to_string()))
            }
            _ => None,
        };
        let simulated = simulated.map(|[retain, forget]| Kinds { retain, forget });
        self.kinds.clone().or(simulated).unwrap_or_default()
    }

    /// Those that every study has, by the names that the file gives them.
    pub fn needed(&self) -> [(&'static str, &SetSource); 4] {
        let Self { retain, forget, retain_test, forget_test, .. } = self;
        [("retain", retain), ("forget", forget), ("retain_test", retain_test), ("forget_test", forget_test)]
    }

    /// Those by which networks are chosen: none, the retain set's, or both.
    pub fn validation(&self) -> Vec<(&'static str, &SetSource)> {
        let Self { retain_validation, forget_validation, .. } = self;
        [("retain_validation", retain_validation), ("forget_validation", forget_validation)]
            .into_iter()
            .filter_map(|(name, source)| Some((name, source.as_ref()?)))
            .collect()
    }

    pub fn all(&self) -> Vec<(&'static str, &SetSource)> {
        self.needed().into_iter().chain(self.validation()).collect()
    }

    pub(super) fn sources_mut(&mut self) -> impl Iterator<Item = &mut SetSource> {
        let Self { retain, forget, retain_test, forget_test, retain_validation, forget_validation, kinds: _ } =
            self;
        [retain, forget, retain_test, forget_test]
            .into_iter()
            .chain(retain_validation)
            .chain(forget_validation)
    }
}
