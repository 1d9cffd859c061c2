//! Sums over the GPUs of several ranks, by NCCL, which is looked for when ranks on GPUs meet: kerase starts without it.
//!
//! The library is loaded here and not by cudarc, which knows it as libnccl.so only: what NCCL's packages install is
//! libnccl.so.2.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use ::cudarc::driver::result::{DriverError, event, stream};
use ::cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_wait_flags, CUstream};
use libloading::Library;

use super::context::{Context, waited_for};
use crate::error::{Error, Result};
use crate::ranks::{Ranks, tag};

/// Of nccl.h.
type Comm = *mut c_void;
type Code = c_int;

/// Of nccl.h: what all ranks of one communicator are given.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId([c_char; ID_BYTES]);

const ID_BYTES: usize = 128;
const SUCCESS: Code = 0;
const IN_PROGRESS: Code = 7;
const FLOAT32: c_int = 7;
const SUM: c_int = 0;

/// Older ones do not let a thread ask for errors while another waits.
const OLDEST: c_int = 21_800;

const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
const REMEDY: &str = "install NCCL (package libnccl2, a module of the cluster's, or pip's nvidia-nccl-cu12) and let \
                      LD_LIBRARY_PATH name the directory of libnccl.so.2";

/// The functions that are used.
struct Nccl {
    init_rank: unsafe extern "C" fn(*mut Comm, c_int, UniqueId, c_int) -> Code,
    all_reduce: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, CUstream) -> Code,
    async_error: unsafe extern "C" fn(Comm, *mut Code) -> Code,
    abort: unsafe extern "C" fn(Comm) -> Code,
    error_string: unsafe extern "C" fn(Code) -> *const c_char,
    last_error: unsafe extern "C" fn(Comm) -> *const c_char,
    unique_id: unsafe extern "C" fn(*mut UniqueId) -> Code,
    version: c_int,
    /// Keeps the functions in memory, also for threads of its own that are still there.
    _library: ManuallyDrop<Library>,
}

impl Nccl {
    fn load() -> std::result::Result<Self, String> {
        // SAFETY: loading NCCL runs its initialisers only, which ask nothing of the process.
        let found = NAMES.into_iter().find_map(|name| unsafe { Library::new(name) }.ok());
        let library = found.ok_or_else(|| format!("{} cannot be loaded: {REMEDY}", NAMES[0]))?;
        // SAFETY: the types below are those of nccl.h since 2.0, and the library outlives the functions.
        unsafe {
            let get_version: unsafe extern "C" fn(*mut c_int) -> Code = function(&library, "ncclGetVersion")?;
            let mut version = 0;
            get_version(&mut version);
            if version < OLDEST {
                return Err(format!(
                    "NCCL {} is too old, {} is needed: {REMEDY}",
                    shown(version),
                    shown(OLDEST)
                ));
            }
            Ok(Self {
                init_rank: function(&library, "ncclCommInitRank")?,
                all_reduce: function(&library, "ncclAllReduce")?,
                async_error: function(&library, "ncclCommGetAsyncError")?,
                abort: function(&library, "ncclCommAbort")?,
                error_string: function(&library, "ncclGetErrorString")?,
                last_error: function(&library, "ncclGetLastError")?,
                unique_id: function(&library, "ncclGetUniqueId")?,
                version,
                _library: ManuallyDrop::new(library),
            })
        }
    }

    /// What a code means. The communicator may be null.
    fn explain(&self, code: Code, comm: Comm) -> String {
        // SAFETY: both return strings of the library's own.
        let text = |text: *const c_char| match text.is_null() {
            true => String::new(),
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_string(),
        };
        // SAFETY: any code has a string.
        let short = text(unsafe { (self.error_string)(code) });
        // SAFETY: documented to take a communicator that is null.
        let long = text(unsafe { (self.last_error)(comm) });
        if long.is_empty() { short } else { format!("{short} ({long})") }
    }
}

/// # Safety
/// `F` is the type that nccl.h gives the function, which is used no longer than the library.
unsafe fn function<F: Copy>(library: &Library, name: &str) -> std::result::Result<F, String> {
    // SAFETY: as the caller says.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    found.map(|function| *function).map_err(|_| format!("{} has no {name}: {REMEDY}", NAMES[0]))
}

/// The version of the NCCL that ranks on GPUs would use here.
///
/// # Errors
/// Why there is none, with the remedy.
pub fn found() -> std::result::Result<String, String> {
    Nccl::load().map(|nccl| shown(nccl.version))
}

