//! Ranks that mpirun started, in a build with the feature `mpi`: MPI says who they are and where they meet, and sums what
//! the CPU computed.

use std::net::TcpListener;

use ::mpi::Threading;
use ::mpi::environment::Universe;
use ::mpi::topology::Communicator;
use ::mpi::traits::{CommunicatorCollectives, Root};

use super::place::Place;
use super::rendezvous::host;
use crate::error::{Error, Result};
use crate::real::Real;

/// Variables of which MPI's launchers set one or another.
const LAUNCHERS: [&str; 5] = ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS"];
/// Bytes of a host's name and a port.
const ADDRESS: usize = 320;
/// Reals of every rank that are brought together at a time.
const PIECE: usize = 1 << 18;

/// All processes that mpirun started.
pub struct World {
    universe: Universe,
}

/// What a process needs to meet the others.
pub struct Arrival {
    pub place: Place,
    /// On rank 0, where the others come to.
    pub listener: Option<TcpListener>,
    pub world: World,
}

/// What MPI says; none where this process was not started by it, or alone.
///
/// # Errors
/// Where MPI cannot be used.
pub fn arrive() -> Result<Option<Arrival>> {
    if !LAUNCHERS.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(None);
    }
    // One thread at a time calls MPI, but not always the same.
    let Some((universe, threading)) = ::mpi::initialize_with_threading(Threading::Serialized) else {
        return Err(Error::input("MPI was begun twice in one process"));
    };
    if threading < Threading::Serialized {
        return Err(Error::input(format!(
            "this MPI offers {threading:?} to programs of several threads; kerase needs one of at least Serialized"
        )));
    }
    let world = universe.world();
    let [rank, size] = [world.rank(), world.size()].map(|n| usize::try_from(n).unwrap_or(0));
    if size <= 1 {
        return Ok(None);
    }
    let machine = world.split_shared(world.rank());
    let mut address = [0u8; ADDRESS];
    let mut listener = None;
    if rank == 0 {
        let bound = TcpListener::bind("0.0.0.0:0").and_then(|bound| Ok((bound.local_addr()?.port(), bound)));
        let (port, bound) = bound.map_err(|error| Error::input(format!("rank 0 cannot listen: {error}")))?;
        listener = Some(bound);
        // Ranks of one machine need no name service.
        let host = if machine.size() == world.size() { "127.0.0.1".to_string() } else { host() };
        let text = format!("{host}:{port}");
        address[..text.len()].copy_from_slice(text.as_bytes());
    }
    world.process_at_rank(0).broadcast_into(&mut address[..]);
    let local_rank = usize::try_from(machine.rank()).unwrap_or(0);
    let place = Place {
        rank,
        size,
        local_rank,
        local_size: usize::try_from(machine.size()).unwrap_or(1),
        address: String::from_utf8_lossy(&address).trim_end_matches('\0').to_string(),
    };
    Ok(Some(Arrival { place, listener, world: World { universe } }))
}

impl World {
    /// The sums over all ranks, in their order. `on_piece` is called again and again meanwhile.
    pub fn sum<T: Real>(&self, values: &mut [T], on_piece: impl Fn()) {
        let world = self.universe.world();
        let size = usize::try_from(world.size()).expect("more than none");
        let mut all = Vec::new();
        for piece in values.chunks_mut(PIECE) {
            let own: &[u8] = bytemuck::cast_slice(piece);
            all.resize(size * piece.len(), T::zero());
            world.all_gather_into(own, bytemuck::cast_slice_mut::<T, u8>(&mut all));
            let (first, others) = all.split_at(piece.len());
            piece.copy_from_slice(first);
            for theirs in others.chunks(piece.len()) {
                piece.iter_mut().zip(theirs).for_each(|(sum, term)| *sum += *term);
            }
            on_piece();
        }
    }
}
