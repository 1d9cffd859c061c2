//! HDF5 through crate hdf5-pure: what the readers of this module need, with errors that name the file.
//!
//! A file is opened anew for every read. That costs some ten small reads where a slice is tens of megabytes,
//! and it means that nothing is shared between threads (no lock, no common file position) and that a set of
//! thousands of volumes holds no file open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_pure::{
    AttrValue, ChunkCacheConfig, ChunkIndex, Datatype, Error as Hdf5Error, FileAccessProperties, FormatError,
    Layout, MetadataCacheConfig,
};
use num_complex::Complex32;

use super::complex::{ComplexLayout, all_finite};
use super::links;
use super::positioned::{PositionedFile, SharedFile};
use crate::error::{Error, Result};

/// Complex numbers that are read and checked at a time: 1 MiB.
const PIECE: usize = 1 << 17;

/// An open HDF5 file.
pub(super) struct Container {
    path: PathBuf,
    file: hdf5_pure::File,
    bytes: Arc<PositionedFile>,
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
        let bytes = PositionedFile::open(path, "one HDF5 file of the fastMRI layout")?;
        let length = bytes.length;
        if length == 0 {
            return Err(Error::input(format!("{} is empty: copy or download it again", path.display())));
        }

        // Chunks are read once for each slice, so caching them would only take memory.
        let properties = FileAccessProperties::new()
            .with_metadata_cache(MetadataCacheConfig::new(1 << 20))
            .with_chunk_cache(ChunkCacheConfig::disabled());
        let bytes = Arc::new(bytes);
        let file = hdf5_pure::File::from_source_with_options(SharedFile(bytes.clone()), properties).map_err(
            |error| {
            if matches!(error, Hdf5Error::FileMarkedInUse(_)) {
                return Error::input(format!(
                    "{0} is marked as being written: wait until the program that writes it has closed it, or, if that is gone, \
                     take the mark away with  h5clear -s {0}",
                    path.display()
                ));
            }
            let what = match error {
                Hdf5Error::Format(FormatError::SignatureNotFound) if is_old_matlab(&bytes) => {
                    "is a MATLAB file of an older format, which is not HDF5 (save it with '-v7.3')".to_string()
                }
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
        Ok(Self { path: path.to_path_buf(), file, bytes })
    }

    /// An error about this file: "PATH: message".
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {message}", self.path.display()))
    }

    fn link(&self, name: &str) -> Error {
        self.error(format!(
            "'{name}' is a link, which kerase does not follow: copy the dataset into the file, as h5copy does"
        ))
    }

    fn damaged(&self, name: &str, error: &Hdf5Error) -> Error {
        // In older files a soft link has this address in place of an object's.
        if error.to_string().contains(&u64::MAX.to_string()) {
            return self.link(name);
        }
        if matches!(error, Hdf5Error::Format(FormatError::TypeMismatch { .. })) {
            return self.unknown_numbers(name, error);
        }
        self.error(format!(
            "cannot read '{name}' ({error}): copy or download the file again, or, if h5py reads it, rewrite it with \
             libver='earliest' (h5repack does that too)"
        ))
    }

    /// HDF5 gives zeros for what was never written.
    fn unwritten(&self, name: &str, shape: &(impl std::fmt::Debug + ?Sized)) -> Error {
        self.error(format!(
            "'{name}' has the shape {shape:?}, but was never written, or only a part of it: write it anew, or copy or download \
             the file again"
        ))
    }

    fn unknown_numbers(&self, name: &str, what: impl std::fmt::Display) -> Error {
        self.error(format!(
            "'{name}' has numbers of a type that kerase does not read ({what}): store it anew as float32, in h5py  \
             file[\"{name}\"][()].astype(\"float32\")"
        ))
    }

    /// The dataset of this name in the root group, or `None` where there is nothing of that name.
    pub fn dataset<'a>(&'a self, name: &'a str) -> Result<Option<Dataset<'a>>> {
        let dataset = match self.file.dataset(name) {
            Ok(dataset) => dataset,
            Err(Hdf5Error::Format(FormatError::PathNotFound(_))) if self.has_link(name) => {
                return Err(self.link(name));
            }
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
        let layout = dataset.layout().map_err(|error| self.damaged(name, &error))?;
        if matches!(layout, Layout::Virtual) {
            return Err(self.error(format!(
                "'{name}' is a virtual dataset, whose numbers are in other files: copy them into one, as h5repack does"
            )));
        }
        if matches!(layout, Layout::Contiguous { address: None, .. }) && !shape.contains(&0) {
            // To ask for no rows is to ask where they are.
            return Err(match dataset.read_raw_rows(0, 0) {
                Err(Hdf5Error::Format(FormatError::UnsupportedExternalStorage)) => self.error(format!(
                    "'{name}' has its numbers in other files: copy them into this one, in h5py  numbers = \
                     file[\"{name}\"][()]; del file[\"{name}\"]; file[\"{name}\"] = numbers"
                )),
                _ => self.unwritten(name, &shape),
            });
        }
        let shape = shape
            .iter()
            .map(|&size| usize::try_from(size).map_err(|_| self.error(format!("'{name}' is {size} long"))))
            .collect::<Result<Vec<usize>>>()?;
        self.check_size(name, &dataset, &shape)?;
        Ok(Some(Dataset { container: self, name, dataset, shape }))
    }

    /// Whether the root group has a link of this name, which where hdf5-pure finds nothing leads elsewhere. What cannot be
    /// read has none: this is no reason to refuse a file.
    fn has_link(&self, name: &str) -> bool {
        links::names(&self.bytes, self.file.superblock())
            .is_ok_and(|names| names.iter().any(|found| found == name.as_bytes()))
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
            if lacks_chunks(dataset, shape) {
                return Err(self.unwritten(name, shape));
            }
            return Err(self.error(format!(
                "'{name}' claims the shape {shape:?}, more than the file of {} bytes can hold: it is damaged; copy \
                 or download it again",
                self.file.file_size()
            )));
        }
        Ok(())
    }

    /// The names of the datasets in the root group, sorted.
    pub fn dataset_names(&self) -> Result<Vec<String>> {
        let mut names = self.file.root().datasets().map_err(|error| {
            self.error(format!("cannot read what is in the file ({error}); copy or download it again"))
        })?;
        names.sort();
        Ok(names)
    }

    /// The same for an error that says what is there.
    pub fn names(&self) -> String {
        match self.dataset_names() {
            Ok(names) if names.is_empty() => "no datasets".to_string(),
            Ok(names) => names.join(", "),
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

/// Whether fewer chunks are in the file than the shape asks for, where each chunk that is there is listed: of indices that follow
/// from the shape a damaged one would fill all memory.
fn lacks_chunks(dataset: &hdf5_pure::Dataset, shape: &[usize]) -> bool {
    let Ok(Layout::Chunked { chunk_shape, index: ChunkIndex::BTreeV1 }) = dataset.layout() else {
        return false;
    };
    let along = shape.iter().zip(chunk_shape).map(|(size, chunk)| (*size as u64).div_ceil(chunk.max(1)));
    let expected = along.fold(1, u64::saturating_mul);
    dataset.chunks().is_ok_and(|chunks| (chunks.len() as u64) < expected)
}

/// MATLAB's formats before 7.3 begin so.
fn is_old_matlab(bytes: &PositionedFile) -> bool {
    let mut start = [0; 10];
    bytes.read_at(0, &mut start).is_ok() && &start == b"MATLAB 5.0"
}

impl Dataset<'_> {
    fn damaged(&self, error: &Hdf5Error) -> Error {
        self.container.damaged(self.name, error)
    }

    fn datatype(&self) -> Result<Datatype> {
        self.dataset.datatype().map_err(|error| self.damaged(&error))
    }

    /// Whether MATLAB wrote this variable: it notes the class of each.
    pub fn is_matlab(&self) -> bool {
        self.dataset.attr_datatypes().is_ok_and(|attributes| attributes.contains_key("MATLAB_class"))
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
                "'{}' has elements of type {datatype}: expected complex numbers, a compound of two floats r \
                 and i as h5py stores them (complex64 or complex128), or real and imag as MATLAB does",
                self.name
            ))
        })
    }

    /// Row `index` of the leading dimension as complex64, in `memory` where that can be; an error where a number is not
    /// finite.
    pub fn complex_row(&self, index: usize, memory: Vec<Complex32>) -> Result<Vec<Complex32>> {
        self.complex_part(index, [0, 1], index, memory)
    }

    /// The same for one of `parts` equal parts of the row, which an error calls slice `slice`.
    pub fn complex_part(
        &self,
        row: usize,
        [part, parts]: [usize; 2],
        slice: usize,
        memory: Vec<Complex32>,
    ) -> Result<Vec<Complex32>> {
        let layout = self.complex_layout()?;
        let count = self.shape[1..].iter().product::<usize>() / parts;
        if layout.is_native()
            && let Some((values, finite)) = self.contiguous((row * parts + part) * count, count, memory)?
        {
            if !finite {
                self.check_finite(slice, bytemuck::cast_slice(&values))?;
            }
            return Ok(values);
        }
        let bytes = self.raw_rows(row, 1, layout.size)?;
        let values = layout.decode(&bytes[part * count * layout.size..][..count * layout.size]);
        self.check_finite(slice, bytemuck::cast_slice(&values))?;
        Ok(values)
    }

    /// `count` elements from `first` on, straight from the file into their place, where the numbers lie there one after
    /// the other as in memory: how fastMRI's own files are. It saves a second buffer and a copy of tens of megabytes.
    /// With them, whether all are finite.
    fn contiguous(
        &self,
        first: usize,
        count: usize,
        mut values: Vec<Complex32>,
    ) -> Result<Option<(Vec<Complex32>, bool)>> {
        let layout = self.dataset.layout().map_err(|error| self.damaged(&error))?;
        let expected = (self.shape.iter().product::<usize>() * size_of::<Complex32>()) as u64;
        let start = match layout {
            Layout::Contiguous { address: Some(address), size } if size == expected => address,
            _ => return Ok(None),
        };
        let start = start.saturating_add((first * size_of::<Complex32>()) as u64);
        // A vector that is new comes from the system as zeros.
        if values.is_empty() {
            values = vec![Complex32::ZERO; count];
        }
        values.resize(count, Complex32::ZERO);
        // In pieces that are still in the cache when they are looked at.
        let mut finite = true;
        for (number, piece) in values.chunks_mut(PIECE).enumerate() {
            let offset = (number * PIECE * size_of::<Complex32>()) as u64;
            let read =
                self.container.bytes.read_at(start.saturating_add(offset), bytemuck::cast_slice_mut(piece));
            read.map_err(|error| self.damaged(&error.into()))?;
            finite &= all_finite(bytemuck::cast_slice(piece));
        }
        Ok(Some((values, finite)))
    }

    /// Whether the elements are floats or integers, which [`Self::real_row`] can read.
    pub fn is_real(&self) -> Result<bool> {
        Ok(matches!(self.datatype()?, Datatype::FloatingPoint { .. } | Datatype::FixedPoint { .. }))
    }

    /// Row `index` of the leading dimension as f32, whatever kind of number is stored; an error where one is
    /// not finite.
    pub fn real_row(&self, index: usize) -> Result<Vec<f32>> {
        let values = self.dataset.read_f32_rows(index as u64, 1).map_err(|error| self.damaged(&error))?;
        self.check_count(values.len(), self.shape[1..].iter().product())?;
        self.check_finite(index, &values)?;
        Ok(values)
    }

    /// hdf5-pure makes no numbers, and no error, of floats that are other than IEEE's of 32 or 64 bits.
    fn check_count(&self, found: usize, expected: usize) -> Result<()> {
        match found {
            _ if found == expected => Ok(()),
            0 => Err(self.container.unknown_numbers(self.name, self.datatype()?)),
            _ => Err(self.container.error(format!(
                "'{}' gave {found} numbers: expected {expected}; copy or download the file again",
                self.name
            ))),
        }
    }

    /// Refuses NaN and infinity: one such number spreads over the whole image in the first Fourier transform.
    fn check_finite(&self, row: usize, values: &[f32]) -> Result<()> {
        if all_finite(values) {
            return Ok(());
        }
        let count = values.iter().filter(|value| !value.is_finite()).count();
        Err(self.container.error(format!(
            "'{}' has {count} numbers in slice {row} that are NaN or infinite (as float32): expected finite numbers; \
             leave this slice or volume out, or copy the file again",
            self.name
        )))
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
        let values: Vec<bool> = match number {
            Datatype::FixedPoint { .. } | Datatype::BitField { .. } => {
                let bytes = self.dataset.read_raw().map_err(|error| self.damaged(&error))?;
                bytes.chunks_exact(size).map(|value| value.iter().any(|&byte| byte != 0)).collect()
            }
            Datatype::FloatingPoint { .. } => {
                let values = self.dataset.read_f64().map_err(|error| self.damaged(&error))?;
                if let Some(other) = values.iter().find(|value| ![0.0, 1.0].contains(*value)) {
                    return Err(self
                        .container
                        .error(format!("'{}' contains {other}: expected 0 or 1", self.name)));
                }
                values.into_iter().map(|value| value != 0.0).collect()
            }
            _ => {
                return Err(self.container.error(format!(
                    "'{}' has elements of type {datatype}: expected bool, integers or floats, one for each column",
                    self.name
                )));
            }
        };
        self.check_count(values.len(), self.shape.iter().product())?;
        Ok(values)
    }
}
