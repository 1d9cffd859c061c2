//! Each operation, handed on through the meter with its shape and its cost.

use std::sync::atomic::Ordering;

use super::cost::{self, Cost};
use super::{How, Metered};
use crate::backend::*;
use crate::error::Result;

fn coil_images(shape: ImageShape) -> String {
    let ImageShape { n, coils, rows, columns } = shape;
    format!("n{n} c{coils} {rows}x{columns}")
}

fn image(n: usize, [height, width]: [usize; 2]) -> String {
    format!("n{n} {height}x{width}")
}

fn map_of(map: &MapShape) -> String {
    let MapShape { n, channels, height, width } = map;
    format!("{channels} n{n} {height}x{width}")
}

fn layer(inputs: &[MapShape], output: MapShape) -> String {
    let channels: Vec<String> = inputs.iter().map(|input| input.channels.to_string()).collect();
    let MapShape { n, channels: out, height, width } = output;
    format!("{}->{out} n{n} {height}x{width}", channels.join("+"))
}

fn shapes<B>(maps: &[&FeatureMap<B>]) -> Vec<MapShape> {
    maps.iter().map(|map| map.shape).collect()
}

impl<O: Backend> Memory for Metered<'_, O> {
    type Buffer = O::Buffer;

    fn zeros(&self, purpose: Purpose, len: usize) -> O::Buffer {
        self.ops.zeros(purpose, len)
    }

    fn map(&self, purpose: Purpose, len: usize) -> O::Buffer {
        self.ops.map(purpose, len)
    }
}

impl<O: Backend> Backend for Metered<'_, O> {
    type Real = O::Real;
    type Tape = ();
    type Mark = O::Mark;
    type Download = O::Download;

    fn check(&self, shape: ImageShape) -> Result<()> {
        self.ops.check(shape)
    }

    /// What is not carried out is not metered.
    fn prepare(&self, body: impl FnOnce()) -> Result<()> {
        self.preparing.store(true, Ordering::Relaxed);
        let prepared = self.ops.prepare(body);
        self.preparing.store(false, Ordering::Relaxed);
        prepared
    }

    /// Never replayed: a replay has no operations.
    fn repeat(&self, (): &mut (), body: impl FnOnce()) {
        body();
    }

    /// In turn: each operation is timed by itself.
    fn beside(&self, body: impl FnOnce()) {
        body();
    }

    /// It would have to be waited for after each operation.
    fn works_beside(&self) -> bool {
        false
    }

    fn finish(&self) -> Result<()> {
        self.settle()
    }

    fn mark(&self) -> O::Mark {
        self.ops.mark()
    }

    fn seconds(&self, from: &O::Mark, to: &O::Mark) -> f64 {
        self.ops.seconds(from, to)
    }

    /// What ranks do together is not metered.
    fn is_connected(&self) -> bool {
        false
    }

    fn begin_sum(&self, _buffer: &mut O::Buffer, _part: Span) {}

    fn await_sums(&self) {}

    fn memory_in_use(&self) -> Option<usize> {
        self.ops.memory_in_use()
    }

    fn launches(&self) -> Option<Launches> {
        self.ops.launches()
    }

    fn in_one_block<R>(&self, beside: usize, build: impl Fn() -> Result<R>) -> Result<R> {
        self.ops.in_one_block(beside, build)
    }

    fn keeps(&self, rooms: usize) -> bool {
        self.ops.keeps(rooms)
    }

    fn len(&self, buffer: &O::Buffer) -> usize {
        self.ops.len(buffer)
    }

    fn set_len(&self, buffer: &mut O::Buffer, len: usize) {
        self.ops.set_len(buffer, len);
    }

    fn upload(&self, from: &[O::Real], to: &mut O::Buffer) {
        self.ops.upload(from, to);
    }

    fn upload_after(&self, after: &O::Mark, from: &[O::Real], to: &mut O::Buffer) {
        self.ops.upload_after(after, from, to);
    }

    fn download(&self, from: &O::Buffer, to: &mut [O::Real]) {
        self.ops.download(from, to);
    }

    fn begin_download(&self, from: &O::Buffer, len: usize) -> Result<O::Download> {
        self.ops.begin_download(from, len)
    }

    fn await_download(&self, download: O::Download, to: &mut [O::Real]) -> Result<()> {
        self.ops.await_download(download, to)
    }

    fn carry_out(&self, operation: Operation<'_, O::Buffer>) {
        if self.preparing.load(Ordering::Relaxed) {
            return self.ops.carry_out(operation);
        }
        let (shape, cost) = self.described(&operation);
        if let Operation::Announce(o) = &operation {
            self.notes().ledger.announce(o.convolutions);
        }
        let entry = self.notes().ledger.call(operation.name(), shape, cost);
        let How::Time { flush } = &self.how else { return };
        if let Some(flush) = flush {
            flush.carry_out(self.ops);
        }
        let from = self.ops.mark();
        self.ops.carry_out(operation);
        let to = self.ops.mark();
        self.notes().marks.push((entry, from, to));
    }
}

