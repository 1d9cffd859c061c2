//! Buffers and tapes: nothing is computed, so nothing may differ.

use std::fmt;

use crate::backend::{Purpose, Span, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::{Rig, reals};
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    /// Buffers of one block, of which one is then filled.
    Zeros,
    Clear,
    /// To the front of a buffer, and the front of a buffer back.
    Upload,
    /// Time and again to the same place, beside work, each time after it was copied from.
    UploadAfter,
    CopyPart,
    /// Shorter and longer again.
    SetLen,
    /// Values of feature maps, beside something else in one block.
    Maps,
    /// Operations that are not carried out.
    Prepare,
    /// The same operation on the same buffers with other contents.
    Repeat,
}
use Operation::{Clear, CopyPart, Maps, Prepare, Repeat, SetLen, Upload, UploadAfter, Zeros};

const ALL: [Operation; 9] = [Zeros, Clear, Upload, UploadAfter, CopyPart, SetLen, Maps, Prepare, Repeat];

#[derive(Clone, Copy, Debug)]
pub struct Memory {
    operation: Operation,
    len: usize,
    /// Where something lies in a larger buffer.
    offset: usize,
}

/// Times that a tape is played: once to carry out, perhaps once to record, and twice more.
const REPETITIONS: usize = 4;
/// Reals that keep a GPU busy for some microseconds.
const BUSY: usize = 4 << 20;

impl Family for Memory {
    fn table() -> Vec<Self> {
        let sizes = [(1, 0), (3, 1), (64, 0), (63, 5), (257, 64), (10_000, 3)];
        let of_size = |(len, offset)| ALL.map(|operation| Self { operation, len, offset });
        sizes.into_iter().flat_map(of_size).collect()
    }

    fn random(random: &mut Random) -> Self {
        Self { operation: random.one_of(&ALL), len: random.size(1, 3000), offset: random.size(0, 100) }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        match self.operation {
            Zeros => self.zeros(rig),
            Clear => {
                let values = rig.random.values(self.len);
                let mut buffer = rig.in_out("buffer", values);
                rig.ops().run(operation::Clear { buffer: &mut buffer });
                rig.result("buffer", &buffer, Tolerance::EXACT);
            }
            Upload => {
                let (before, values) =
                    (rig.random.values(self.len + self.offset), rig.random.values(self.len));
                let mut buffer = rig.in_out("buffer", before);
                rig.ops().upload(&reals(&values), &mut buffer);
                rig.plain_result("front of the buffer", &buffer, self.len.div_ceil(2), Tolerance::EXACT);
                let front = ("the front", Span { offset: 0, len: self.len }, Tolerance::EXACT);
                rig.result_in_parts("buffer", &buffer, &[front]);
            }
            UploadAfter => self.upload_after(rig),
            CopyPart => {
                let from = rig.random.values(self.offset + self.len + 2);
                let to = rig.random.values(2 * self.offset + self.len + 3);
                let from = rig.input("from", from);
                let mut to = rig.in_out("to", to);
                rig.ops().run(operation::CopyPart {
                    from: &from,
                    from_offset: self.offset,
                    to: &mut to,
                    to_offset: 2 * self.offset,
                    len: self.len,
                });
                let part = ("the part", Span { offset: 2 * self.offset, len: self.len }, Tolerance::EXACT);
                rig.result_in_parts("to", &to, &[part]);
                rig.unchanged("from", &from);
            }
            SetLen => {
                let ops = rig.ops();
                let all = self.len + self.offset;
                let mut buffer = ops.zeros(Purpose::Gradients, all);
                for (label, len) in [("all", all), ("shorter", self.len), ("longer again", all)] {
                    ops.set_len(&mut buffer, len);
                    let values = rig.random.values(len);
                    ops.upload(&reals(&values), &mut buffer);
                    rig.plain_result(label, &buffer, len, Tolerance::EXACT);
                }
            }
            Maps => self.maps(rig),
            Prepare => self.prepare(rig),
            Repeat => self.repeat(rig),
        }
    }
}

