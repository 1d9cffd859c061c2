//! HDF5 through crate hdf5-pure: what the readers of this module need, with errors that name the file.
//!
//! A file is opened anew for every read. That costs some ten small reads where a slice is tens of megabytes,
//! and it means that nothing is shared between threads (no lock, no common file position) and that a set of
//! thousands of volumes holds no file open.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hdf5_pure::{
    AttrValue, ChunkCacheConfig, Datatype, DatatypeByteOrder, Error as Hdf5Error, FileAccessProperties,
    FloatingPointLayout, FormatError, MetadataCacheConfig, Source,
};
use num_complex::Complex32;

use crate::error::{Error, Result};

/// An open HDF5 file.
pub(super) struct Container {
    path: PathBuf,
    file: hdf5_pure::File,
}

/// A dataset of an open file.
pub(super) struct Dataset<'a> {
    container: &'a Container,
    name: &'a str,
    dataset: hdf5_pure::Dataset,
    pub shape: Vec<usize>,
}

/// Runs `read` on the file at `path`. A panic in the HDF5 crate, which no file should cause and a damaged one
/// might, becomes an error like any other.
pub(super) fn with_container<T>(path: &Path, read: impl FnOnce(&Container) -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(|| read(&Container::open(path)?))).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(ToString::to_string);
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::input(format!(
            "{}: the HDF5 reader gave up ({what}): the file is damaged; copy or download it again",
            path.display()
        )))
    })
}

impl Container {
    fn open(path: &Path) -> Result<Self> {
        let cannot_read = |source| Error::io("read", path, source);
        let handle = File::open(path).map_err(cannot_read)?;
        let metadata = handle.metadata().map_err(cannot_read)?;
        if !metadata.is_file() {
            return Err(Error::input(format!(
                "{} is not a file: expected one HDF5 file of the fastMRI layout",
                path.display()
            )));
        }
        let length = metadata.len();
        if length == 0 {
            return Err(Error::input(format!("{} is empty: copy or download it again", path.display())));
        }

        // Chunks are read once for each slice, so caching them would only take memory.
        let properties = FileAccessProperties::new()
            .with_metadata_cache(MetadataCacheConfig::new(1 << 20))
            .with_chunk_cache(ChunkCacheConfig::disabled());
        let file = hdf5_pure::File::from_source_with_options(PositionedFile { handle, length }, properties)
            .map_err(|error| {
            let what = match error {
                Hdf5Error::Format(FormatError::SignatureNotFound) => "is not an HDF5 file".to_string(),
                error => format!("cannot be opened as HDF5 ({error})"),
            };
            Error::input(format!(
                "{} {what}: expected one volume of the fastMRI layout; check the path, or copy or download \
                     it again",
                path.display()
            ))
        })?;

        // libhdf5 makes the same check; without it the first slices of half a file would read well.
        let expected = file.superblock().eof_address;
        if length < expected {
            return Err(Error::input(format!(
                "{} is truncated: it has {length} bytes and should have {expected}; copy or download it again",
                path.display()
            )));
        }
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// An error about this file: "PATH: message".
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {message}", self.path.display()))
    }

    fn damaged(&self, name: &str, error: &Hdf5Error) -> Error {
        self.error(format!(
            "cannot read '{name}' ({error}): copy or download the file again, or, if h5py reads it, rewrite it with \
             libver='earliest' (h5repack does that too)"
        ))
    }

    /// The dataset of this name in the root group, or `None` where there is nothing of that name.
    pub fn dataset<'a>(&'a self, name: &'a str) -> Result<Option<Dataset<'a>>> {
        let dataset = match self.file.dataset(name) {
            Ok(dataset) => dataset,
            Err(Hdf5Error::Format(FormatError::PathNotFound(_))) => return Ok(None),
            Err(Hdf5Error::NotADataset(_)) => {
                return Err(
                    self.error(format!("'{name}' is a group: expected a dataset, as in fastMRI files"))
                );
            }
            Err(error) => return Err(self.damaged(name, &error)),
        };
        let shape = dataset.shape().map_err(|error| self.damaged(name, &error))?;
        // Asked here so that a storage layout which cannot be read is found on opening, not at some slice.
        dataset.layout().map_err(|error| self.damaged(name, &error))?;
        let shape = shape
            .iter()
            .map(|&size| usize::try_from(size).map_err(|_| self.error(format!("'{name}' is {size} long"))))
            .collect::<Result<Vec<usize>>>()?;
        self.check_size(name, &dataset, &shape)?;
        Ok(Some(Dataset { container: self, name, dataset, shape }))
    }

