//! The CPU's side of the contract: each operation handed to its file.

use std::time::Instant;

use crate::backend::*;
use crate::cpu::buffer::Buffer;
use crate::cpu::{
    COUNTED, Cpu, cascade, conv, conv_transpose, conv1x1, fft, importance, loss, noise, pool, sens, unet_io,
    update,
};
use crate::error::{Error, Result};
use crate::memory::{REMEDY, shared, size};
use crate::real::Real;

impl<T: Real> Memory for Cpu<T> {
    type Buffer = Buffer<T>;

    fn zeros(&self, _purpose: Purpose, len: usize) -> Buffer<T> {
        match COUNTED.get() {
            Some(bytes) => {
                COUNTED.set(Some(bytes.saturating_add(len.saturating_mul(size_of::<T>()))));
                Buffer::zeros(0, &self.held)
            }
            None => Buffer::zeros(len, &self.held),
        }
    }
}

impl<T: Real> Backend for Cpu<T> {
    type Real = T;
    type Tape = ();
    type Mark = Instant;
    type Download = Vec<T>;

    fn check(&self, _shape: ImageShape) -> Result<()> {
        Ok(())
    }

    /// Working memory is the allocator's business here.
    fn prepare(&self, _body: impl FnOnce()) -> Result<()> {
        Ok(())
    }

    fn repeat(&self, _tape: &mut (), body: impl FnOnce()) {
        body();
    }

    fn beside(&self, body: impl FnOnce()) {
        body();
    }

