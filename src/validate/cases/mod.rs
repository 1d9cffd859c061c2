//! The cases of each family of operations, in files of the same names as `src/cpu`'s.

pub mod announce;
pub mod cascade;
pub mod conv;
pub mod conv1x1;
pub mod conv_transpose;
pub mod crop_to_target;
pub mod fft;
mod images;
pub mod importance;
pub mod loss;
pub mod memory;
pub mod noise;
pub mod pool;
pub mod rss_output;
pub mod sens;
pub mod sens_backward;
pub mod unet_io;
pub mod update;

/// The end of a name that tells a backward from its operation.
fn pass(backward: bool) -> &'static str {
    if backward { "_backward" } else { "" }
}

/// The end of a name that tells that the input is read as it is.
fn raw(stats: bool) -> &'static str {
    if stats { "" } else { " raw" }
}
