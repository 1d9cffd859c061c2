//! A recorded step: a CUDA graph, or, where every kernel is to be waited for, the list of what was asked for.

use std::sync::Arc;

use ::cudarc::driver::result::{self, DriverError, graph, stream};
use ::cudarc::driver::sys;

use super::context::Context;
use super::recording::{Command, Recording};

pub enum Graph {
    Listed(Vec<Command>),
    Captured(Captured),
}

pub struct Captured {
    pub executable: sys::CUgraphExec,
    pub kernels: usize,
    graph: sys::CUgraph,
    context: Arc<Context>,
}

// SAFETY: graphs are used by one thread at a time, which has bound the context.
unsafe impl Send for Captured {}

impl Captured {
    /// The context is bound, and its stream has captured what `recording` gathered.
    pub fn end(context: &Arc<Context>, recording: Recording) -> Result<Self, DriverError> {
        let kernels = recording.kernels;
        let (executable, graph) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mut captured = Self { executable, kernels, graph, context: Arc::clone(context) };
        // Each launch with the priority of the stream that it was captured in.
        let priorities = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
        // SAFETY: the stream is the context's; a broken capture is an error here. `drop` destroys what there is.
        unsafe {
            captured.graph = stream::end_capture(context.stream)?;
            captured.executable = graph::instantiate(captured.graph, priorities)?;
        }
        Ok(captured)
    }

    pub fn launch(&self) -> Result<(), DriverError> {
        // SAFETY: both live as long as this; the addresses in the graph are the caller's promise.
        unsafe { graph::launch(self.executable, self.context.stream) }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        // SAFETY: the stream is done with the graph before it goes.
        unsafe {
            let _ = stream::synchronize(self.context.stream);
            if !self.executable.is_null() {
                let _ = graph::exec_destroy(self.executable);
            }
            if !self.graph.is_null() {
                let _ = graph::destroy(self.graph);
            }
        }
    }
}

/// Ends a capture whose outcome nobody wants.
pub fn abandon(context: &Context, recording: Recording) {
    // SAFETY: the stream is the context's, and a graph without an executable is nobody's.
    unsafe {
        if recording.commands.is_none()
            && let Ok(captured) = stream::end_capture(context.stream)
            && !captured.is_null()
        {
            let _ = result::graph::destroy(captured);
        }
    }
}
