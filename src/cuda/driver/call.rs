//! What a driver is asked to launch, and how messages name it.

use std::ffi::c_void;

/// How a kernel is spread: blocks, threads of a block (one dimension), bytes of dynamic shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared: u32,
}

impl std::fmt::Display for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [x, y, z] = self.grid;
        write!(f, "{x}x{y}x{z} blocks of {} threads, {} bytes of shared memory", self.threads, self.shared)
    }
}

/// A value that a kernel is given: what cannot be told from its bytes.
pub trait Inspect {
    /// As messages show it; `None` for addresses, which tell nobody anything.
    fn show(&self) -> Option<String>;

    /// Calls `found` with every address in it.
    fn addresses(&self, found: &mut dyn FnMut(Touched)) {
        let _ = found;
    }
}

/// Where memory begins that a launch reads, or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    pub address: u64,
    pub written: bool,
}

/// One argument of a kernel: where its value lies on the host, and how long it is.
#[derive(Clone, Copy)]
pub struct Argument<'v> {
    pub name: &'static str,
    pub value: *const c_void,
    pub bytes: usize,
    pub inspect: &'v dyn Inspect,
}

/// What a message says of a launch's arguments at most: some are tables.
const MOST_SHOWN: usize = 240;

/// A launch as messages name it: the kernel, its blocks and the sizes that it was given.
#[derive(Clone, Debug)]
pub struct Call {
    pub kernel: &'static str,
    pub launch: Launch,
    sizes: String,
}

impl Call {
    pub fn new(kernel: &'static str, launch: Launch, arguments: &[Argument]) -> Self {
        let mut sizes = listed(arguments.iter().map(|a| (a.name, a.inspect.show())));
        if sizes.len() > MOST_SHOWN {
            // Names and numbers are ASCII.
            sizes.truncate(MOST_SHOWN);
            sizes += " …";
        }
        Self { kernel, launch, sizes }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.kernel, self.launch)?;
        if !self.sizes.is_empty() {
            write!(f, "; {}", self.sizes)?;
        }
        f.write_str(")")
    }
}

/// "n 1, coils 15": names and values, without those that are not shown.
pub fn listed(values: impl Iterator<Item = (&'static str, Option<String>)>) -> String {
    let shown: Vec<String> = values.filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect();
    shown.join(", ")
}
