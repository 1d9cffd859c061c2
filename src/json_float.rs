//! Floats in JSON that may be infinite or NaN, which JSON has no numbers for: written as "inf", "-inf" and "nan".
//!
//! For `#[serde(with = "crate::json_float")]`. serde_json alone writes null, and cannot read that back.

use serde::{Deserialize, Deserializer, Serializer, de};

pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        v if v.is_finite() => serializer.serialize_f64(*v),
        v if v.is_nan() => serializer.serialize_str("nan"),
        v if *v > 0.0 => serializer.serialize_str("inf"),
        _ => serializer.serialize_str("-inf"),
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrWord {
        Number(f64),
        Word(String),
    }
    match NumberOrWord::deserialize(deserializer)? {
        NumberOrWord::Number(value) => Ok(value),
        NumberOrWord::Word(word) => match word.as_str() {
            "nan" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err(de::Error::custom(format!(
                "expected a number, \"inf\", \"-inf\" or \"nan\", got \"{word}\""
            ))),
        },
    }
}
