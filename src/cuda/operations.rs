//! The device's side of the contract: memory and replay here, each operation handed to its file.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use half::bf16;

use crate::backend::*;
use crate::cuda::conv::{announce, conv3x3, transpose};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::Element;
use crate::cuda::{
    Buffer, Cuda, Tape, cascade, conv1x1, fft, importance, loss, noise, pool, sens, unet_io, update,
};
use crate::error::{Error, Result};

impl<D: Driver> Memory for Cuda<D> {
    type Buffer = Buffer<D>;

    fn zeros(&self, purpose: Purpose, len: usize) -> Buffer<D> {
        self.zeros_of(purpose, Element::F32, len)
    }

    fn map(&self, purpose: Purpose, len: usize) -> Buffer<D> {
        self.zeros_of(purpose, self.element_of_maps(), len)
    }
}

impl<D: Driver> Cuda<D> {
    fn zeros_of(&self, purpose: Purpose, element: Element, len: usize) -> Buffer<D> {
        let made = self.attempt(|driver| self.arena().take(driver, purpose, element, len));
        let mut buffer = made.unwrap_or_else(|| Buffer::nothing(element, len));
        self.run(Clear { buffer: &mut buffer });
        buffer
    }
}

/// What a buffer of such elements holds of these values: they are rounded to nearest.
fn as_stored(values: &[f32], element: Element) -> Cow<'_, [u8]> {
    match element {
        Element::F32 => Cow::Borrowed(bytemuck::cast_slice(values)),
        Element::Bf16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_ne_bytes()).collect(),
    }
}

/// Carries an operation out for maps as the device stores them.
macro_rules! by_element {
    ($cuda:expr, $family:ident::$operation:ident($($argument:expr),*)) => {
        match $cuda.element_of_maps() {
            Element::F32 => $family::$operation::<f32, D>($cuda, $($argument),*),
            Element::Bf16 => $family::$operation::<bf16, D>($cuda, $($argument),*),
        }
    };
}

impl<D: Driver> Backend for Cuda<D> {
    type Real = f32;
    type Tape = Tape<D>;
    /// None where it could not be made.
    type Mark = Option<D::Event>;
    type Download = D::Download;

    fn check(&self, shape: ImageShape) -> Result<()> {
        let longest = shape.rows.max(shape.columns);
        if longest <= fft::LONGEST {
            return Ok(());
        }
        Err(Error::input(format!(
            "k-space of {} x {}: the kernels transform up to {} points, this has {longest} along one side; use \
             --device cpu, or crop the volumes",
            shape.rows,
            shape.columns,
            fft::LONGEST
        )))
    }

    fn prepare(&self, body: impl FnOnce()) -> Result<()> {
        self.rehearse(body);
        self.finish()
    }

    fn repeat(&self, tape: &mut Tape<D>, body: impl FnOnce()) {
        match tape {
            Tape::Unknown => {
                body();
                *tape = Tape::Known;
            }
            Tape::Known => {
                let mut body = Some(body);
                self.recording.store(true, Ordering::Relaxed);
                let recorded = self.attempt_in_order(|driver| {
                    driver.record(&mut || {
                        body.take().expect("once")();
                        self.attempt(|driver| self.await_beside(driver));
                    })
                });
                self.recording.store(false, Ordering::Relaxed);
                // Half a recording would be replayed for ever.
                let Some(graph) = recorded.filter(|_| self.failure().is_none()) else { return };
                // SAFETY: the buffers that the operations were given are alive: `body` borrows them.
                self.attempt_in_order(|driver| unsafe { driver.replay(&graph) });
                let scratch = self.arena().scratch_blocks().into_iter().map(|(block, _)| block);
                *tape = Tape::Recorded { graph, _scratch: scratch.collect() };
            }
            Tape::Recorded { graph, .. } => {
                // SAFETY: `body` borrows the same buffers as when it was recorded (the contract of `repeat`), and the
                // tape keeps the scratch.
                self.attempt_in_order(|driver| unsafe { driver.replay(graph) });
            }
        }
    }

    fn beside(&self, body: impl FnOnce()) {
        Cuda::beside(self, body);
    }

    /// On the emulated device, too, which is asked for everything in the order in which a GPU is.
    fn works_beside(&self) -> bool {
        true
    }

