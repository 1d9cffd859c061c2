//! Frames on a connection between two ranks: a tag that says what they are at, a length, and bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a frame belongs to. Both ends must be at the same.
pub type Tag = [u8; 8];

/// More than any frame holds: a length beyond it is no length.
const MOST_BYTES: u64 = 1 << 40;

/// A name of up to eight letters as a tag.
pub const fn tag(name: &str) -> Tag {
    let bytes = name.as_bytes();
    let mut tag = [b' '; 8];
    let mut i = 0;
    while i < bytes.len() {
        tag[i] = bytes[i];
        i += 1;
    }
    tag
}

pub fn shown(tag: Tag) -> String {
    String::from_utf8_lossy(&tag).trim_end().to_string()
}

/// Sends a frame.
///
/// # Errors
/// Where the connection breaks.
pub fn send(stream: &mut TcpStream, tag: Tag, bytes: &[u8]) -> io::Result<()> {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&tag);
    head[8..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    stream.write_all(&head)?;
    stream.write_all(bytes)
}

/// Receives the next frame, whatever its tag.
///
/// # Errors
/// Where the connection breaks, or what comes is no frame.
pub fn receive_any(stream: &mut TcpStream) -> io::Result<(Tag, Vec<u8>)> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let (tag, len) = head.split_at(8);
    let len = u64::from_le_bytes(len.try_into().expect("eight bytes"));
    if len > MOST_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, "what came is no message of kerase"));
    }
    // Grows as the bytes come: a length that is a lie costs no memory.
    let mut bytes = Vec::new();
    stream.take(len).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < len {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((tag.try_into().expect("eight bytes"), bytes))
}

/// Receives the frame that the other end sends at the same point of its work.
///
/// # Errors
/// Where the connection breaks, or the other end is elsewhere.
pub fn receive(stream: &mut TcpStream, expected: Tag) -> io::Result<Vec<u8>> {
    let (tag, bytes) = receive_any(stream)?;
    if tag != expected {
        let what = format!("out of step: it is at '{}', here it is '{}'", shown(tag), shown(expected));
        return Err(io::Error::new(ErrorKind::InvalidData, what));
    }
    Ok(bytes)
}

/// What every connection has: no waiting to fill packets, and an end to waiting for a host that is gone.
///
/// # Errors
/// Where the system refuses.
pub fn prepare(stream: &TcpStream, patience: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(patience)
}