/// 22105 is 2.21.5.
fn shown(version: c_int) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

/// Refuses ranks of which two have one GPU: NCCL would say that it was used wrongly, or wait for ever.
fn refuse_shared(ranks: &Ranks, device: &str, uuid: [u8; 16]) -> Result<()> {
    let all = ranks.gather(tag("gpu"), &uuid)?;
    for (rank, theirs) in all.iter().enumerate() {
        if let Some(first) = all[..rank].iter().position(|other| other == theirs) {
            let gpu =
                if [first, rank].contains(&ranks.rank()) { format!(", {device}") } else { String::new() };
            return Err(Error::input(format!(
                "{} and {} have one GPU{gpu}: start one rank for each GPU and let each see all of its machine's, or its \
                 own alone",
                ranks.name(first),
                ranks.name(rank)
            )));
        }
    }
    Ok(())
}

/// The GPUs of all ranks.
pub struct Communicator {
    nccl: Nccl,
    comm: Comm,
    /// Where sums are made, beside the context's own stream.
    stream: CUstream,
    /// The context's stream has come to where a sum may begin; the sums are made. Recorded again and again.
    events: [CUevent; 2],
    context: Arc<Context>,
}

// SAFETY: NCCL lets any thread use a communicator, one at a time for what enqueues; asking for errors is allowed beside it.
unsafe impl Send for Communicator {}
// SAFETY: as above: only the thread that computes enqueues.
unsafe impl Sync for Communicator {}

impl Communicator {
    /// Connects this rank's GPU, whose context is bound, with those of the others.
    ///
    /// # Errors
    /// [`Error::Input`] on all ranks where one has no NCCL, too old a one, or another's GPU; [`Error::Device`] where NCCL
    /// fails.
    pub fn connect(ranks: &Ranks, context: &Arc<Context>) -> Result<Arc<Self>> {
        let device = &context.name;
        // Each says first whether it can: NCCL itself would wait for those that cannot.
        let loaded = Nccl::load();
        let said = match &loaded {
            Ok(nccl) => format!("\0{}", nccl.version),
            Err(why) => why.clone(),
        };
        let all = ranks.gather(tag("nccl"), said.as_bytes())?;
        let failure = |bytes: &Vec<u8>| bytes.first().is_some_and(|&byte| byte != 0);
        if let Some(rank) = all.iter().position(failure) {
            return Err(Error::input(format!(
                "{}: {}",
                ranks.name(rank),
                String::from_utf8_lossy(&all[rank])
            )));
        }
        let nccl = loaded.map_err(Error::Input)?;
        let versions: Vec<String> =
            all.iter().map(|bytes| String::from_utf8_lossy(&bytes[1..]).into_owned()).collect();
        if let Some(rank) = versions.iter().position(|version| *version != versions[0]) {
            let number = |rank: usize| shown(versions[rank].parse().unwrap_or(0));
            return Err(Error::input(format!(
                "{} has NCCL {}, rank 0 has {}: all ranks need the same",
                ranks.name(rank),
                number(rank),
                number(0)
            )));
        }
        refuse_shared(ranks, device, context.uuid()?)?;
        let mut id = UniqueId([0; ID_BYTES]);
        if ranks.is_first() {
            // SAFETY: there is room for it.
            let code = unsafe { (nccl.unique_id)(&mut id) };
            if code != SUCCESS {
                let why = nccl.explain(code, std::ptr::null_mut());
                return Err(Error::Device(format!("{device}: NCCL cannot begin: {why}")));
            }
        }
        let bytes = ranks.gather(tag("nccl id"), &id.0.map(|byte| byte as u8))?.swap_remove(0);
        for (to, from) in id.0.iter_mut().zip(bytes) {
            *to = from as c_char;
        }
        let mut comm = std::ptr::null_mut();
        let [size, rank] = [ranks.size(), ranks.rank()].map(|n| c_int::try_from(n).expect("few ranks"));
        // SAFETY: the context is bound; all ranks call this with one id, and each with its own number.
        let code = unsafe { (nccl.init_rank)(&mut comm, size, id, rank) };
        if code != SUCCESS {
            let why = nccl.explain(code, std::ptr::null_mut());
            return Err(Error::Device(format!(
                "{device}: NCCL cannot connect the GPUs of {size} ranks: {why}; NCCL_DEBUG=INFO in the environment says more"
            )));
        }
        let failed = |e: DriverError| context.failed(e, "making ready for sums over ranks");
        let stream = waited_for().map_err(failed)?;
        let event = || event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(failed);
        let events = [event()?, event()?];
        let communicator = Arc::new(Self { nccl, comm, stream, events, context: Arc::clone(context) });
        let watched = Arc::downgrade(&communicator);
        ranks.watch_over(move || watched.upgrade()?.failure());
        Ok(communicator)
    }

