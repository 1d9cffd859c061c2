//! What is gathered while a step is recorded.

use crate::cuda::driver::Call;

/// One thing that was asked for.
pub enum Command {
    Launch { call: Call, arguments: Vec<Box<[u8]>> },
    Copy { from: u64, to: u64, bytes: usize },
    Zero { at: u64, bytes: usize },
}

/// What a recording under way has gathered.
#[derive(Default)]
pub struct Recording {
    /// `None` where the driver captures for itself.
    pub commands: Option<Vec<Command>>,
    pub kernels: usize,
    /// Blocks that were dropped meanwhile: freeing would break the capture off.
    pub freed: Vec<u64>,
}
