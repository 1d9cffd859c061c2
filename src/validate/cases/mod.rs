//! The cases of each family of operations, in files of the same names as `src/cpu`'s.

pub mod conv;
pub mod pool;
pub mod unet_io;

/// The end of a name that tells a backward from its operation.
fn pass(backward: bool) -> &'static str {
    if backward { "_backward" } else { "" }
}

/// The end of a name that tells that the input is read as it is.
fn raw(stats: bool) -> &'static str {
    if stats { "" } else { " raw" }
}
