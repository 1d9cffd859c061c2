//! From files to k-space slices: HDF5 of several layouts, undersampling masks, sets of volumes and the loader.
//! Nothing here knows of devices or networks.

pub mod cache;
pub mod cfl;
mod cmrxrecon;
mod complex;
mod compress;
pub mod digest;
pub mod entries;
mod fastmri;
pub mod fraction;
mod hdf5;
pub mod images;
pub mod inspect;
pub mod ismrmrd;
mod links;
pub mod loader;
pub mod mask;
pub mod numpy_random;
pub mod order;
pub mod overlap;
mod positioned;
mod read;
pub mod rss;
pub mod set;
mod shuffle;
pub mod virtual_coils;
pub mod volume;
pub mod write;