    /// Refuses a dataset that the file is too small to hold. A few damaged bytes can turn a shape into
    /// terabytes, and an allocation of that size does not fail, it aborts.
    fn check_size(&self, name: &str, dataset: &hdf5_pure::Dataset, shape: &[usize]) -> Result<()> {
        // deflate shrinks by 1,032 at most; lzf and shuffle do not change that much.
        let ratio = if dataset.filters().is_empty() { 1 } else { 4096 };
        let element = dataset.element_size().map_err(|error| self.damaged(name, &error))?;
        let size = shape.iter().try_fold(element, |size, &axis| size.checked_mul(axis as u64));
        let largest = self.file.file_size().saturating_mul(ratio);
        if size.is_none_or(|size| size > largest) {
            return Err(self.error(format!(
                "'{name}' claims the shape {shape:?}, more than the file of {} bytes can hold: it is damaged; copy \
                 or download it again",
                self.file.file_size()
            )));
        }
        Ok(())
    }

    /// The names of the datasets, for an error that says what is there.
    pub fn names(&self) -> String {
        match self.file.root().datasets() {
            Ok(names) if names.is_empty() => "no datasets".to_string(),
            Ok(mut names) => {
                names.sort();
                names.join(", ")
            }
            Err(_) => "unreadable contents".to_string(),
        }
    }

    /// The attributes of the root group.
    pub fn attributes(&self) -> Result<std::collections::HashMap<String, AttrValue>> {
        self.file
            .root()
            .attrs()
            .map_err(|error| self.error(format!("cannot read the attributes ({error}); copy the file again")))
    }
}

