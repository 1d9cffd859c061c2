//! What a GPU's failures are called, and which kernels may be the cause.

use std::collections::VecDeque;

use ::cudarc::driver::result::DriverError;

use super::Call;
use crate::memory::{REMEDY, size};

/// Kernels fail after their launch has been accepted, so a message names the latest few.
const REMEMBERED: usize = 6;

/// A recording is of what the device does by itself.
pub fn not_recorded(doing: &str) -> String {
    format!("a recorded step cannot {doing}")
}

#[derive(Debug)]
enum Asked {
    Kernel(Call),
    Recording { kernels: usize },
}

impl Asked {
    fn name(&self) -> String {
        match self {
            Self::Kernel(call) => call.kernel.to_string(),
            Self::Recording { kernels } => format!("a replayed recording of {kernels} kernels"),
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel(call) => call.fmt(f),
            Self::Recording { .. } => f.write_str(&self.name()),
        }
    }
}

/// What was asked of the device lately, the latest first.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<Asked>);

impl Recent {
    pub fn launched(&mut self, call: Call) {
        self.push(Asked::Kernel(call));
    }

    pub fn replayed(&mut self, kernels: usize) {
        self.push(Asked::Recording { kernels });
    }

    fn push(&mut self, what: Asked) {
        self.0.truncate(REMEMBERED - 1);
        self.0.push_front(what);
    }

    /// Whatever was asked for has succeeded.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// `at_once`: every kernel was waited for, so that the latest is the one.
    pub fn explain(&self, device: &str, doing: &str, error: &str, at_once: bool) -> String {
        let Some(latest) = self.0.front() else {
            return format!("{device}: {error} while {doing}, with no kernel under way");
        };
        if at_once {
            return format!("{device}: {error} while {doing}, after the kernel {latest}");
        }
        let all: Vec<String> = self.0.iter().map(Asked::name).collect();
        format!(
            "{device}: {error} while {doing}. One of the kernels launched before may be the cause; the latest first: \
             {}. Run again with KERASE_SYNC=1 in the environment to have the kernel named with its sizes",
            all.join(", ")
        )
    }
}

/// "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)".
pub fn text(error: DriverError) -> String {
    match error.error_string() {
        Ok(words) => format!("{:?} ({})", error.0, words.to_string_lossy()),
        Err(_) => format!("{:?}", error.0),
    }
}

pub fn out_of_memory(device: &str, asked: usize, [free, total]: [usize; 2]) -> String {
    let missing = if asked > free {
        format!("{} are missing", size(asked - free))
    } else {
        "not in one piece, or something else took it meanwhile".into()
    };
    format!(
        "{device} has not enough memory: {} are needed, {} of {} are free, {missing}. {REMEDY}",
        size(asked),
        size(free),
        size(total)
    )
}

pub fn too_much_shared(device: &str, call: &Call, most: u32) -> String {
    format!(
        "{device}: the launch asks for {} bytes of dynamic shared memory, and a block of this kernel can have {most} here: \
         {call}",
        call.launch.shared
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::driver::Launch;
    use crate::cuda::kernel::{Const, ImageShape, argument};

    fn call(kernel: &'static str) -> Call {
        let (values, shape) = (Const::<f32>::null(), ImageShape { n: 1, coils: 15, rows: 640, columns: 372 });
        let arguments = [argument("values", &values), argument("shape", &shape), argument("parts", &7)];
        Call::new(kernel, Launch { grid: [3, 2, 1], threads: 128, shared: 65536 }, &arguments)
    }

    #[test]
    fn a_table_among_the_arguments_is_cut_short() {
        let table = [123_456_789; 64];
        let launch = Launch { grid: [1; 3], threads: 32, shared: 0 };
        let shown = Call::new("k", launch, &[argument("table", &table)]).to_string();
        assert!(shown.len() < 400 && shown.ends_with(" …)"), "{shown}");
    }

    #[test]
    fn the_latest_kernels_are_named_with_their_launch() {
        let mut recent = Recent::default();
        for kernel in ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"] {
            recent.launched(call(kernel));
        }
        let message = recent.explain("cuda:0 (X)", "downloading", "CUDA_ERROR_LAUNCH_FAILED", false);
        assert!(message.contains("latest first: k7, k6, k5, k4, k3, k2. Run"), "{message}");
        assert!(message.contains("KERASE_SYNC=1"), "{message}");
        let message = recent.explain("cuda:0 (X)", "waiting", "CUDA_ERROR_LAUNCH_FAILED", true);
        assert!(message.contains("after the kernel k7 (3x2x1 blocks of 128 threads"), "{message}");
        assert!(message.ends_with("; shape (n 1, coils 15, rows 640, columns 372), parts 7)"), "{message}");
        assert!(!message.contains("KERASE_SYNC"), "{message}");
        recent.clear();
        assert!(recent.explain("cuda:0", "waiting", "E", false).contains("no kernel under way"));
        recent.replayed(812);
        assert!(recent.explain("cuda:0", "waiting", "E", false).contains("recording of 812 kernels"));
    }

    #[test]
    fn too_little_memory_says_how_much_is_missing() {
        let message = out_of_memory("cuda:1 (X)", 5 << 30, [3 << 30, 8 << 30]);
        for part in ["cuda:1 (X)", "5.0 GiB are needed", "3.0 GiB of 8.0 GiB", "2.0 GiB are missing"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(out_of_memory("cuda:0", 1, [2, 3]).contains("in one piece"));
        let message = too_much_shared("cuda:0", &call("fft"), 49152);
        assert!(message.contains(": fft (") && message.contains("65536 bytes"), "{message}");
        assert!(message.contains("49152"), "{message}");
    }
}