    /// All that is asked for is done at once.
    fn works_beside(&self) -> bool {
        false
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn mark(&self) -> Instant {
        Instant::now()
    }

    fn seconds(&self, from: &Instant, to: &Instant) -> f64 {
        to.duration_since(*from).as_secs_f64()
    }

    /// The host sums what CPUs computed.
    fn is_connected(&self) -> bool {
        false
    }

    fn begin_sum(&self, _buffer: &mut Buffer<T>, _part: Span) {
        unreachable!("nothing is connected");
    }

    fn await_sums(&self) {}

    /// Its memory is the host's.
    fn memory_in_use(&self) -> Option<usize> {
        None
    }

    /// Each buffer is one of the allocator's, who promises more than there is: so they are counted before.
    fn in_one_block<R>(&self, beside: usize, build: impl Fn() -> Result<R>) -> Result<R> {
        COUNTED.set(Some(0));
        let counted = build();
        let bytes = COUNTED.take().unwrap_or_default();
        counted?;
        let needed = bytes.saturating_add(self.held.bytes()).saturating_add(beside);
        match self.memory {
            Some(memory) if needed > memory => Err(Error::NoMemory(format!(
                "cpu has not enough memory: {} are needed, this machine has {}{}. {REMEDY}",
                size(needed),
                size(memory),
                shared()
            ))),
            _ => build(),
        }
    }

    /// One that is trained with, and one that is validated with: other programs want memory, too.
    fn keeps(&self, rooms: usize) -> bool {
        rooms <= 2
    }

    fn len(&self, buffer: &Buffer<T>) -> usize {
        buffer.len()
    }

    fn set_len(&self, buffer: &mut Buffer<T>, len: usize) {
        buffer.set_len(len);
    }

    fn upload(&self, from: &[T], to: &mut Buffer<T>) {
        to[..from.len()].copy_from_slice(from);
    }

    /// Nothing is under way.
    fn upload_after(&self, _after: &Instant, from: &[T], to: &mut Buffer<T>) {
        self.upload(from, to);
    }

    fn download(&self, from: &Buffer<T>, to: &mut [T]) {
        to.copy_from_slice(&from[..to.len()]);
    }

    fn begin_download(&self, from: &Buffer<T>, len: usize) -> Result<Vec<T>> {
        Ok(from[..len].to_vec())
    }

    fn await_download(&self, download: Vec<T>, to: &mut [T]) -> Result<()> {
        to.copy_from_slice(&download);
        Ok(())
    }

    fn carry_out(&self, operation: Operation<'_, Buffer<T>>) {
        match operation {
            Operation::Clear(o) => o.buffer.fill(T::zero()),
            Operation::CopyPart(o) => {
                o.to[o.to_offset..][..o.len].copy_from_slice(&o.from[o.from_offset..][..o.len]);
            }
            Operation::Ifft2c(o) => fft::ifft2c(self, o.shape, o.kspace, o.columns, o.images),
            Operation::UnetInput(o) => unet_io::unet_input(self, o.shape, o.image, o.map, o.moments),
            // Layers have nothing in common here.
            Operation::Announce(_) => {}
            Operation::Conv3x3(o) => conv::conv3x3(self, o.inputs, o.parameters, o.weight, o.output),
            Operation::AvgPool(o) => pool::avg_pool(self, o.input, o.output),
            Operation::ConvTranspose(o) => {
                conv_transpose::conv_transpose(self, o.input, o.parameters, o.weight, o.output)
            }
            Operation::Conv1x1(o) => {
                conv1x1::conv1x1(self, o.input, o.parameters, o.weight, o.bias, o.output)
            }
            Operation::UnetOutput(o) => unet_io::unet_output(self, o.shape, o.map, o.moments, o.image),
            Operation::DivideByRss(o) => sens::divide_by_rss(self, o.shape, o.raw, o.sens_maps),
            Operation::SensReduce(o) => sens::sens_reduce(self, o.shape, o.sens_maps, o.images, o.combined),
            Operation::CascadeInput(o) => {
                cascade::cascade_input(self, o.shape, o.sens_maps, o.mask, o.m0, o.u, o.v, o.m)
            }
            Operation::CascadeDc(o) => {
                cascade::cascade_dc(self, o.parameters, o.dc_weight, o.u, o.v, o.v_out)
            }
            Operation::CascadeUpdate(o) => {
                cascade::cascade_update(self, o.r, o.u, o.u_out, o.m.map(|m| &mut **m))
            }
            Operation::RssOutput(o) => {
                cascade::rss_output(self, o.shape, o.sens_maps, o.mask, o.x0, o.u, o.v, o.output)
            }
            Operation::CropToTarget(o) => loss::crop_to_target(o.shape, o.output, o.target),
            Operation::LabelNoise(o) => noise::label_noise(o.noise, &mut o.target[o.first..][..o.len]),
            Operation::ImageLoss(o) => {
                let max_value: Vec<f64> = o.max_value[..o.shape.n].iter().map(|m| m.as_f64()).collect();
                let losses = loss::image_loss(
                    self, o.shape, o.weights, o.scale, o.output, o.target, &max_value, o.d_output,
                );
                o.losses[..2].copy_from_slice(&losses.map(T::real));
            }
            Operation::RssOutputBackward(o) => cascade::rss_output_backward(
                self,
                o.shape,
                o.sens_maps,
                o.mask,
                o.x0,
                o.u,
                o.v,
                o.output,
                o.d_output,
                o.d_u,
                o.d_v,
                o.d_sens,
            ),
            Operation::CascadeUpdateBackward(o) => cascade::cascade_update_backward(
                self,
                o.parameters,
                o.dc_weight,
                o.u,
                o.v,
                o.d_m,
                o.d_u,
                o.d_v,
                o.d_m0,
                o.d_parameters,
            ),
            Operation::NormalOperator(o) => {
                cascade::normal_operator(self, o.shape, o.sens_maps, o.mask, o.v, o.sum)
            }
            Operation::SensBackward(o) => {
                cascade::sens_backward(self, o.shape, o.sens_maps, o.mask, o.x0, o.d_m0, o.pairs, o.d_sens)
            }
            Operation::DivideByRssBackward(o) => {
                sens::divide_by_rss_backward(self, o.shape, o.raw, o.sens_maps, o.d_sens)
            }
            Operation::UnetOutputBackward(o) => unet_io::unet_output_backward(
                self,
                o.shape,
                o.map,
                o.moments,
                o.d_image,
                o.d_map,
                o.d_moments,
            ),
            Operation::Conv1x1Backward(o) => conv1x1::conv1x1_backward(
                self,
                o.input,
                o.parameters,
                o.weight,
                o.bias,
                o.output,
                o.d_output,
                o.d_parameters,
                o.d_input,
            ),
            Operation::ConvTransposeBackward(o) => conv_transpose::conv_transpose_backward(
                self,
                o.input,
                o.parameters,
                o.weight,
                o.output,
                o.d_output,
                o.d_parameters,
                o.d_input,
            ),
            Operation::AvgPoolBackward(o) => {
                pool::avg_pool_backward(self, o.input, o.output, o.d_output, o.d_input)
            }
            Operation::Conv3x3Backward(o) => conv::conv3x3_backward(
                self,
                o.inputs,
                o.parameters,
                o.weight,
                o.output,
                o.d_output,
                o.d_parameters,
                o.d_inputs,
            ),
            Operation::UnetInputBackward(o) => {
                unet_io::unet_input_backward(self, o.shape, o.map, o.moments, o.d_map, o.d_moments, o.d_image)
            }
            Operation::Update(o) => {
                let mask = o.mask.map(|mask| &**mask);
                let (first, second) = (o.first_moment, o.second_moment);
                let norm = update::update(self, o.adam, o.parameters, mask, o.gradient, first, second);
                o.norm[0] = T::real(norm);
            }
            Operation::AddSquares(o) => importance::add_squares(self, o.factor, o.gradient, o.sums),
            Operation::Dampen(o) => importance::dampen(self, o.dampening, o.forget, o.retain, o.parameters),
        }
    }
}
