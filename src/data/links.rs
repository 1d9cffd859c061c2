//! The links in the root group of an HDF5 file. hdf5-pure passes over those to other places, so that what stands behind one
//! would be taken for something that is not there.
//!
//! Read are object headers and their link messages (HDF5 File Format Specification, IV.A and IV.A.2.g). Groups that keep links
//! elsewhere, as those of an older kind do, in which hdf5-pure finds them, and those of more than eight, have none here.

use hdf5_pure::{FormatError, Superblock};

use super::positioned::PositionedFile;

/// Kinds of messages in an object header.
const LINK: u64 = 0x06;
const CONTINUATION: u64 = 0x10;

/// A file that claims more is damaged: blocks of one header, bytes of one of them.
const MOST_BLOCKS: usize = 4096;
const LARGEST_BLOCK: u64 = 1 << 24;

/// The names that the root group's header gives.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn names(file: &PositionedFile, superblock: &Superblock) -> Result<Vec<Vec<u8>>, FormatError> {
    let messages = Reader { file, superblock }.messages()?;
    messages.iter().filter(|(kind, _)| *kind == LINK).map(|(_, message)| link_name(message)).collect()
}

struct Reader<'a> {
    file: &'a PositionedFile,
    superblock: &'a Superblock,
}

impl Reader<'_> {
    fn bytes(&self, address: u64, length: u64) -> Result<Vec<u8>, FormatError> {
        if length > LARGEST_BLOCK.min(self.file.length) {
            return Err(FormatError::InvalidObjectHeaderSignature);
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_at(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Addresses count from the end of what may stand before the HDF5 part of a file; where all bits are set there is none.
    fn address(&self, fields: &mut Fields) -> Result<Option<u64>, FormatError> {
        let width = usize::from(self.superblock.offset_size);
        let stored = fields.number(width)?;
        let none = u64::MAX >> (64 - 8 * width.clamp(1, 8));
        Ok((stored != none).then(|| stored.saturating_add(self.superblock.base_address.get())))
    }

    /// All messages of the root group's header, with their kinds.
    fn messages(&self) -> Result<Vec<(u64, Vec<u8>)>, FormatError> {
        let start = self.superblock.root_group_address;
        let rest = self.file.length.saturating_sub(start);
        let prefix = self.bytes(start, rest.min(64))?;
        let mut fields = Fields(&prefix);
        // What a block has before its messages and behind them.
        let (head, tail, ordered, first) = if prefix.starts_with(b"OHDR") {
            fields.take(5)?;
            let flags = fields.number(1)?;
            fields.take(if flags & 0x20 == 0 { 0 } else { 16 } + if flags & 0x10 == 0 { 0 } else { 4 })?;
            let size = fields.number(1 << (flags & 3))?;
            (4, 4, Some(flags & 4 != 0), (start + (prefix.len() - fields.0.len()) as u64, size))
        } else {
            fields.take(8)?;
            (0, 0, None, (start + 16, fields.number(4)?))
        };
        let mut blocks = vec![first];
        let mut messages = Vec::new();
        let mut next = 0;
        while let Some(&(address, length)) = blocks.get(next) {
            next += 1;
            let block = self.bytes(address, length)?;
            let mut fields = Fields(&block);
            while let Some((kind, message)) = fields.message(ordered) {
                if kind != CONTINUATION {
                    messages.push((kind, message.to_vec()));
                    continue;
                }
                let mut fields = Fields(message);
                let address = self.address(&mut fields)?.unwrap_or(u64::MAX);
                let length = fields.number(usize::from(self.superblock.length_size))?;
                if blocks.len() == MOST_BLOCKS {
                    return Err(FormatError::NestingDepthExceeded);
                }
                blocks.push((address.saturating_add(head), length.saturating_sub(head + tail)));
            }
        }
        Ok(messages)
    }
}

/// Bytes that fields are taken from, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let missing = FormatError::UnexpectedEof { expected: count, available: self.0.len() };
        let (field, rest) = self.0.split_at_checked(count).ok_or(missing)?;
        self.0 = rest;
        Ok(field)
    }

    fn number(&mut self, width: usize) -> Result<u64, FormatError> {
        let mut bytes = [0; 8];
        let field = self.take(width)?;
        bytes.get_mut(..width).ok_or(FormatError::InvalidOffsetSize(width as u8))?.copy_from_slice(field);
        Ok(u64::from_le_bytes(bytes))
    }

    /// The next message of a block, with its kind; `None` where the block ends, which may be with a gap. `ordered` says whether
    /// messages of version 2 are numbered.
    fn message(&mut self, ordered: Option<bool>) -> Option<(u64, &'a [u8])> {
        let (kind, flags) = if ordered.is_some() { (1, 1) } else { (2, 4) };
        let kind = self.number(kind).ok()?;
        let size = self.number(2).ok()?;
        self.take(flags + if ordered == Some(true) { 2 } else { 0 }).ok()?;
        Some((kind, self.take(size as usize).ok()?))
    }
}

/// The name that a link message gives.
fn link_name(link: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut fields = Fields(link);
    fields.take(1)?;
    let flags = fields.number(1)?;
    let skipped = [(0x08, 1), (0x04, 8), (0x10, 1)];
    fields.take(skipped.iter().map(|&(flag, width)| if flags & flag == 0 { 0 } else { width }).sum())?;
    let length = fields.number(1 << (flags & 3))?;
    fields.take(usize::try_from(length).unwrap_or(usize::MAX)).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_header_is_an_error() {
        assert!(link_name(&[1, 0, 4, b'm', b'a']).is_err());
        assert!(link_name(&[1, 3, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
        assert_eq!(link_name(&[1, 0x18, 1, 0, 4, b'm', b'a', b's', b'k', 9]).unwrap(), b"mask");
        assert!(Fields(&[0; 3]).number(9).is_err() && Fields(&[6, 200, 0, 0]).message(Some(false)).is_none());
    }
}
