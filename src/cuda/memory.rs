//! Buffers of a device: carved from one block per room, each with its purpose on the books.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::Purpose;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{C32, Const, Element, Mut, Stored};
use crate::error::Result;

/// Buffers begin where the widest loads of a kernel, and a new cache line, may.
const ALIGNMENT: usize = 256;

/// Sentinels on either side of a fenced buffer.
pub(in crate::cuda) const FENCE: usize = 64;
/// No number that any operation computes from sensible inputs, and not a NaN: comparing it is exact.
const SENTINEL: f32 = -1.234_567_9e33;

/// Flat reals on a device, stored as `f32` or, where they are a feature map's, perhaps as `bf16`.
pub struct Buffer<D: Driver> {
    /// Keeps the memory alive; none where there is nothing, or where memory is only counted.
    _block: Option<Arc<D::Block>>,
    address: u64,
    element: Element,
    len: usize,
    /// What it was made with.
    room: usize,
}

impl<D: Driver> Buffer<D> {
    fn new(block: Option<Arc<D::Block>>, address: u64, element: Element, len: usize) -> Self {
        Self { _block: block, address, element, len, room: len }
    }

    /// # Panics
    /// Beyond what it was made with.
    pub(in crate::cuda) fn set_len(&mut self, len: usize) {
        assert!(len <= self.room, "a buffer of {} reals is to become {len} long", self.room);
        self.len = len;
    }

    /// What stands in for a buffer that could not be made.
    pub(in crate::cuda) fn nothing(element: Element, len: usize) -> Self {
        Self::new(None, 0, element, len)
    }

    pub fn element(&self) -> Element {
        self.element
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of `len` reals that begin at `offset`.
    ///
    /// # Panics
    /// Where the buffer is shorter.
    pub(in crate::cuda) fn address_of(&self, offset: usize, len: usize) -> u64 {
        assert!(offset + len <= self.len, "a buffer of {} reals is asked for {offset} + {len}", self.len);
        self.address + (offset * self.element.bytes()) as u64
    }

    /// The same, for a kernel that takes them for so stored.
    fn address_as<T: Stored>(&self, offset: usize, len: usize) -> u64 {
        assert!(
            T::ELEMENT == self.element,
            "a buffer of {:?} is taken for one of {:?}",
            self.element,
            T::ELEMENT
        );
        self.address_of(offset, len)
    }

    /// The first `len` reals, for a kernel to read.
    pub fn read<T: Stored>(&self, len: usize) -> Const<T> {
        Const::at(self.address_as::<T>(0, len))
    }

    /// `len` reals from `offset` on, for a kernel to read.
    pub fn read_from<T: Stored>(&self, offset: usize, len: usize) -> Const<T> {
        Const::at(self.address_as::<T>(offset, len))
    }

    /// The first `len` reals, for a kernel to write.
    pub fn write<T: Stored>(&mut self, len: usize) -> Mut<T> {
        Mut::at(self.address_as::<T>(0, len))
    }

    /// `len` reals from `offset` on, for a kernel to write.
    pub fn write_from<T: Stored>(&mut self, offset: usize, len: usize) -> Mut<T> {
        Mut::at(self.address_as::<T>(offset, len))
    }

    /// The first `reals` reals as complex numbers, for a kernel to read.
    pub fn read_complex(&self, reals: usize) -> Const<C32> {
        Const::at(self.address_as::<f32>(0, reals))
    }

    /// The first `reals` reals as complex numbers, for a kernel to write.
    pub fn write_complex(&mut self, reals: usize) -> Mut<C32> {
        Mut::at(self.address_as::<f32>(0, reals))
    }
}

/// Where the next buffers come from.
enum Source<D: Driver> {
    /// Each from a block of its own.
    Blocks,
    /// From nowhere: bytes are added up.
    Counting(usize),
    /// From this block, of which so many bytes are taken.
    Carving { block: Arc<D::Block>, taken: usize, bytes: usize },
}

/// How long working memory is worked with.
#[derive(Clone, Copy, Debug)]
pub enum Lifetime {
    /// Within one operation.
    Operation,
    /// From an announcement until the last operation that was announced.
    Announcement,
}

/// Working memory of one lifetime: a block, which grows to the most that was asked for at a time.
struct Scratch<D: Driver> {
    block: Option<Arc<D::Block>>,
    bytes: usize,
    /// What a rehearsal has asked for.
    wanted: usize,
}

/// Who hands out memory, and keeps the books.
pub struct Arena<D: Driver> {
    source: Source<D>,
    usage: BTreeMap<Purpose, usize>,
    /// By lifetime.
    scratch: [Scratch<D>; 2],
}

impl<D: Driver> Default for Arena<D> {
    fn default() -> Self {
        let scratch = [(); 2].map(|()| Scratch { block: None, bytes: 0, wanted: 0 });
        Self { source: Source::Blocks, usage: BTreeMap::new(), scratch }
    }
}

fn aligned(element: Element, len: usize) -> usize {
    (len * element.bytes()).next_multiple_of(ALIGNMENT)
}

fn scratch_bytes(lens: &[usize]) -> usize {
    lens.iter().map(|&len| aligned(Element::F32, len)).sum()
}

impl<D: Driver> Scratch<D> {
    fn grow(&mut self, driver: &D, bytes: usize) -> Result<()> {
        if bytes > self.bytes || self.block.is_none() {
            // Both need not fit beside each other.
            self.block = None;
            self.bytes = 0;
            self.block = Some(Arc::new(driver.alloc(bytes.max(ALIGNMENT))?));
            self.bytes = bytes;
        }
        Ok(())
    }
}

impl<D: Driver> Arena<D> {
    /// Until [`Self::carve`], buffers are only counted.
    pub fn count(&mut self) {
        self.source = Source::Counting(0);
    }

