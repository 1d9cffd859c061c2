//! From files to k-space slices: fastMRI HDF5, undersampling masks, sets of volumes and the loader.
//! Nothing here knows of devices or networks.

pub mod volume;
