//! Synthetic multi-coil volumes in fastMRI's terms: a T2-weighted brain and a proton-density knee, seen by
//! loop coils, with phase, noise, readout oversampling and zero padding. The demo and the tests train on
//! them; a network that learns one anatomy meets other shapes, textures and noise in the other.
//!
//! Everything follows from (seed, anatomy, subject): the same volume comes out whatever the number of
//! threads.

mod acquire;
mod brain;
mod coils;
mod config;
mod fourier;
mod knee;
mod noise;
mod pose;
mod shape;
mod subject;

pub use acquire::simulate_volume;
pub use config::{Anatomy, SimulateConfig, file_name};