    /// Adds up `reals` floats at `at` over all ranks, in their place, after what the context's stream was asked for before,
    /// and beside what it is asked for later. Never in a recording: NCCL wants a sum recorded on all ranks or on none.
    ///
    /// # Errors
    /// Where NCCL or the driver refuse.
    /// # Safety
    /// The context is bound, and there are as many floats in a block that is alive.
    pub unsafe fn begin_sum(&self, at: u64, reals: usize) -> Result<()> {
        // SAFETY: streams and event are this context's own, and alive.
        unsafe { self.in_order(self.context.stream, self.events[0], self.stream) }?;
        let at = at as *mut c_void;
        // SAFETY: as the caller promises.
        let code = unsafe { (self.nccl.all_reduce)(at, at, reals, FLOAT32, SUM, self.comm, self.stream) };
        if code == SUCCESS { Ok(()) } else { Err(Error::Device(self.failed(code))) }
    }

    /// What the context's stream is asked for from now on comes after all sums. The context is bound.
    ///
    /// # Errors
    /// Where the driver refuses.
    pub fn await_sums(&self) -> Result<()> {
        // SAFETY: streams and event are this context's own, and alive.
        unsafe { self.in_order(self.stream, self.events[1], self.context.stream) }
    }

    /// # Safety
    /// The context is bound; event and streams are its own.
    unsafe fn in_order(&self, before: CUstream, event: CUevent, after: CUstream) -> Result<()> {
        let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: as the caller promises.
        let outcome =
            unsafe { event::record(event, before).and_then(|()| stream::wait_event(after, event, flags)) };
        outcome.map_err(|e| self.context.failed(e, "putting sums over ranks in order"))
    }

    /// What went wrong meanwhile, if anything did.
    fn failure(&self) -> Option<String> {
        let mut state = SUCCESS;
        // SAFETY: the communicator is alive; any thread may ask.
        let code = unsafe { (self.nccl.async_error)(self.comm, &mut state) };
        let wrong = [code, state].into_iter().find(|&code| code != SUCCESS && code != IN_PROGRESS)?;
        Some(self.failed(wrong))
    }

    fn failed(&self, code: Code) -> String {
        format!(
            "{}: NCCL failed while summing gradients: {}",
            self.context.name,
            self.nccl.explain(code, self.comm)
        )
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: nobody uses them any more. Unlike ncclCommDestroy, abort waits for no other rank.
            unsafe {
                (self.nccl.abort)(self.comm);
                for event in self.events {
                    let _ = event::destroy(event);
                }
                let _ = stream::destroy(self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::Place;

    #[test]
    fn versions_as_people_write_them() {
        assert_eq!(shown(22_105), "2.21.5");
        assert_eq!(shown(OLDEST), "2.18.0");
    }

    #[test]
    fn two_ranks_on_one_gpu_are_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let on = |gpus: [u8; 3]| -> Vec<Result<()>> {
            std::thread::scope(|scope| {
                let ranks: Vec<_> = (0..3)
                    .map(|rank| {
                        let place = Place {
                            rank,
                            size: 3,
                            local_rank: rank,
                            local_size: 1,
                            address: address.clone(),
                        };
                        scope.spawn(move || {
                            let ranks =
                                Ranks::join(place, true, &std::sync::atomic::AtomicBool::new(false)).unwrap();
                            ranks
                                .together(|ranks| Ok(refuse_shared(ranks, "cuda:0", [gpus[rank]; 16])))
                                .unwrap()
                        })
                    })
                    .collect();
                ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
            })
        };
        assert!(on([1, 2, 3]).iter().all(Result::is_ok));
        for refused in on([1, 2, 1]) {
            let error = refused.unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("rank 0 on ") && message.contains(" and rank 2 on "), "{message}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    /// Without the library this says what to do; with it, the names of its functions are right.
    #[test]
    fn the_library_is_found_or_missed_with_a_remedy() {
        match Nccl::load() {
            Ok(nccl) => {
                assert!(nccl.version >= OLDEST);
                assert!(!nccl.explain(2, std::ptr::null_mut()).is_empty());
            }
            Err(why) => assert!(why.contains("LD_LIBRARY_PATH"), "{why}"),
        }
    }
}
