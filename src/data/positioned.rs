//! Reading a file at explicit positions, so that threads do not wait for each other's seeks.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use hdf5_pure::{FormatError, Source};

use crate::error::{Error, Result as KeraseResult};

/// An open file of known length.
pub(super) struct PositionedFile {
    pub handle: File,
    pub length: u64,
}

impl PositionedFile {
    /// Opens what has to be a file: a pipe would be waited for, and a device may have no end. An error says what was `expected`.
    pub fn open(path: &Path, expected: &str) -> KeraseResult<Self> {
        let cannot_read = |source| Error::io("read", path, source);
        // Looked at before it is opened, which alone may wait.
        if !std::fs::metadata(path).map_err(cannot_read)?.is_file() {
            return Err(Error::input(format!("{} is not a file: expected {expected}", path.display())));
        }
        let handle = File::open(path).map_err(cannot_read)?;
        let length = handle.metadata().map_err(cannot_read)?.len();
        Ok(Self { handle, length })
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FormatError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            let saturated = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
            return Err(FormatError::UnexpectedEof {
                expected: saturated(end.unwrap_or(u64::MAX)),
                available: saturated(self.length),
            });
        }
        read_exact_at(&self.handle, buffer, offset).map_err(|error| FormatError::Source(error.to_string()))
    }
}

/// The same file as the HDF5 crate takes it.
pub(super) struct SharedFile(pub Arc<PositionedFile>);

impl Source for SharedFile {
    fn len(&self) -> u64 {
        self.0.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FormatError> {
        self.0.read_at(offset, buffer)
    }
}

#[cfg(unix)]
fn read_exact_at(handle: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(handle, buffer, offset)
}

#[cfg(not(unix))]
fn read_exact_at(handle: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    // Each open file has one reader here, so seeking is as good.
    use std::io::{Read, Seek, SeekFrom};
    let mut handle = handle;
    handle.seek(SeekFrom::Start(offset))?;
    handle.read_exact(buffer)
}