    fn finish(&self) -> Result<()> {
        self.attempt_in_order(Driver::synchronize);
        self.failure().take().map_or(Ok(()), Err)
    }

    fn mark(&self) -> Option<D::Event> {
        self.attempt_in_order(Driver::event)
    }

    fn is_connected(&self) -> bool {
        self.driver.is_connected()
    }

    fn begin_sum(&self, buffer: &mut Buffer<D>, part: Span) {
        let at = buffer.address_of(part.offset, part.len);
        // SAFETY: the buffer's memory is alive and holds so many floats, which parameters and their gradients are; nobody
        // touches them before `await_sums`, as the contract says.
        self.operate(|driver| unsafe { driver.begin_sum(at, part.len) });
    }

    fn await_sums(&self) {
        self.operate(Driver::await_sums);
    }

    fn seconds(&self, from: &Option<D::Event>, to: &Option<D::Event>) -> f64 {
        let [Some(from), Some(to)] = [from, to] else { return f64::NAN };
        self.attempt(|driver| driver.seconds(from, to)).unwrap_or(f64::NAN)
    }

    fn in_one_block<R>(&self, _beside: usize, build: impl Fn() -> Result<R>) -> Result<R> {
        self.arena().count();
        if let Err(error) = build() {
            self.arena().stop();
            return Err(error);
        }
        self.arena().carve(&self.driver)?;
        let built = build();
        self.arena().stop();
        self.finish()?;
        built
    }

    fn memory_in_use(&self) -> Option<usize> {
        let [free, total] = self.attempt(Driver::memory)?;
        Some(total.saturating_sub(free))
    }

    fn launches(&self) -> Option<Launches> {
        self.driver.launches()
    }

    /// As long as a tenth of the memory is left: a recorded step takes some of its own.
    fn keeps(&self, rooms: usize) -> bool {
        const MOST: usize = 32;
        let [free, total] = self.attempt(Driver::memory).unwrap_or_default();
        rooms <= MOST && free >= total / 10
    }

    fn len(&self, buffer: &Buffer<D>) -> usize {
        buffer.len()
    }

    fn set_len(&self, buffer: &mut Buffer<D>, len: usize) {
        buffer.set_len(len);
    }

    fn upload(&self, from: &[f32], to: &mut Buffer<D>) {
        let (bytes, to) = (as_stored(from, to.element()), to.address_of(0, from.len()));
        // SAFETY: the buffer has room for them.
        self.attempt_in_order(|driver| unsafe { driver.upload(&bytes, to) });
    }

    fn upload_after(&self, after: &Option<D::Event>, from: &[f32], to: &mut Buffer<D>) {
        let Some(after) = after else { return self.upload(from, to) };
        let (bytes, to) = (as_stored(from, to.element()), to.address_of(0, from.len()));
        // SAFETY: the buffer has room for them.
        self.attempt(|driver| unsafe { driver.upload_after(after, &bytes, to) });
    }

    fn download(&self, from: &Buffer<D>, to: &mut [f32]) {
        let (element, from) = (from.element(), from.address_of(0, to.len()));
        match element {
            // SAFETY: the buffer has as many.
            Element::F32 => {
                self.attempt_in_order(|driver| unsafe { driver.download(from, bytemuck::cast_slice_mut(to)) })
            }
            Element::Bf16 => {
                let mut stored = vec![bf16::ZERO; to.len()];
                let bytes = bytemuck::cast_slice_mut(&mut stored);
                // SAFETY: as above.
                let read = self.attempt_in_order(|driver| unsafe { driver.download(from, bytes) });
                read.map(|()| to.iter_mut().zip(&stored).for_each(|(to, &x)| *to = x.to_f32()))
            }
        };
    }

    fn begin_download(&self, from: &Buffer<D>, len: usize) -> Result<D::Download> {
        assert_eq!(from.element(), Element::F32, "such a copy converts nothing");
        let at = from.address_of(0, len);
        // SAFETY: the buffer has as many, and its memory is not given back before the device is done with it.
        let begun =
            self.attempt_in_order(|driver| unsafe { driver.begin_download(at, size_of::<f32>() * len) });
        begun.ok_or_else(|| self.failure().take().expect("what is not begun has failed"))
    }

