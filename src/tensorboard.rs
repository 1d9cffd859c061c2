//! TensorBoard's event files: numbers and pictures over steps, for `tensorboard --logdir`.
//!
//! A file is a sequence of records (length, its checksum, bytes, their checksum), each of them an `Event` of TensorFlow's
//! event.proto, of which only what is written here is declared. No kept crate writes these files: prost encodes the
//! messages, crc32c makes the checksums.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::error::{Error, Result};

/// event.proto.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// A reader forgets what it has from this event's step on: a run that is resumed goes on from its checkpoint.
const START: i32 = 1;

/// summary.proto.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// Channels.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

const VERSION: &str = "brain.Event:2";
/// Of tfrecord's masked checksums.
const MASK: u32 = 0xa282_ead8;

/// One file that grows.
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventFile {
    /// Begins a file of its own in `directory`, which is made; events of `step` and after that older files there have are
    /// void.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn create(directory: &Path, step: u64) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, e))?;
        let (mut seconds, process) = (now() as u64, std::process::id());
        // Readers take the files of a directory in the order of their names.
        let (path, file) = loop {
            let path = directory.join(format!("events.out.tfevents.{seconds:010}.kerase.{process}"));
            match OpenOptions::new().create_new(true).append(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => seconds += 1,
                Err(e) => return Err(Error::io("create", &path, e)),
            }
        };
        let mut events = Self { path, file: BufWriter::new(file) };
        events.write(&Event { wall_time: now(), file_version: Some(VERSION.into()), ..Event::default() })?;
        let start = Some(SessionLog { status: START });
        events.write(&Event {
            wall_time: now(),
            step: step as i64,
            session_log: start,
            ..Event::default()
        })?;
        events.flush()?;
        Ok(events)
    }

    /// Numbers of a step, each under its name; a slash in it makes a group.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f64)| Value {
            tag: tag.to_string(),
            simple_value: Some(value as f32),
            image: None,
        };
        self.summary(step, values.iter().map(value).collect())
    }

    /// A PNG file's bytes, of a picture in colour.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn image(&mut self, step: u64, tag: &str, [width, height]: [usize; 2], png: Vec<u8>) -> Result<()> {
        let image =
            Image { height: height as i32, width: width as i32, colorspace: 3, encoded_image_string: png };
        self.summary(step, vec![Value { tag: tag.to_string(), simple_value: None, image: Some(image) }])
    }

    /// Brings what was written to whoever reads the file.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io("write", &self.path, e))
    }

    fn summary(&mut self, step: u64, value: Vec<Value>) -> Result<()> {
        let summary = Some(Summary { value });
        self.write(&Event { wall_time: now(), step: step as i64, summary, ..Event::default() })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        self.file.write_all(&record(&event.encode_to_vec())).map_err(|e| Error::io("write", &self.path, e))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes();
    let len = (bytes.len() as u64).to_le_bytes();
    [&len[..], &masked(&len), bytes, &masked(bytes)].concat()
}

#[cfg(test)]
fn events_of(file: &Path) -> Vec<Event> {
    let bytes = std::fs::read(file).unwrap();
    let mut rest = &bytes[..];
    let mut read = Vec::new();
    while !rest.is_empty() {
        let len = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(record(&rest[12..12 + len]), rest[..16 + len]);
        read.push(Event::decode(&rest[12..12 + len]).unwrap());
        rest = &rest[16 + len..];
    }
    read
}

/// From which step on each file of a directory makes older ones void, in their order.
#[cfg(test)]
pub(crate) fn void_from(directory: &Path) -> Vec<i64> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| events_of(file)[1].step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checksums from a bitwise CRC-32C (polynomial 0x82f63b78; 0xe3069283 for "123456789"), masked as TensorFlow does.
    #[test]
    fn records_are_framed_as_tensorflow_frames_them() {
        assert_eq!(record(b"hello"), b"\x05\0\0\0\0\0\0\0\xea\xb2\x04>hello\xbb\x1f\x1c\x19");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 7).unwrap();
        events.scalars(7, &[("loss/train", 0.5), ("lr", 1e-3)]).unwrap();
        events.image(8, "validation", [2, 1], vec![1, 2, 3]).unwrap();
        events.flush().unwrap();
        let _second = EventFile::create(folder.path(), 9).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);

        let read = events_of(&events.path);
        assert_eq!(read[0].file_version.as_deref(), Some(VERSION));
        assert_eq!((read[1].step, read[1].session_log.as_ref().unwrap().status), (7, START));
        let values = &read[2].summary.as_ref().unwrap().value;
        assert_eq!((values[0].tag.as_str(), values[0].simple_value), ("loss/train", Some(0.5)));
        assert_eq!(read[3].summary.as_ref().unwrap().value[0].image.as_ref().unwrap().width, 2);
    }
}
