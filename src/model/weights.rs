//! Weights as safetensors with fastMRI's names: into `fastmri.models.VarNet` and back.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::tensors;

/// A trained network: which, its parameters in the layout's order, and what else the file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    pub architecture: Architecture,
    pub parameters: Vec<f32>,
    pub metadata: HashMap<String, String>,
}

impl Weights {
    /// Reads `.safetensors`; the architecture is inferred from names and shapes.
    ///
    /// # Errors
    /// A file that is missing, truncated or no safetensors, that holds another network, other types than float32
    /// (float64, float16 and bfloat16 included: convert first), or NaN or infinity; the parameter is named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound
                if path.ends_with("model.safetensors") && path.with_file_name("config.toml").exists() =>
            {
                Error::input(format!(
                    "{}: the run there has saved no weights yet: go on with it by --resume",
                    path.display()
                ))
            }
            _ => Error::io("read", path, source),
        })?;
        Self::parse(&bytes).map_err(|error| error.of_file(path))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let broken = |error| {
            Error::input(format!(
                "not a whole safetensors file ({error}); fastMRI's .pt and .ckpt files are converted by \
                 scripts/convert_checkpoint.py"
            ))
        };
        let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let shapes: Vec<(String, Vec<usize>)> =
            tensors.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec())).collect();
        let architecture = Architecture::infer(&shapes)?;
        let (layout, _) = architecture.layout();
        let mut parameters = Vec::with_capacity(layout.len());
        for p in &layout.parameters {
            let view = tensors.tensor(&p.name).map_err(broken)?;
            if view.dtype() != Dtype::F32 {
                return Err(Error::input(format!(
                    "{} is {:?}, expected F32: save the network with .float()",
                    p.name,
                    view.dtype()
                )));
            }
            parameters.extend(view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)));
            if let Some(at) = parameters[p.span.offset..].iter().position(|x| !x.is_finite()) {
                let value = parameters[p.span.offset + at];
                return Err(Error::input(format!(
                    "{}[{at}] is {value}: these weights cannot reconstruct anything; use an earlier checkpoint",
                    p.name
                )));
            }
        }
        Ok(Self { architecture, parameters, metadata: header.metadata().clone().unwrap_or_default() })
    }

    /// Writes `.safetensors`, whole or not at all.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let (layout, _) = self.architecture.layout();
        let named = layout
            .parameters
            .iter()
            .map(|p| (p.name.clone(), p.shape.clone(), &self.parameters[p.span.offset..][..p.span.len]));
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.clone());
        tensors::write(path, named.collect(), metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Weights {
        let architecture = Architecture { cascades: 2, chans: 2, pools: 2, sens_chans: 1, sens_pools: 1 };
        Weights {
            architecture,
            parameters: architecture.initial_parameters(3),
            metadata: [("format".to_string(), "pt".to_string())].into(),
        }
    }

    fn bytes_of(weights: &Weights) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        weights.write(&path).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        weights().write(&path).unwrap();
        assert_eq!(Weights::read(&path).unwrap(), weights());
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let bytes = bytes_of(&weights());
        for len in [0, 4, 8, 100, bytes.len() / 2, bytes.len() - 1] {
            let message = Weights::parse(&bytes[..len]).unwrap_err().to_string();
            assert!(message.contains("not a whole safetensors file"), "{len}: {message}");
        }
    }

    #[test]
    fn nan_is_refused_by_name() {
        let mut weights = weights();
        let (layout, _) = weights.architecture.layout();
        weights.parameters[layout.parameters[3].span.offset + 2] = f32::NAN;
        let message = Weights::parse(&bytes_of(&weights)).unwrap_err().to_string();
        assert!(message.contains(&format!("{}[2] is NaN", layout.parameters[3].name)), "{message}");
    }
}
