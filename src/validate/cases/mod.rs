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

use crate::backend::MapShape;

/// Images and channels of the paper's two U-Nets, the sensitivity network's for the coil images that it sees at a time.
const PAPER: [(usize, usize); 2] = [(1, 18), (4, 8)];
const PAPER_POOLS: usize = 4;
const PAPER_SIZE: [usize; 2] = [640, 368];

/// The maps of both U-Nets with their levels, of which 0 is at full size and [`PAPER_POOLS`] the lowest.
fn paper_maps() -> impl Iterator<Item = (usize, MapShape)> {
    PAPER.into_iter().flat_map(|(n, chans)| {
        (0..=PAPER_POOLS).map(move |level| {
            let [height, width] = PAPER_SIZE.map(|size| size >> level);
            (level, MapShape { n, channels: chans << level, height, width })
        })
    })
}

/// The end of a name that tells a backward from its operation.
fn pass(backward: bool) -> &'static str {
    if backward { "_backward" } else { "" }
}

/// The end of a name that tells that the input is read as it is.
fn raw(stats: bool) -> &'static str {
    if stats { "" } else { " raw" }
}