impl<O: Backend> Metered<'_, O> {
    /// An operation's shape, for people, and what it has to do.
    fn described(&self, operation: &Operation<'_, O::Buffer>) -> (String, Cost) {
        let precision = self.precision;
        let reals = |len: usize| format!("{len} reals");
        let parameters = |len: usize| format!("{len} parameters");
        match operation {
            Operation::Clear(o) => {
                let len = self.ops.len(o.buffer);
                (reals(len), cost::clear(len))
            }
            Operation::CopyPart(o) => (reals(o.len), cost::copy(o.len)),
            Operation::Ifft2c(o) => (coil_images(o.shape), cost::ifft2c(o.shape)),
            Operation::UnetInput(o) => {
                (map_of(&o.map.shape), cost::unet_input(precision, o.shape, o.map.shape))
            }
            // What is made ahead is work that a pass could do without: its floor is none.
            Operation::Announce(o) => (format!("{} layers", o.convolutions.len()), Cost::default()),
            Operation::Conv3x3(o) => {
                let inputs = shapes(o.inputs);
                (
                    layer(&inputs, o.output.shape),
                    cost::conv3x3(precision, &inputs, o.output.shape, o.weight.len),
                )
            }
            Operation::AvgPool(o) => {
                (map_of(&o.input.shape), cost::avg_pool(precision, o.input.shape, o.output.shape))
            }
            Operation::ConvTranspose(o) => {
                let (input, output) = (o.input.shape, o.output.shape);
                (layer(&[input], output), cost::conv_transpose(precision, input, output, o.weight.len))
            }
            Operation::Conv1x1(o) => {
                let (input, output) = (o.input.shape, o.output.shape);
                (layer(&[input], output), cost::conv1x1(precision, input, output, o.weight.len))
            }
            Operation::UnetOutput(o) => {
                (map_of(&o.map.shape), cost::unet_output(precision, o.shape, o.map.shape))
            }
            Operation::DivideByRss(o) => (coil_images(o.shape), cost::divide_by_rss(o.shape)),
            Operation::SensReduce(o) => (coil_images(o.shape), cost::sens_reduce(o.shape)),
            Operation::CascadeInput(o) => (coil_images(o.shape), cost::cascade_input(o.shape)),
            Operation::CascadeDc(o) => {
                let len = self.ops.len(o.u);
                (reals(len), cost::cascade_dc(len))
            }
            Operation::CascadeUpdate(o) => {
                let len = self.ops.len(o.u);
                (reals(len), cost::cascade_update(len, o.m.is_some()))
            }
            Operation::RssOutput(o) => (coil_images(o.shape), cost::rss_output(o.shape)),
            Operation::CropToTarget(o) => (image(o.shape.n, o.shape.crop()), cost::crop_to_target(o.shape)),
            Operation::LabelNoise(o) => (reals(o.len), cost::label_noise(o.len)),
            Operation::ImageLoss(o) => (image(o.shape.n, o.shape.output), cost::image_loss(o.shape)),
            Operation::RssOutputBackward(o) => (coil_images(o.shape), cost::rss_output_backward(o.shape)),
            Operation::CascadeUpdateBackward(o) => {
                let len = self.ops.len(o.u);
                (reals(len), cost::cascade_update_backward(len))
            }
            Operation::NormalOperator(o) => (coil_images(o.shape), cost::normal_operator(o.shape)),
            Operation::SensBackward(o) => {
                let pairs = o.pairs.len();
                (format!("{}, {pairs} pairs", coil_images(o.shape)), cost::sens_backward(o.shape, pairs))
            }
            Operation::DivideByRssBackward(o) => {
                (coil_images(o.shape), cost::divide_by_rss_backward(o.shape))
            }
            Operation::UnetOutputBackward(o) => {
                (map_of(&o.map.shape), cost::unet_output_backward(precision, o.shape, o.map.shape))
            }
            Operation::Conv1x1Backward(o) => {
                let (input, output) = (o.input.shape, o.output.shape);
                (layer(&[input], output), cost::conv1x1_backward(precision, input, output, o.weight.len))
            }
            Operation::ConvTransposeBackward(o) => {
                let (input, output) = (o.input.shape, o.output.shape);
                (
                    layer(&[input], output),
                    cost::conv_transpose_backward(precision, input, output, o.weight.len),
                )
            }
            Operation::AvgPoolBackward(o) => {
                (map_of(&o.input.shape), cost::avg_pool_backward(precision, o.input.shape, o.output.shape))
            }
            Operation::Conv3x3Backward(o) => {
                let (inputs, output) = (shapes(o.inputs), o.output.shape);
                let wanted: Vec<bool> = o.d_inputs.iter().map(Option::is_some).collect();
                let cost = cost::conv3x3_backward(precision, &inputs, &wanted, output, o.weight.len);
                (layer(&inputs, output), cost)
            }
            Operation::UnetInputBackward(o) => {
                (map_of(&o.map.shape), cost::unet_input_backward(precision, o.shape, o.map.shape))
            }
            Operation::Update(o) => {
                let (len, masked) = (self.ops.len(o.gradient), o.mask.is_some());
                let shape = if masked { parameters(len) + " masked" } else { parameters(len) };
                (shape, cost::update(len, masked))
            }
            Operation::AddSquares(o) => {
                let len = self.ops.len(o.sums);
                (parameters(len), cost::add_squares(len))
            }
            Operation::Dampen(o) => {
                let len = self.ops.len(o.parameters);
                (parameters(len), cost::dampen(len))
            }
        }
    }
}
