//! Paths that are written down.

use std::path::{Path, PathBuf};

/// A path that means the same from every directory, for settings that are read again later. Messages keep the path as
/// it was given.
pub fn absolute(path: &Path) -> PathBuf {
    // Fails for an empty path, or without a current directory: then it stays as it is.
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