    /// What has failed since is left to be said by whoever asks for it.
    fn await_download(&self, download: D::Download, to: &mut [f32]) -> Result<()> {
        self.driver.await_download(download, bytemuck::cast_slice_mut(to))
    }

    fn carry_out(&self, operation: Operation<'_, Buffer<D>>) {
        match operation {
            Operation::Clear(o) => clear(self, o),
            Operation::CopyPart(o) => copy_part(self, o),
            Operation::Ifft2c(o) => fft::ifft2c(self, o),
            Operation::UnetInput(o) => by_element!(self, unet_io::unet_input(o)),
            Operation::Announce(o) => announce::announce(self, o),
            Operation::Conv3x3(o) => by_element!(self, conv3x3::conv3x3(o)),
            Operation::AvgPool(o) => by_element!(self, pool::avg_pool(o)),
            Operation::ConvTranspose(o) => by_element!(self, transpose::conv_transpose(o)),
            Operation::Conv1x1(o) => by_element!(self, conv1x1::conv1x1(o)),
            Operation::UnetOutput(o) => by_element!(self, unet_io::unet_output(o)),
            Operation::DivideByRss(o) => sens::divide_by_rss(self, o),
            Operation::SensReduce(o) => sens::sens_reduce(self, o),
            Operation::CascadeInput(o) => cascade::cascade_input(self, o),
            Operation::CascadeDc(o) => cascade::cascade_dc(self, o),
            Operation::CascadeUpdate(o) => cascade::cascade_update(self, o),
            Operation::RssOutput(o) => cascade::rss_output(self, o),
            Operation::CropToTarget(o) => loss::crop_to_target(self, o),
            Operation::LabelNoise(o) => noise::label_noise(self, o),
            Operation::ImageLoss(o) => loss::image_loss(self, o),
            Operation::RssOutputBackward(o) => cascade::rss_output_backward(self, o),
            Operation::CascadeUpdateBackward(o) => cascade::cascade_update_backward(self, o),
            Operation::NormalOperator(o) => cascade::normal_operator(self, o),
            Operation::SensBackward(o) => cascade::sens_backward(self, o),
            Operation::DivideByRssBackward(o) => sens::divide_by_rss_backward(self, o),
            Operation::UnetOutputBackward(o) => by_element!(self, unet_io::unet_output_backward(o)),
            Operation::Conv1x1Backward(o) => by_element!(self, conv1x1::conv1x1_backward(o)),
            Operation::ConvTransposeBackward(o) => {
                by_element!(self, transpose::conv_transpose_backward(o))
            }
            Operation::AvgPoolBackward(o) => by_element!(self, pool::avg_pool_backward(o)),
            Operation::Conv3x3Backward(o) => by_element!(self, conv3x3::conv3x3_backward(o)),
            Operation::UnetInputBackward(o) => by_element!(self, unet_io::unet_input_backward(o)),
            // Those that follow touch all parameters or gradients at once, see beside.rs.
            Operation::Update(o) => {
                self.rejoin();
                update::update(self, o);
            }
            Operation::AddSquares(o) => {
                self.rejoin();
                importance::add_squares(self, o);
            }
            Operation::Dampen(o) => {
                self.rejoin();
                importance::dampen(self, o);
            }
        }
    }
}

fn clear<D: Driver>(cuda: &Cuda<D>, Clear { buffer }: Clear<'_, Buffer<D>>) {
    let at = buffer.address_of(0, buffer.len());
    if at == 0 {
        return;
    }
    // SAFETY: it is the whole buffer.
    cuda.operate(|driver| unsafe { driver.zero(at, buffer.element().bytes() * buffer.len()) });
}