impl Dataset<'_> {
    fn damaged(&self, error: &Hdf5Error) -> Error {
        self.container.damaged(self.name, error)
    }

    fn datatype(&self) -> Result<Datatype> {
        self.dataset.datatype().map_err(|error| self.damaged(&error))
    }

    /// The bytes of `[first, first + count)` along the leading dimension, and nothing else of the file.
    fn raw_rows(&self, first: usize, count: usize, element: usize) -> Result<Vec<u8>> {
        let row: usize = self.shape[1..].iter().product();
        let bytes =
            self.dataset.read_raw_rows(first as u64, count as u64).map_err(|error| self.damaged(&error))?;
        if bytes.len() != count * row * element {
            return Err(self.container.error(format!(
                "'{}' gave {} bytes for {count} x {row} elements of {element} bytes; copy or download the file \
                 again",
                self.name,
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// One string: variable-length or fixed, scalar or of one element.
    pub fn string(&self) -> Result<String> {
        if !matches!(
            self.datatype()?,
            Datatype::String { .. } | Datatype::VariableLength { is_string: true, .. }
        ) {
            return Err(self.container.error(format!("'{}' is not a string", self.name)));
        }
        let mut strings = self.dataset.read_string().map_err(|error| self.damaged(&error))?;
        match strings.len() {
            1 => Ok(strings.remove(0)),
            count => Err(self.container.error(format!("'{}' has {count} strings: expected one", self.name))),
        }
    }

    /// How complex numbers are stored here; an error if they are not complex.
    pub fn complex_layout(&self) -> Result<ComplexLayout> {
        let datatype = self.datatype()?;
        ComplexLayout::of(&datatype).ok_or_else(|| {
            self.container.error(format!(
                "'{}' has elements of type {datatype}: expected complex numbers as h5py stores them, a compound \
                 of two floats r and i (complex64 or complex128)",
                self.name
            ))
        })
    }

    /// Row `index` of the leading dimension as complex64.
    pub fn complex_row(&self, index: usize) -> Result<Vec<Complex32>> {
        let layout = self.complex_layout()?;
        let bytes = self.raw_rows(index, 1, layout.size)?;
        Ok(layout.decode(&bytes))
    }

    /// Whether the elements are floats or integers, which [`Self::real_row`] can read.
    pub fn is_real(&self) -> Result<bool> {
        Ok(matches!(self.datatype()?, Datatype::FloatingPoint { .. } | Datatype::FixedPoint { .. }))
    }

    /// Row `index` of the leading dimension as f32, whatever kind of number is stored.
    pub fn real_row(&self, index: usize) -> Result<Vec<f32>> {
        let values = self.dataset.read_f32_rows(index as u64, 1).map_err(|error| self.damaged(&error))?;
        let expected: usize = self.shape[1..].iter().product();
        if values.len() != expected {
            return Err(self.container.error(format!(
                "'{}' gave {} numbers for row {index}: expected {expected}",
                self.name,
                values.len()
            )));
        }
        Ok(values)
    }

    /// All elements as truth values: h5py's bool (an enumeration over int8), any integer, any float; what is
    /// not zero is true.
    pub fn booleans(&self) -> Result<Vec<bool>> {
        let datatype = self.datatype()?;
        let number = match &datatype {
            Datatype::Enumeration { base_type, .. } => base_type,
            other => other,
        };
        let size = number.type_size() as usize;
        let bytes = || self.dataset.read_raw().map_err(|error| self.damaged(&error));
        match number {
            Datatype::FixedPoint { .. } | Datatype::BitField { .. } => {
                Ok(bytes()?.chunks_exact(size).map(|value| value.iter().any(|&byte| byte != 0)).collect())
            }
            Datatype::FloatingPoint { .. } => {
                let values = self.dataset.read_f64().map_err(|error| self.damaged(&error))?;
                if values.iter().any(|value| value.is_nan()) {
                    return Err(self.container.error(format!("'{}' contains NaN", self.name)));
                }
                Ok(values.into_iter().map(|value| value != 0.0).collect())
            }
            _ => Err(self.container.error(format!(
                "'{}' has elements of type {datatype}: expected bool, integers or floats, one for each column",
                self.name
            ))),
        }
    }
}

/// Where real and imaginary part lie in an element, and in what format.
pub(super) struct ComplexLayout {
    size: usize,
    real: FloatField,
    imaginary: FloatField,
}

#[derive(Clone, Copy, PartialEq)]
struct FloatField {
    offset: usize,
    double: bool,
    big_endian: bool,
}

impl ComplexLayout {
    fn of(datatype: &Datatype) -> Option<Self> {
        let Datatype::Compound { size, members } = datatype else { return None };
        // h5py's names first; `real`, `imag` are what MATLAB and some converters write.
        let member = |names: [&str; 2]| {
            let member = members.iter().find(|member| names.contains(&member.name.as_str()))?;
            let offset = usize::try_from(member.byte_offset).ok()?;
            FloatField::of(&member.datatype, offset).filter(|field| field.end() <= *size as usize)
        };
        let (real, imaginary) = (member(["r", "real"])?, member(["i", "imag"])?);
        (members.len() == 2).then_some(Self { size: *size as usize, real, imaginary })
    }

    fn decode(&self, bytes: &[u8]) -> Vec<Complex32> {
        let plain = |offset| FloatField { offset, double: false, big_endian: cfg!(target_endian = "big") };
        if self.size == 8 && self.real == plain(0) && self.imaginary == plain(4) {
            let mut values = vec![Complex32::ZERO; bytes.len() / 8];
            bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
            return values;
        }
        bytes
            .chunks_exact(self.size)
            .map(|element| Complex32::new(self.real.decode(element), self.imaginary.decode(element)))
            .collect()
    }
}

impl FloatField {
    fn of(datatype: &Datatype, offset: usize) -> Option<Self> {
        let Datatype::FloatingPoint { size, byte_order, layout } = datatype else { return None };
        let double = match (*size, *layout) {
            (4, FloatingPointLayout::IEEE754_BINARY32) => false,
            (8, FloatingPointLayout::IEEE754_BINARY64) => true,
            _ => return None,
        };
        let big_endian = match byte_order {
            DatatypeByteOrder::LittleEndian => false,
            DatatypeByteOrder::BigEndian => true,
            _ => return None,
        };
        Some(Self { offset, double, big_endian })
    }

    fn end(self) -> usize {
        self.offset + if self.double { 8 } else { 4 }
    }

    fn decode(self, element: &[u8]) -> f32 {
        fn bytes<const N: usize>(field: FloatField, element: &[u8]) -> [u8; N] {
            let mut bytes = [0; N];
            bytes.copy_from_slice(&element[field.offset..field.offset + N]);
            if field.big_endian {
                bytes.reverse();
            }
            bytes
        }
        if self.double {
            f64::from_le_bytes(bytes(self, element)) as f32
        } else {
            f32::from_le_bytes(bytes(self, element))
        }
    }
}

/// A file that is read at explicit positions, so that threads do not wait for each other.
struct PositionedFile {
    handle: File,
    length: u64,
}

impl Source for PositionedFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::result::Result<(), FormatError> {
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
