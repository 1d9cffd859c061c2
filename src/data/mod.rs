//! From files to k-space slices: fastMRI HDF5, undersampling masks, sets of volumes and the loader.
//! Nothing here knows of devices or networks.

pub mod mask;
pub mod numpy_random;
pub mod volume;
