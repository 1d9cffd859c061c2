//! Which weights the steps of a run change, where that was found out: mask.safetensors.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::atomic;
use crate::error::{Error, Result};

/// Metadata key of the seconds that a mask took.
const SECONDS: &str = "kerase.seconds";
/// That of what the run began with.
const ORIGIN: &str = "kerase.origin";

/// Which weights are salient, as it is kept from when it was found out until the run is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    pub salient: Vec<bool>,
    /// That it took.
    pub seconds: f64,
    /// Of the run: what data and weights it was found out from.
    pub origin: String,
}

impl Mask {
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let flags: Vec<u8> = self.salient.iter().map(|&flag| u8::from(flag)).collect();
        let tensor = TensorView::new(Dtype::U8, vec![flags.len()], &flags).expect("one dimension");
        let metadata = [(SECONDS, self.seconds.to_string()), (ORIGIN, self.origin.clone())];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value)).into();
        let bytes = safetensors::serialize([("mask", tensor)], Some(metadata)).expect("well-formed");
        atomic::write_bytes(path, &bytes)
    }

    /// A mask for so many weights.
    ///
    /// # Errors
    /// A file that is missing, truncated, or no mask of so many weights.
    pub fn read(path: &Path, weights: usize) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
        let refused = |what: &str| {
            Error::input(format!("{}: {what}; start the run again with --overwrite", path.display()))
        };
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| refused(&e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| refused(&e.to_string()))?;
        let said = |key: &str| header.metadata().as_ref()?.get(key).cloned();
        let seconds = said(SECONDS).and_then(|seconds| seconds.parse().ok());
        let (Some(seconds), Some(origin)) = (seconds, said(ORIGIN)) else {
            return Err(refused("no mask of a run"));
        };
        let mask = tensors.tensor("mask").map_err(|e| refused(&e.to_string()))?;
        if mask.dtype() != Dtype::U8 || mask.shape() != [weights] {
            return Err(refused(&format!(
                "the mask is {:?} {:?}, not of {weights} weights",
                mask.dtype(),
                mask.shape()
            )));
        }
        let salient: Vec<bool> = mask.data().iter().map(|&flag| flag != 0).collect();
        if !salient.contains(&true) {
            return Err(refused("the mask selects no weight"));
        }
        Ok(Self { salient, seconds, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.safetensors");
        let salient = vec![true, false, false, true, true];
        let mask = Mask { salient, seconds: 1.25, origin: "data weights".into() };
        mask.write(&path).unwrap();
        assert_eq!(Mask::read(&path, 5).unwrap(), mask);
        assert!(Mask::read(&path, 6).unwrap_err().to_string().contains("not of 6 weights"));
        Mask { salient: vec![false; 5], ..mask }.write(&path).unwrap();
        assert!(Mask::read(&path, 5).unwrap_err().to_string().contains("selects no weight"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
        assert!(Mask::read(&path, 5).unwrap_err().to_string().contains("--overwrite"));
    }
}
