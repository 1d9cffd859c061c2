//! SHA-256 of files and slices: what an audit records of the data that a model was trained on or forgot.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::volume::Slice;
use crate::error::{Error, Result};

/// SHA-256 of a whole file, in hexadecimal, as `sha256sum` prints it.
pub fn file_sha256(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let cannot_read = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(cannot_read)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&block[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(cannot_read(error)),
        }
    }
}

/// SHA-256 of a slice's k-space as little-endian complex64 followed by its target (if any) as little-endian
/// float32, in hexadecimal. It does not depend on how the file stores them.
pub fn slice_sha256(slice: &Slice) -> String {
    let mut hash = Sha256::new();
    update(&mut hash, bytemuck::cast_slice(&slice.kspace));
    update(&mut hash, slice.target.as_deref().unwrap_or_default());
    hex(&hash.finalize())
}

/// SHA-256 of a network's parameters, flat in the layout's order, as little-endian float32, in hexadecimal.
pub fn parameters_sha256(parameters: &[f32]) -> String {
    let mut hash = Sha256::new();
    update(&mut hash, parameters);
    hex(&hash.finalize())
}

fn update(hash: &mut Sha256, values: &[f32]) {
    if cfg!(target_endian = "little") {
        hash.update(bytemuck::cast_slice::<f32, u8>(values));
    } else {
        values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
