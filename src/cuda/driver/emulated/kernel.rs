//! The kernels that the host's compiler made.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;

use super::Schedule;
use crate::cuda::driver::Launch;

unsafe extern "C" {
    fn emulation_next_kernel(kernel: *const c_void) -> *const c_void;
    fn emulation_name(kernel: *const c_void) -> *const c_char;
    fn emulation_source(kernel: *const c_void) -> *const c_char;
    fn emulation_most_threads(kernel: *const c_void) -> u32;
    fn emulation_signature(kernel: *const c_void, text: *mut c_char, room: usize) -> usize;
    fn emulation_run(
        kernel: *const c_void,
        arguments: *const *const c_void,
        grid: *const u32,
        threads: u32,
        dynamic_bytes: usize,
        schedule: c_int,
        seed: u64,
        first: u64,
        end: u64,
    );
}

/// A kernel that the host's compiler made.
#[derive(Clone, Copy)]
pub struct Kernel(*const c_void);

// SAFETY: it points to a constant of the program.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// All that were compiled.
    pub fn all() -> impl Iterator<Item = Self> {
        // SAFETY: each call returns the one after, or null; null asks for the first.
        let next = |kernel| Some(unsafe { emulation_next_kernel(kernel) }).filter(|next| !next.is_null());
        std::iter::successors(next(std::ptr::null()), move |&kernel| next(kernel)).map(Self)
    }

    pub fn name(self) -> &'static str {
        // SAFETY: the name is a string constant of the program.
        unsafe { CStr::from_ptr(emulation_name(self.0)) }.to_str().expect("C++ names are ASCII")
    }

    /// The stem of the file in kernels/ that it was compiled from, whichever header it is written in.
    pub fn file(self) -> &'static str {
        // SAFETY: the path is a string constant of the program.
        let path = unsafe { CStr::from_ptr(emulation_source(self.0)) }.to_str().expect("OUT_DIR is UTF-8");
        // build/emulation.rs compiles kernels/norm.cu as norm.cpp.
        Path::new(path).file_stem().and_then(|stem| stem.to_str()).expect("a file has a stem")
    }

    /// Threads that a block of it may have: what its `__launch_bounds__` says.
    pub fn most_threads(self) -> u32 {
        // SAFETY: a kernel is there as long as the program.
        unsafe { emulation_most_threads(self.0) }
    }

    /// The types of its parameters, as `kernels!` spells them.
    pub fn signature(self) -> String {
        let mut text = vec![0u8; 4096];
        // SAFETY: so many bytes are there.
        let len = unsafe { emulation_signature(self.0, text.as_mut_ptr().cast(), text.len()) };
        text.truncate(len);
        String::from_utf8(text).expect("C++ names are ASCII")
    }

    /// Carries out the blocks of a launch from number `first` to before `end`.
    ///
    /// # Safety
    /// At these addresses are values of the types of its parameters, in order, and what they point to is alive and has
    /// all that this launch touches. Nobody else writes what these blocks touch, or reads what they write.
    pub(super) unsafe fn run(
        self,
        arguments: &[usize],
        launch: Launch,
        schedule: Schedule,
        [first, end]: [u64; 2],
    ) {
        let (schedule, seed) = match schedule {
            Schedule::Forward => (0, 0),
            Schedule::Reverse => (1, 0),
            Schedule::Random(seed) => (2, seed),
        };
        // SAFETY: the caller's.
        unsafe {
            emulation_run(
                self.0,
                arguments.as_ptr().cast(),
                launch.grid.as_ptr(),
                launch.threads,
                launch.shared as usize,
                schedule,
                seed,
                first,
                end,
            );
        }
    }
}
