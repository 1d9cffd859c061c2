//! How quickly slices come from the files of a set.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::Build;
use crate::data::cache::CacheBudget;
use crate::data::loader::{Loader, LoaderOptions};
use crate::data::order::epoch_order;
use crate::data::set::VolumeSet;
use crate::error::Result;
use crate::progress::Progress;
use crate::table::{Style, render};

/// The seed of the order, which is shuffled as in training.
const SEED: u64 = 42;

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    build: Build,
    data: String,
    volumes: usize,
    slices: usize,
    /// k-space and targets of all slices, in memory.
    bytes: u64,
    /// That the passes after the first find in memory.
    cached_slices: usize,
    /// The first pass over all, which may have to read the disk: with the default number of threads.
    first: Pass,
    /// The fastest of the passes after it, by number of threads.
    again: Vec<Pass>,
}

#[derive(Clone, Serialize)]
struct Pass {
    threads: usize,
    seconds: f64,
    slices_per_second: f64,
    bytes_per_second: f64,
}

impl Report {
    /// Slices a second with the default number of threads: of the first pass, and of those after it.
    pub fn rates(&self) -> [f64; 2] {
        [&self.first, self.again.last().unwrap_or(&self.first)].map(|pass| pass.slices_per_second)
    }
}

/// Reads the set over and over: `iters` times for each number of threads up to the usual.
///
/// # Errors
/// A slice that cannot be read.
pub fn measure(set: VolumeSet, iters: u32, usual: LoaderOptions) -> Result<Report> {
    let data = set.named();
    let set = Arc::new(set.cached(&CacheBudget::new(usual.cache)));
    let mut threads = vec![1, 2, 4, 8, 16];
    threads.retain(|&n| n < usual.threads);
    threads.push(usual.threads);
    let passes = 1 + threads.len() as u64 * u64::from(iters);
    let mut progress = Progress::new(passes * set.slice_count() as u64, "reading");
    let (first, bytes) = pass(&set, usual, &mut progress)?;
    let mut again = Vec::new();
    for threads in threads {
        let options = LoaderOptions { threads, ..usual };
        let mut fastest: Option<Pass> = None;
        for _ in 0..iters {
            let (this, _) = pass(&set, options, &mut progress)?;
            fastest = Some(fastest.filter(|f| f.seconds <= this.seconds).unwrap_or(this));
        }
        again.extend(fastest);
    }
    progress.finish();
    Ok(Report {
        build: Build::this(),
        data,
        volumes: set.volumes().len(),
        slices: set.slice_count(),
        bytes,
        cached_slices: set.cached_slices(),
        first,
        again,
    })
}

fn pass(set: &Arc<VolumeSet>, options: LoaderOptions, progress: &mut Progress) -> Result<(Pass, u64)> {
    let order = epoch_order(set, SEED, 0, true, 1);
    let started = Instant::now();
    let (mut slices, mut bytes) = (0, 0);
    let mut loader = Loader::start(set.clone(), order, options);
    while let Some(batch) = loader.next() {
        for loaded in batch? {
            let target = loaded.data.target.as_deref().unwrap_or_default();
            bytes += (size_of_val(loaded.data.kspace.as_slice()) + size_of_val(target)) as u64;
            loader.recycle(loaded.data.kspace);
            slices += 1;
            progress.step("");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let rates = [slices as f64, bytes as f64].map(|amount| amount / seconds);
    let threads = options.threads;
    Ok((Pass { threads, seconds, slices_per_second: rates[0], bytes_per_second: rates[1] }, bytes))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, volumes, slices, bytes, cached_slices, first, again, .. } = self;
        let each = *bytes as f64 / 1e6 / (*slices).max(1) as f64;
        writeln!(f, "{}: {volumes} volumes, {slices} slices of {each:.1} MB", data)?;
        if *cached_slices > 0 {
            writeln!(f, "{cached_slices} of them stay in memory once they were read")?;
        }
        let header =
            ["pass", "threads", "seconds", "slices/s", "GB/s", "ms/slice"].map(str::to_string).to_vec();
        let row = |(name, pass): (&str, &Pass)| {
            vec![
                name.to_string(),
                pass.threads.to_string(),
                format!("{:.3}", pass.seconds),
                format!("{:.1}", pass.slices_per_second),
                format!("{:.2}", pass.bytes_per_second / 1e9),
                format!("{:.2}", 1e3 / pass.slices_per_second),
            ]
        };
        let passes = [("first", first)].into_iter().chain(again.iter().map(|pass| ("again", pass)));
        write!(f, "{}", render(Style::Terminal, header, passes.map(row), 1))
    }
}
