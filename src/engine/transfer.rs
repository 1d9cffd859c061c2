//! Between the host's numbers and a device's.

use num_traits::Zero;

use crate::backend::{Backend, Span};
use crate::error::Result;
use crate::ranks::Ranks;
use crate::real::Real;

/// Singles as reals, made in `host` where the two differ.
pub fn singles<'v, T: Real>(host: &'v mut Vec<T>, values: &'v [f32]) -> &'v [T] {
    // Reals are f32 or f64: those of the same size are the same.
    if size_of::<T>() == size_of::<f32>() {
        return bytemuck::cast_slice(values);
    }
    host.clear();
    host.extend(values.iter().map(|&x| T::real(f64::from(x))));
    host
}

/// The first `len` reals of a buffer, in `host`.
///
/// # Errors
/// Where the device fails, or did before: what it then leaves in `host` are other numbers, finite ones too.
pub fn read<'h, B: Backend>(
    ops: &B,
    host: &'h mut Vec<B::Real>,
    buffer: &B::Buffer,
    len: usize,
) -> Result<&'h [B::Real]> {
    host.resize(len.max(host.len()), B::Real::zero());
    ops.download(buffer, &mut host[..len]);
    ops.finish()?;
    Ok(&host[..len])
}

/// As [`read`], as singles.
///
/// # Errors
/// As [`read`].
pub fn download<B: Backend>(
    ops: &B,
    host: &mut Vec<B::Real>,
    buffer: &B::Buffer,
    len: usize,
) -> Result<Vec<f32>> {
    Ok(read(ops, host, buffer, len)?.iter().map(|x| x.as_f64() as f32).collect())
}

/// Sums the first `len` reals of a buffer over the ranks, by way of the host where the devices have no way of their own.
///
/// # Errors
/// Where another rank is lost, or the device fails.
pub fn sum<B: Backend>(
    ops: &B,
    ranks: &Ranks,
    host: &mut Vec<B::Real>,
    buffer: &mut B::Buffer,
    len: usize,
) -> Result<()> {
    if ops.is_connected() {
        ops.begin_sum(buffer, Span { offset: 0, len });
        ops.await_sums();
        return Ok(());
    }
    if ranks.is_alone() {
        return Ok(());
    }
    read(ops, host, buffer, len)?;
    ranks.sum(&mut host[..len])?;
    ops.upload(&host[..len], buffer);
    Ok(())
}