impl Memory {
    fn zeros<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let ops = rig.ops();
        let lens = [self.len, 1 + self.offset, self.len + self.offset];
        let purposes = [Purpose::Images, Purpose::Parameters, Purpose::Gradients];
        let build = || Ok([0, 1, 2].map(|i| ops.zeros(purposes[i], lens[i])));
        let mut buffers = ops.in_one_block(0, build).expect("a device has room for a few kilobytes");
        let labels = ["first buffer", "second buffer", "third buffer"];
        for ((label, buffer), len) in labels.iter().zip(&buffers).zip(lens) {
            rig.plain_result(label, buffer, len, Tolerance::EXACT);
        }
        // The neighbours of a buffer that is full are still empty.
        ops.upload(&reals(&vec![1.0; lens[1]]), &mut buffers[1]);
        for ((label, buffer), len) in labels.iter().zip(&buffers).zip(lens) {
            rig.plain_result(&format!("{label} afterwards"), buffer, len, Tolerance::EXACT);
        }
    }

    fn maps<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let ops = rig.ops();
        let all = self.len + self.offset;
        let map = || ops.map(Purpose::Gradients, all);
        let build = || Ok((map(), ops.zeros(Purpose::Images, all), map()));
        let (mut from, between, mut to) =
            ops.in_one_block(0, build).expect("a device has room for a few kilobytes");
        let values: Vec<f64> = rig.random.values(all).into_iter().map(|value| rig.as_stored(value)).collect();
        ops.upload(&reals(&values), &mut from);
        ops.run(operation::CopyPart {
            from: &from,
            from_offset: self.offset,
            to: &mut to,
            to_offset: 0,
            len: self.len,
        });
        let exact = Tolerance::EXACT;
        for (label, buffer) in [("uploaded", &from), ("between", &between), ("copied to", &to)] {
            rig.plain_result(label, buffer, all, exact);
        }
        ops.set_len(&mut to, self.len);
        ops.run(operation::Clear { buffer: &mut to });
        ops.set_len(&mut to, all);
        ops.run(operation::Clear { buffer: &mut from });
        ops.upload(&reals(&values[..self.len]), &mut from);
        for (label, buffer) in [("uploaded again", &from), ("cleared", &to)] {
            rig.plain_result(label, buffer, self.len, exact);
        }
    }

    fn upload_after<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let values: Vec<Vec<f64>> = (0..REPETITIONS).map(|_| rig.random.values(self.len)).collect();
        let ops = rig.ops();
        let mut kept = rig.output("kept", REPETITIONS * self.len);
        let mut waiting = ops.fenced(self.len + self.offset);
        // Long enough on a GPU that an upload which does not wait comes too early.
        let mut busy = ops.zeros(Purpose::Gradients, BUSY);
        let mut taken = ops.mark();
        for (i, values) in values.iter().enumerate() {
            ops.upload_after(&taken, &reals(values), &mut waiting);
            ops.run(operation::Clear { buffer: &mut busy });
            ops.run(operation::CopyPart {
                from: &waiting,
                from_offset: 0,
                to: &mut kept,
                to_offset: i * self.len,
                len: self.len,
            });
            taken = ops.mark();
            ops.run(operation::Clear { buffer: &mut busy });
        }
        rig.result("kept", &kept, Tolerance::EXACT);
    }

    fn prepare<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let (parameters, spans) = rig.parameters(&[1], 1.0);
        let values: Vec<Vec<f64>> = (0..3).map(|_| rig.random.values(self.len)).collect();
        let [mut a, mut b, mut c] = [0, 1, 2].map(|i| rig.in_out(["a", "b", "c"][i], values[i].clone()));
        let ops = rig.ops();
        let prepared = ops.prepare(|| {
            ops.run(operation::CascadeDc {
                parameters: &parameters,
                dc_weight: spans[0],
                u: &a,
                v: &a,
                v_out: &mut b,
            });
            ops.run(operation::CascadeUpdate { r: &a, u: &a, u_out: &mut c, m: Some(&mut b) });
            ops.run(operation::CopyPart {
                from: &b,
                from_offset: 0,
                to: &mut a,
                to_offset: 0,
                len: self.len,
            });
            ops.run(operation::Clear { buffer: &mut b });
        });
        prepared.expect("a device has room for a few kilobytes");
        for (label, buffer) in [("a", &a), ("b", &b), ("c", &c)] {
            rig.result(label, buffer, Tolerance::EXACT);
        }
        rig.unchanged("parameters", &parameters);
    }

    fn repeat<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let (parameters, spans) = rig.parameters(&[1], 1.0);
        let inputs: Vec<Vec<f64>> = (0..3 * REPETITIONS).map(|_| rig.random.values(self.len)).collect();
        let ops = rig.ops();
        let [mut r, mut u, mut v] = [0, 1, 2].map(|_| ops.fenced(self.len));
        let [mut u_out, mut v_out] = ["u_out", "v_out"].map(|label| rig.output(label, self.len));
        let mut tape = B::Tape::default();
        for (i, inputs) in inputs.chunks_exact(3).enumerate() {
            for (values, buffer) in inputs.iter().zip([&mut r, &mut u, &mut v]) {
                ops.upload(&reals(values), buffer);
            }
            ops.repeat(&mut tape, || {
                ops.run(operation::CascadeDc {
                    parameters: &parameters,
                    dc_weight: spans[0],
                    u: &u,
                    v: &v,
                    v_out: &mut v_out,
                });
                ops.run(operation::CascadeUpdate { r: &r, u: &u, u_out: &mut u_out, m: None });
            });
            for (label, buffer) in [("u_out", &u_out), ("v_out", &v_out)] {
                let tolerance = Tolerance::roundings(1.0).scale(1.0);
                rig.plain_result(&format!("{label} of time {i}"), buffer, self.len, tolerance);
            }
        }
        for (label, buffer) in [("u_out", &u_out), ("v_out", &v_out)] {
            rig.result(label, buffer, Tolerance::roundings(1.0).scale(1.0));
        }
        rig.unchanged("parameters", &parameters);
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.operation {
            Zeros => "zeros",
            Clear => "clear",
            Upload => "upload",
            UploadAfter => "upload_after",
            CopyPart => "copy_part",
            SetLen => "set_len",
            Maps => "maps",
            Prepare => "prepare",
            Repeat => "repeat",
        };
        write!(f, "{name} {} at {}", self.len, self.offset)
    }
}
