//! Paths with a name for tables: `knee=data/knee/test`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

/// `NAME=PATH`, or a path alone, which then names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    pub name: String,
    pub path: PathBuf,
}

impl Labelled {
    /// Name and path.
    pub fn parts(&self) -> (&str, &Path) {
        (&self.name, &self.path)
    }
}

/// The weights at a path: of a run, where it is a directory.
pub fn weights(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("model.safetensors") } else { path.to_path_buf() }
}

/// [`weights`], for an argument.
pub fn weights_argument(text: &str) -> std::result::Result<PathBuf, Infallible> {
    Ok(weights(Path::new(text)))
}

/// [`weights`] with a name, for an argument.
pub fn labelled_weights(text: &str) -> std::result::Result<Labelled, Infallible> {
    let Labelled { name, path } = text.parse()?;
    Ok(Labelled { name, path: weights(&path) })
}

impl FromStr for Labelled {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            // `runs/lr=0.1/model.safetensors` is a path.
            Some((name, path)) if !name.is_empty() && !name.contains('/') && !Path::new(text).exists() => {
                Self { name: name.into(), path: path.into() }
            }
            _ => Self { name: own_name(Path::new(text)), path: text.into() },
        })
    }
}

/// Extensions of the files that commands take; what follows another point belongs to a name.
const EXTENSIONS: [&str; 3] = [".safetensors", ".h5", ".txt"];

/// The last part of a path without its extension; for the weights of a run, `RUN/model.safetensors`, the run's.
fn own_name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let named = match name(&whole) {
        Some(file) if file == "model.safetensors" => whole.parent().and_then(name).or(Some(file)),
        other => other,
    };
    let named = named.unwrap_or_else(|| path.display().to_string());
    let bare = EXTENSIONS.iter().find_map(|extension| named.strip_suffix(extension));
    bare.unwrap_or(&named).to_string()
}

/// Refuses names that occur twice: the rows or columns of a table would be mixed up.
///
/// # Errors
/// [`Error::Input`] naming both paths and the remedy.
pub fn check_distinct<'l>(
    option: &str,
    labelled: impl IntoIterator<Item = (&'l str, &'l Path)>,
) -> Result<()> {
    let mut seen = HashMap::new();
    for (name, path) in labelled {
        if let Some(other) = seen.insert(name, path) {
            return Err(Error::input(format!(
                "{option} {} and {option} {} are both called '{name}': give them names, such as {option} other={}",
                other.display(),
                path.display(),
                path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_or_made() {
        for (text, name, path) in [
            ("knee=data/test", "knee", "data/test"),
            ("data/knee/test", "test", "data/knee/test"),
            ("runs/lr=0.1/model.safetensors", "lr=0.1", "runs/lr=0.1/model.safetensors"),
            ("runs/oracle/model.safetensors", "oracle", "runs/oracle/model.safetensors"),
            ("nl-ft.safetensors", "nl-ft", "nl-ft.safetensors"),
        ] {
            let labelled: Labelled = text.parse().unwrap();
            assert_eq!(labelled, Labelled { name: name.into(), path: path.into() });
        }
    }

    #[test]
    fn two_of_one_name_are_refused() {
        let labelled: [Labelled; 2] = ["a/test", "b/test"].map(|text| text.parse().unwrap());
        let message = check_distinct("--data", labelled.iter().map(Labelled::parts)).unwrap_err().to_string();
        assert!(message.contains("a/test") && message.contains("other=b/test"), "{message}");
    }
}