fn copy_part<D: Driver>(
    cuda: &Cuda<D>,
    CopyPart { from, from_offset, to, to_offset, len }: CopyPart<'_, Buffer<D>>,
) {
    assert_eq!(from.element(), to.element(), "a copy converts nothing");
    let bytes = from.element().bytes() * len;
    let (from, to) = (from.address_of(from_offset, len), to.address_of(to_offset, len));
    // SAFETY: both have so many reals there, and a buffer that is borrowed twice is not `to`.
    cuda.operate(|driver| unsafe { driver.copy(from, to, bytes) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::driver::emulated::{Emulated, Schedule};
    use crate::precision::Precision;

    fn in_bf16() -> Cuda<Emulated> {
        Cuda::new(Emulated::default()).with_precision(Precision::Bf16)
    }

    #[test]
    fn values_of_maps_are_rounded_to_nearest_and_ties_to_even() {
        let ops = in_bf16();
        let ulp = 1.0 / 128.0;
        let values = [1.0 + 0.5 * ulp, 1.0 + 0.51 * ulp, 1.0 + 1.5 * ulp, -3.1, f32::MAX, f32::NAN];
        let mut map = ops.map(Purpose::Gradients, values.len());
        ops.upload(&values, &mut map);
        let mut read = [0.0; 6];
        ops.download(&map, &mut read);
        ops.finish().unwrap();
        assert_eq!(read[..5], [1.0, 1.0 + ulp, 1.0 + 2.0 * ulp, -3.09375, f32::INFINITY]);
        assert!(read[5].is_nan());
        // 12 bytes, and what alignment adds.
        assert_eq!(ops.usage()[&Purpose::Gradients], 256);
        let [maps, reals] = [ops.map(Purpose::Cascades, 1000), ops.zeros(Purpose::Images, 1000)];
        assert_eq!([ops.usage()[&Purpose::Cascades], ops.usage()[&Purpose::Images]], [2048, 4096]);
        assert_eq!([maps.len(), reals.len()], [1000; 2]);
    }

    #[test]
    #[should_panic(expected = "a buffer of Bf16 is taken for one of F32")]
    fn a_map_in_bf16_is_not_taken_for_float32() {
        let _ = in_bf16().map(Purpose::Gradients, 3).read::<f32>(3);
    }

    #[test]
    fn scratch_of_a_recording_is_what_the_first_pass_left() {
        let ops = Cuda::new(Emulated::default());
        let mut tape = Tape::default();
        for _ in 0..3 {
            ops.repeat(&mut tape, || {
                ops.scratch([1000]);
            });
        }
        ops.finish().unwrap();
        assert!(matches!(tape, Tape::Recorded { .. }));
    }

    #[test]
    #[should_panic(expected = "would have to grow by 1024 bytes while a step is recorded")]
    fn scratch_does_not_grow_in_a_recording() {
        let ops = Cuda::new(Emulated::default());
        let mut tape = Tape::default();
        for reals in [256, 512] {
            ops.repeat(&mut tape, || {
                ops.scratch([reals]);
            });
        }
    }

    /// So that a step that failed does not cost what the one before it came to.
    #[test]
    fn a_download_is_whole_whatever_fails_after_it() {
        let ops = Cuda::new(Emulated::new(Schedule::Forward, 1 << 20));
        let mut buffer = ops.zeros(Purpose::Images, 3);
        ops.upload(&[1.0, 2.0, 3.0], &mut buffer);
        let begun = ops.begin_download(&buffer, 2).unwrap();
        ops.run(Clear { buffer: &mut buffer });
        ops.zeros(Purpose::Images, 1 << 20);
        let message = ops.begin_download(&buffer, 2).unwrap_err().to_string();
        assert!(message.contains("not enough memory"), "{message}");
        let mut values = [0.0; 2];
        ops.await_download(begun, &mut values).unwrap();
        assert_eq!(values, [1.0, 2.0]);
        ops.finish().unwrap();
    }

    #[test]
    fn a_recording_that_failed_is_not_replayed() {
        let ops = Cuda::new(Emulated::new(Schedule::Forward, 1 << 20));
        let mut buffer = ops.zeros(Purpose::Images, 3);
        let mut tape = Tape::default();
        ops.repeat(&mut tape, || ops.run(Clear { buffer: &mut buffer }));
        ops.repeat(&mut tape, || {
            ops.zeros(Purpose::Images, 1 << 20);
            ops.run(Clear { buffer: &mut buffer });
        });
        let message = ops.finish().unwrap_err().to_string();
        assert!(message.contains("not enough memory"), "{message}");

        let mut values = [1.0; 3];
        ops.upload(&values, &mut buffer);
        ops.repeat(&mut tape, || ops.run(Clear { buffer: &mut buffer }));
        ops.download(&buffer, &mut values);
        ops.finish().unwrap();
        assert_eq!(values, [0.0; 3]);
    }
}
