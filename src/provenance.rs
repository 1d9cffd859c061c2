//! Who computed something, and on what: for records that are read long after.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// This version of kerase.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with "+" after it where files had changed since; where that is known.
pub fn commit() -> Option<String> {
    option_env!("KERASE_COMMIT").map(String::from)
}

/// Version and commit, for people: "0.1.0 (commit 0123456789ab)".
pub fn version_and_commit() -> String {
    commit().map_or_else(|| VERSION.into(), |commit| format!("{VERSION} (commit {commit})"))
}

/// Today, in UTC: "2026-01-31".
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / (24 * 60 * 60))
}

/// So many days after 1970-01-01.
fn date(days: u64) -> String {
    // Years begin in March, so that a leap day is the last of one; 400 of them have as many days as any other 400.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (400 * era + year + month / 10, (month + 2) % 12 + 1);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A build of kerase and the hardware that it computed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    pub kerase: String,
    /// As [`commit`] has it.
    pub commit: Option<String>,
    /// "cpu", "cuda:0".
    pub device: String,
    /// The GPU, if there is one, and the CPU: "NVIDIA H100; Intel(R) Xeon(R) Processor".
    pub machine: String,
    pub precision: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        let dates = [0, 58, 59, 11_016, 11_017, 20_453, 47_540, 47_541].map(date);
        let expected = ["1970-01-01", "1970-02-28", "1970-03-01", "2000-02-29", "2000-03-01", "2025-12-31"];
        assert_eq!(dates[..6], expected);
        assert_eq!(dates[6..], ["2100-02-28", "2100-03-01"]);
    }
}
