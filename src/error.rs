//! Every way kerase can fail, and the exit code that each one gives.
//!
//! A message says what was expected, what was found and what to do about it; it is shown as it is, so it
//! names files, volumes and slices itself.

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the user gave cannot be used: a file, an option, a combination of them.
    #[error("{0}")]
    Input(String),

    /// A device has not enough memory for what was asked; the message says how much is missing.
    #[error("{0}")]
    NoMemory(String),

    /// The operating system refused. `action` reads on from "cannot": "read", "create", "write".
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    /// The numbers went bad while computing: NaN or infinity in a loss, a gradient or an image.
    #[error("{0}")]
    NotFinite(String),

    /// What was compared does not agree; the message names everything that differs.
    #[error("{0}")]
    Mismatch(String),

    /// The device failed while computing. The message names what it was doing.
    #[error("{0}")]
    Device(String),
}

impl Error {
    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_path_buf(), source }
    }

    /// Names the file whose slices made it fail.
    pub(crate) fn of_file(self, path: &Path) -> Self {
        self.of(path.display())
    }

    /// Says first what it is about: "SUBJECT: message". An error of the operating system or of a device names what it is about
    /// already.
    pub(crate) fn of(self, subject: impl std::fmt::Display) -> Self {
        let of = |message| format!("{subject}: {message}");
        match self {
            Self::Input(message) => Self::Input(of(message)),
            Self::NoMemory(message) => Self::NoMemory(of(message)),
            Self::NotFinite(message) => Self::NotFinite(of(message)),
            Self::Mismatch(message) => Self::Mismatch(of(message)),
            other @ (Self::Io { .. } | Self::Device(_)) => other,
        }
    }

    /// 2 where the user can mend it before anything is computed, 1 where the computation itself failed or a comparison did
    /// not come out.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::NoMemory(_) | Self::Io { .. } => 2,
            Self::NotFinite(_) | Self::Device(_) | Self::Mismatch(_) => 1,
        }
    }
}
