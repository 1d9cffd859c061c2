//! The record of an audit as a file: `audit.json`.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::audit::evidence::{Audit, FORMAT};
use crate::audit::settings::SetRole;
use crate::error::{Error, Result};
use crate::json;
use crate::sha256::hex;

impl Audit {
    pub(super) fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self)
            .map_err(|e| Error::input(format!("this audit cannot be written down: {e}")))
    }

    /// Writes `audit.json`, whole or not at all.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }

    /// # Errors
    /// A file that is missing, or no record of this version's.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::read_with_digest(path)?.0)
    }

    /// The record, and the digest that it should have by what it says.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with_digest(path: &Path) -> Result<(Self, String)> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let refused = |e: serde_json::Error| {
            Error::input(format!("{} is no audit record that this version can read: {e}", path.display()))
        };
        let value: Value = serde_json::from_str(&text).map_err(refused)?;
        let is_of_run = value.get("forgotten").is_some() && value.get("weights_after_sha256").is_some();
        if is_of_run {
            return Err(Error::input(format!(
                "{} is what an unlearning run says of itself: kerase audit makes a record of it that can be verified, \
                 audit.json",
                path.display()
            )));
        }
        let format = value.get("format").and_then(Value::as_u64);
        if let Some(other) = format.filter(|&format| format != u64::from(FORMAT)) {
            return Err(Error::input(format!(
                "{} is an audit record of format {other}; this version reads format {FORMAT}",
                path.display()
            )));
        }
        let digest = digest(&value);
        let audit: Self = serde_json::from_value(value).map_err(refused)?;
        let roles: Vec<SetRole> = audit.sets.iter().take(2).map(|set| set.role).collect();
        if roles != [SetRole::Forget, SetRole::Unseen] {
            return Err(Error::input(format!(
                "{} is no audit record that this version can read: its sets begin with {roles:?}, not with the forget \
                 set and the unseen one",
                path.display()
            )));
        }
        Ok((audit, digest))
    }
}

/// SHA-256 of a record without its own digest: of the JSON with keys in alphabetical order and nothing between them.
pub fn digest(record: &Value) -> String {
    let mut content = record.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("sha256");
    }
    hex(Sha256::new_with_prefix(content.to_string()))
}
