//! A device that does nothing: what a step would allocate and launch can be found out on any machine.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{Argument, Driver, Launch};
use crate::error::Result;

/// Keeps count of what it is asked for.
#[derive(Default)]
pub struct Dry {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the next block begins. Nobody follows addresses, but they must differ.
    next: u64,
    launches: BTreeMap<&'static str, usize>,
    /// Launches beside others that nobody waits for yet: how many others there were before.
    beside: Vec<(&'static str, usize)>,
    /// How many were waited for.
    waited_for: usize,
    /// Of each kernel, the most launches that came while one beside them was not waited for.
    overtaken: BTreeMap<&'static str, usize>,
    /// Downloads that were begun and not waited for, and the most at a time.
    downloads: [usize; 2],
}

impl State {
    fn launched(&self) -> usize {
        self.launches.values().sum()
    }
}

impl Dry {
    /// How often each kernel was launched.
    pub fn launches(&self) -> BTreeMap<&'static str, usize> {
        self.state().launches.clone()
    }

    /// How many launches, at the most, came between one of a kernel beside them and whoever waited for it.
    pub fn overtaken(&self) -> BTreeMap<&'static str, usize> {
        self.state().overtaken.clone()
    }

    /// The most downloads that were under way at a time.
    pub fn most_downloads(&self) -> usize {
        self.state().downloads[1]
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this")
    }
}

impl Driver for Dry {
    type Block = u64;
    type Graph = ();
    type Event = ();
    type Download = ();

    fn name(&self) -> String {
        "dry run".into()
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        let mut state = self.state();
        let address = state.next + 256;
        state.next = (address + bytes as u64).next_multiple_of(256);
        Ok(address)
    }

    fn address(&self, block: &u64) -> u64 {
        *block
    }

    fn memory(&self) -> Result<[usize; 2]> {
        Ok([usize::MAX; 2])
    }

    unsafe fn upload(&self, _from: &[u8], _to: u64) -> Result<()> {
        Ok(())
    }

    unsafe fn upload_after(&self, (): &(), _from: &[u8], _to: u64) -> Result<()> {
        Ok(())
    }

    unsafe fn download(&self, _from: u64, to: &mut [u8]) -> Result<()> {
        to.fill(0);
        Ok(())
    }

    unsafe fn begin_download(&self, _from: u64, _bytes: usize) -> Result<()> {
        let [now, most] = &mut self.state().downloads;
        *now += 1;
        *most = (*most).max(*now);
        Ok(())
    }

    fn await_download(&self, (): (), to: &mut [u8]) -> Result<()> {
        self.state().downloads[0] -= 1;
        to.fill(0);
        Ok(())
    }

    unsafe fn copy(&self, _from: u64, _to: u64, _bytes: usize) -> Result<()> {
        Ok(())
    }

    unsafe fn zero(&self, _at: u64, _bytes: usize) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, kernel: &'static str, _launch: Launch, _arguments: &[Argument]) -> Result<()> {
        *self.state().launches.entry(kernel).or_default() += 1;
        Ok(())
    }

    unsafe fn launch_beside(
        &self,
        kernel: &'static str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<u64> {
        // SAFETY: nothing is carried out.
        unsafe { self.launch(kernel, launch, arguments) }?;
        let mut state = self.state();
        let before = state.launched();
        state.beside.push((kernel, before));
        Ok((state.waited_for + state.beside.len()) as u64)
    }

    fn await_beside(&self, number: u64) -> Result<()> {
        let mut state = self.state();
        let launched = state.launched();
        let ended = (number as usize).saturating_sub(state.waited_for).min(state.beside.len());
        state.waited_for += ended;
        let ended: Vec<_> = state.beside.drain(..ended).collect();
        for (kernel, before) in ended {
            let most = state.overtaken.entry(kernel).or_default();
            *most = (launched - before).max(*most);
        }
        Ok(())
    }

    fn record(&self, body: &mut dyn FnMut()) -> Result<()> {
        body();
        Ok(())
    }

    unsafe fn replay(&self, _graph: &()) -> Result<()> {
        Ok(())
    }

    fn event(&self) -> Result<()> {
        Ok(())
    }

    fn seconds(&self, (): &(), (): &()) -> Result<f64> {
        Ok(0.0)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
