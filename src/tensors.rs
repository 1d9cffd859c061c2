//! Arrays of float32 in a safetensors file that is written and read as it goes, where the crate has a whole file in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::atomic;
use crate::error::{Error, Result};

/// A name, a shape, and the values.
pub type Tensor<'v> = (String, Vec<usize>, &'v [f32]);

/// The header is padded with blanks to a multiple of this.
const ALIGNMENT: usize = 8;

/// Writes them in the order of their names, whole or not at all: the bytes of [`safetensors::serialize`].
///
/// # Errors
/// Where the disk refuses.
///
/// # Panics
/// For a shape that has not as many values, or a name that comes twice.
pub fn write(
    path: impl AsRef<Path>,
    mut tensors: Vec<Tensor<'_>>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let path = path.as_ref();
    tensors.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut end = 0;
    let described = tensors.iter().map(|(name, shape, values)| {
        let begin = end;
        end += size_of_val(*values);
        (name.clone(), TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (begin, end) })
    });
    let header = Metadata::new(metadata, described.collect()).expect("each shape has as many values");
    let mut header = serde_json::to_vec(&header).expect("plain data");
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    atomic::write(path, |file| {
        let parts = tensors.iter().map(|(_, _, values)| bytemuck::cast_slice(values));
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], &header]
            .into_iter()
            .chain(parts)
            .try_for_each(|bytes| file.write_all(bytes))
            .map_err(|source| Error::io("write", path, source))
    })
}

/// A file whose arrays are read one by one.
pub struct Reader {
    file: File,
    header: Metadata,
    /// Where arrays begin.
    data: u64,
}

impl Reader {
    /// Reads the header.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidData`] for what is no whole safetensors file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let broken = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(broken("no file".into()));
        }
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        let begin = file.read_exact(&mut length).map(|()| u64::from_le_bytes(length));
        let begin = begin.map_err(|_| broken("it has no header".into()))?;
        if begin > metadata.len() {
            return Err(broken(format!("a header of {begin} bytes in a file of {}", metadata.len())));
        }
        let mut header = vec![0; begin as usize];
        file.read_exact(&mut header).map_err(|_| broken("its header is cut short".into()))?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|e| broken(e.to_string()))?;
        let data = 8 + begin;
        let whole = data.checked_add(header.data_len() as u64);
        if whole != Some(metadata.len()) {
            return Err(broken(format!(
                "{} bytes, its header speaks of {}",
                metadata.len(),
                whole.unwrap_or(u64::MAX)
            )));
        }
        Ok(Self { file, header, data })
    }

    /// What the file says of itself.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Type and shape of an array; none where there is no such.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    /// The values of an array of float32; none where there is no such.
    ///
    /// # Errors
    /// What the system says.
    pub fn array(&mut self, name: &str) -> io::Result<Option<Vec<f32>>> {
        let of_singles = |info: &&TensorInfo| info.dtype == Dtype::F32;
        let Some(info) = self.header.info(name).filter(of_singles) else { return Ok(None) };
        let (begin, end) = info.data_offsets;
        let mut values = vec![0.0f32; (end - begin) / size_of::<f32>()];
        self.file.seek(SeekFrom::Start(self.data + begin as u64))?;
        self.file.read_exact(bytemuck::cast_slice_mut(&mut values))?;
        values.iter_mut().for_each(|value| *value = f32::from_bits(u32::from_le(value.to_bits())));
        Ok(Some(values))
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn the_bytes_are_the_crates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        let values = [1.0f32, -2.5, f32::MIN_POSITIVE, 3e-39, 0.0, -0.0];
        let tensors: Vec<Tensor<'_>> = vec![
            ("b.weight".into(), vec![2, 2], &values[..4]),
            ("a".into(), vec![], &values[4..5]),
            ("none".into(), vec![0, 3], &[]),
        ];
        for metadata in [None, Some(HashMap::from([("format".to_string(), "pt".to_string())]))] {
            let views = tensors.iter().map(|(name, shape, values)| {
                let data = bytemuck::cast_slice(values);
                (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
            });
            let expected = safetensors::serialize(views, metadata.clone()).unwrap();
            write(&path, tensors.clone(), metadata.clone()).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), expected);
            let mut read = Reader::open(&path).unwrap();
            assert_eq!(read.metadata("format"), metadata.is_some().then_some("pt"));
            assert_eq!(read.info("b.weight").unwrap().shape, [2, 2]);
            for (name, _, values) in &tensors {
                let found = read.array(name).unwrap().unwrap();
                assert!(found.iter().map(|x| x.to_bits()).eq(values.iter().map(|x| x.to_bits())));
            }
            assert_eq!(read.array("other").unwrap(), None);
            for cut in [0, 7, 8, 60, expected.len() - 1] {
                std::fs::write(&path, &expected[..cut]).unwrap();
                let kind = Reader::open(&path).map(|_| ()).unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::InvalidData, "{cut} bytes");
            }
        }
    }
}
