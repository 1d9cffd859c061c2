//! JSON for people and programs: indented, and as files whole or not at all.

use std::path::Path;

use serde::Serialize;

use crate::atomic;
use crate::error::{Error, Result};

/// Without a line break at the end.
///
/// # Errors
/// [`Error::Input`] for what JSON cannot say.
pub fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Error::input(format!("this cannot be written as JSON: {e}")))
}

/// # Errors
/// As [`text`], and where the disk refuses.
pub fn write(path: impl AsRef<Path>, value: &impl Serialize) -> Result<()> {
    atomic::write_bytes(path, (text(value)? + "\n").as_bytes())
}
