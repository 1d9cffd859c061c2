//! From files to k-space slices: fastMRI HDF5, undersampling masks, sets of volumes and the loader.
//! Nothing here knows of devices or networks.

mod complex;
pub mod digest;
pub mod fastmri;
mod hdf5;
pub mod ismrmrd;
pub mod loader;
pub mod mask;
pub mod numpy_random;
pub mod order;
pub mod overlap;
mod positioned;
pub mod set;
pub mod volume;
pub mod write;
