//! SHA-256 of files and slices: what an audit records of the data that a model was trained on or forgot.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::set::VolumeSet;
use super::volume::{Slice, VolumeFile};
use crate::error::{Error, Result};
use crate::paths::absolute;
use crate::progress::got_on;
use crate::sha256::{hex, update};

/// A volume of a set, and which of its slices are in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeDigest {
    pub path: PathBuf,
    /// Of the whole file.
    pub sha256: String,
    pub slices: Vec<SliceDigest>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SliceDigest {
    pub slice: usize,
    /// [`slice_sha256`].
    pub sha256: String,
}

/// Reads and hashes every file and slice of a set.
///
/// # Errors
/// A file or slice that cannot be read.
pub fn digests(set: &VolumeSet) -> Result<Vec<VolumeDigest>> {
    let volumes: Vec<_> = set.volumes().iter().enumerate().collect();
    volumes
        .into_par_iter()
        .map(|(index, volume)| {
            let slices = set.slices_of(index).iter().map(|&slice| {
                let sha256 = slice_sha256(&volume.read_slice_as_stored(slice)?);
                got_on();
                Ok(SliceDigest { slice, sha256 })
            });
            Ok(VolumeDigest {
                path: absolute(&volume.path),
                sha256: file_sha256(&volume.path)?,
                slices: slices.collect::<Result<_>>()?,
            })
        })
        .collect()
}

/// A digest of what a set's steps follow from: names, slices, sizes and ranges, in order, and samples of the files. A run
/// that is resumed on other data would go on with steps that the interrupted one had not planned.
pub fn fingerprint(set: &VolumeSet) -> String {
    fingerprint_compressed(set, None)
}

/// As [`fingerprint`], of the set with so many virtual coils at the most.
pub fn fingerprint_compressed(set: &VolumeSet, most_coils: Option<usize>) -> String {
    let mut hash = Sha256::new();
    // What cannot be read now is complained about when it has to be.
    let sample = |volume: &VolumeFile| file_sample(&volume.path).unwrap_or_default();
    let samples: Vec<[u8; 32]> = set.volumes().par_iter().map(sample).collect();
    for (index, (volume, sample)) in set.volumes().iter().zip(samples).enumerate() {
        let slices = set.slices_of(index);
        let max = volume.max.map(f64::to_bits);
        let mut shape = set.shape(index);
        shape.coils = shape.coils.min(most_coils.unwrap_or(usize::MAX));
        hash.update(format!("{}\0{slices:?}\0{shape}\0{max:?}\n", volume.name));
        hash.update(sample);
    }
    hex(hash)
}

/// SHA-256 of a whole file, in hexadecimal, as `sha256sum` prints it.
pub fn file_sha256(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let cannot_read = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(cannot_read)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hex(hash)),
            Ok(count) => hash.update(&block[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(cannot_read(error)),
        }
    }
}

/// SHA-256 of blocks spread over a file: k-space differs nearly everywhere, so this tells volumes apart.
///
/// # Errors
/// A file that cannot be read.
pub fn file_sample(path: &Path) -> Result<[u8; 32]> {
    const BLOCK: u64 = 16 << 10;
    let cannot_read = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(cannot_read)?;
    let size = file.metadata().map_err(cannot_read)?.len();
    let mut hash = Sha256::new();
    for part in 0..8 {
        let start = size.saturating_sub(BLOCK) / 7 * part;
        file.seek(SeekFrom::Start(start)).map_err(cannot_read)?;
        let mut block = vec![];
        (&mut file).take(BLOCK).read_to_end(&mut block).map_err(cannot_read)?;
        hash.update(&block);
    }
    Ok(hash.finalize().into())
}

/// SHA-256 of values as little-endian float32, in hexadecimal.
pub fn values_sha256(values: &[f32]) -> String {
    let mut hash = Sha256::new();
    update(&mut hash, values);
    hex(hash)
}

/// SHA-256 of a slice's k-space as little-endian complex64 followed by its target (if any) as little-endian
/// float32, in hexadecimal. It does not depend on how the file stores them.
pub fn slice_sha256(slice: &Slice) -> String {
    let mut hash = Sha256::new();
    update(&mut hash, bytemuck::cast_slice(&slice.kspace));
    update(&mut hash, slice.target.as_deref().unwrap_or_default());
    hex(hash)
}