    /// From now on buffers come from one block that has room for what was counted.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn carve(&mut self, driver: &D) -> Result<()> {
        let Source::Counting(bytes) = std::mem::replace(&mut self.source, Source::Blocks) else {
            return Ok(());
        };
        if bytes > 0 {
            self.source = Source::Carving { block: Arc::new(driver.alloc(bytes)?), taken: 0, bytes };
        }
        Ok(())
    }

    /// Buffers get blocks of their own again.
    pub fn stop(&mut self) {
        self.source = Source::Blocks;
    }

    /// A buffer with unspecified contents.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn take(&mut self, driver: &D, purpose: Purpose, element: Element, len: usize) -> Result<Buffer<D>> {
        let bytes = aligned(element, len);
        match &mut self.source {
            _ if len == 0 => return Ok(Buffer::nothing(element, len)),
            Source::Counting(counted) => {
                *counted += bytes;
                return Ok(Buffer::nothing(element, len));
            }
            Source::Carving { block, taken, bytes: all } if *taken + bytes <= *all => {
                let address = driver.address(block) + *taken as u64;
                *taken += bytes;
                *self.usage.entry(purpose).or_default() += bytes;
                return Ok(Buffer::new(Some(block.clone()), address, element, len));
            }
            _ => {}
        }
        let block = Arc::new(driver.alloc(bytes)?);
        *self.usage.entry(purpose).or_default() += bytes;
        Ok(Buffer::new(Some(block.clone()), driver.address(&block), element, len))
    }

    /// A buffer of constants, from a block of its own whatever buffers come from now. Constants are few and small, and
    /// not on the books.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn constants(&mut self, driver: &D, len: usize) -> Result<Buffer<D>> {
        let block = Arc::new(driver.alloc(aligned(Element::F32, len))?);
        let address = driver.address(&block);
        Ok(Buffer::new(Some(block), address, Element::F32, len))
    }

    /// Bytes handed out so far, by purpose; scratch counts once, at its largest.
    pub fn usage(&self) -> BTreeMap<Purpose, usize> {
        let mut usage = self.usage.clone();
        usage.insert(Purpose::Scratch, self.scratch.iter().map(|scratch| scratch.bytes).sum());
        usage
    }

    /// Addresses of `lens` reals each, to work with so long. Recorded steps keep the blocks that they were recorded with.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn scratch(&mut self, driver: &D, lifetime: Lifetime, lens: &[usize]) -> Result<Vec<u64>> {
        let scratch = &mut self.scratch[lifetime as usize];
        scratch.grow(driver, scratch_bytes(lens))?;
        let mut at = driver.address(scratch.block.as_ref().expect("made above"));
        let address = |&len: &usize| {
            let address = at;
            at += aligned(Element::F32, len) as u64;
            address
        };
        Ok(lens.iter().map(address).collect())
    }

    /// Bytes that [`Self::scratch`] would have to add.
    pub fn missing(&self, lifetime: Lifetime, lens: &[usize]) -> usize {
        let scratch = &self.scratch[lifetime as usize];
        let wanted = scratch_bytes(lens).max(ALIGNMENT);
        if scratch.block.is_some() { scratch_bytes(lens).saturating_sub(scratch.bytes) } else { wanted }
    }

    /// Keeps in mind what [`Self::scratch`] will be asked for.
    pub fn rehearse(&mut self, lifetime: Lifetime, lens: &[usize]) {
        let wanted = &mut self.scratch[lifetime as usize].wanted;
        *wanted = (*wanted).max(scratch_bytes(lens));
    }

    /// Makes the scratch as large as the rehearsal asked for.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn rehearsed(&mut self, driver: &D) -> Result<()> {
        self.scratch.iter_mut().try_for_each(|scratch| {
            let bytes = std::mem::take(&mut scratch.wanted);
            scratch.grow(driver, bytes)
        })
    }

    /// The blocks that there are, and their bytes.
    pub fn scratch_blocks(&self) -> Vec<(Arc<D::Block>, usize)> {
        self.scratch.iter().filter_map(|scratch| Some((scratch.block.clone()?, scratch.bytes))).collect()
    }

    /// A buffer with room for sentinels on both sides, to find out whether anybody writes beyond its ends.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn fenced(&mut self, driver: &D, element: Element, len: usize) -> Result<Buffer<D>> {
        let fence = FENCE * size_of::<f32>();
        let block = Arc::new(driver.alloc(len * element.bytes() + 2 * fence)?);
        let address = driver.address(&block) + fence as u64;
        Ok(Buffer::new(Some(block), address, element, len))
    }
}

/// What a fence is made of.
pub const fn fence() -> [f32; FENCE] {
    [SENTINEL; FENCE]
}

/// Where the sentinels of a fenced buffer lie: addresses of `FENCE` each.
pub fn fences<D: Driver>(buffer: &Buffer<D>) -> [u64; 2] {
    let bytes = (FENCE * size_of::<f32>()) as u64;
    [buffer.address - bytes, buffer.address + (buffer.len * buffer.element.bytes()) as u64]
}

/// Whether what lies in a fence is what was put there.
pub fn is_intact(fence: &[f32; FENCE]) -> bool {
    fence.iter().all(|&value| value.to_bits() == SENTINEL.to_bits())
}
