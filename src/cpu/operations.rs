//! The CPU's side of the contract: each operation handed to its file.

use std::time::Instant;

use crate::backend::*;
use crate::cpu::buffer::Buffer;
use crate::cpu::{
    COUNTED, Cpu, cascade, conv, conv_transpose, conv1x1, fft, importance, loss, noise, pool, sens, unet_io,
    update,
};
use crate::error::{Error, Result};
use crate::memory::{REMEDY, size};
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

    fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn mark(&self) -> Instant {
        Instant::now()
    }

    fn seconds(&self, from: &Instant, to: &Instant) -> f64 {
        to.duration_since(*from).as_secs_f64()
    }

    /// Each buffer is one of the allocator's, who promises more than there is: so they are counted before.
    fn in_one_block<R>(&self, build: impl Fn() -> Result<R>) -> Result<R> {
        COUNTED.set(Some(0));
        let counted = build();
        let bytes = COUNTED.take().unwrap_or_default();
        counted?;
        let needed = bytes.saturating_add(self.held.bytes());
        match self.memory {
            Some(memory) if needed > memory => Err(Error::NoMemory(format!(
                "cpu has not enough memory: {} are needed, this machine has {}. {REMEDY}",
                size(needed),
                size(memory)
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

    fn clear(&self, buffer: &mut Buffer<T>) {
        buffer.fill(T::zero());
    }

    fn copy_part(
        &self,
        from: &Buffer<T>,
        from_offset: usize,
        to: &mut Buffer<T>,
        to_offset: usize,
        len: usize,
    ) {
        to[to_offset..][..len].copy_from_slice(&from[from_offset..][..len]);
    }

    fn ifft2c(&self, shape: ImageShape, kspace: &Buffer<T>, columns: &Buffer<T>, images: &mut Buffer<T>) {
        fft::ifft2c(self, shape, kspace, columns, images);
    }

    fn unet_input(
        &self,
        shape: ImageShape,
        image: &Buffer<T>,
        map: &mut FeatureMap<Buffer<T>>,
        moments: &mut Buffer<T>,
    ) {
        unet_io::unet_input(self, shape, image, map, moments);
    }

    fn conv3x3(
        &self,
        inputs: &[&FeatureMap<Buffer<T>>],
        parameters: &Buffer<T>,
        weight: Span,
        output: &mut FeatureMap<Buffer<T>>,
    ) {
        conv::conv3x3(self, inputs, parameters, weight, output);
    }

    fn avg_pool(&self, input: &FeatureMap<Buffer<T>>, output: &mut FeatureMap<Buffer<T>>) {
        pool::avg_pool(self, input, output);
    }

    fn conv_transpose(
        &self,
        input: &FeatureMap<Buffer<T>>,
        parameters: &Buffer<T>,
        weight: Span,
        output: &mut FeatureMap<Buffer<T>>,
    ) {
        conv_transpose::conv_transpose(self, input, parameters, weight, output);
    }

    fn conv1x1(
        &self,
        input: &FeatureMap<Buffer<T>>,
        parameters: &Buffer<T>,
        weight: Span,
        bias: Span,
        output: &mut FeatureMap<Buffer<T>>,
    ) {
        conv1x1::conv1x1(self, input, parameters, weight, bias, output);
    }

    fn unet_output(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Buffer<T>>,
        moments: &Buffer<T>,
        image: &mut Buffer<T>,
    ) {
        unet_io::unet_output(self, shape, map, moments, image);
    }

    fn divide_by_rss(&self, shape: ImageShape, raw: &Buffer<T>, sens_maps: &mut Buffer<T>) {
        sens::divide_by_rss(self, shape, raw, sens_maps);
    }

    fn sens_reduce(
        &self,
        shape: ImageShape,
        sens_maps: &Buffer<T>,
        images: &Buffer<T>,
        combined: &mut Buffer<T>,
    ) {
        sens::sens_reduce(self, shape, sens_maps, images, combined);
    }

    #[allow(clippy::too_many_arguments)]
    fn cascade_input(
        &self,
        shape: ImageShape,
        sens_maps: &Buffer<T>,
        mask: &Buffer<T>,
        m0: &Buffer<T>,
        u: &Buffer<T>,
        v: &Buffer<T>,
        m: &mut Buffer<T>,
    ) {
        cascade::cascade_input(self, shape, sens_maps, mask, m0, u, v, m);
    }

    fn cascade_dc(
        &self,
        parameters: &Buffer<T>,
        dc_weight: Span,
        u: &Buffer<T>,
        v: &Buffer<T>,
        v_out: &mut Buffer<T>,
    ) {
        cascade::cascade_dc(self, parameters, dc_weight, u, v, v_out);
    }

    fn cascade_update(&self, r: &Buffer<T>, u: &Buffer<T>, u_out: &mut Buffer<T>, m: Option<&mut Buffer<T>>) {
        cascade::cascade_update(self, r, u, u_out, m.map(|m| &mut **m));
    }

    #[allow(clippy::too_many_arguments)]
    fn rss_output(
        &self,
        shape: ImageShape,
        sens_maps: &Buffer<T>,
        mask: &Buffer<T>,
        x0: &Buffer<T>,
        u: &Buffer<T>,
        v: &Buffer<T>,
        output: &mut Buffer<T>,
    ) {
        cascade::rss_output(self, shape, sens_maps, mask, x0, u, v, output);
    }

    fn crop_to_target(&self, shape: LossShape, output: &Buffer<T>, target: &mut Buffer<T>) {
        loss::crop_to_target(shape, output, target);
    }

    fn label_noise(&self, noise: LabelNoise, first: usize, len: usize, target: &mut Buffer<T>) {
        noise::label_noise(noise, &mut target[first..first + len]);
    }

    #[allow(clippy::too_many_arguments)]
    fn image_loss(
        &self,
        shape: LossShape,
        weights: LossWeights,
        scale: f64,
        output: &Buffer<T>,
        target: &Buffer<T>,
        max_value: &Buffer<T>,
        losses: &mut Buffer<T>,
        d_output: &mut Buffer<T>,
    ) {
        let max_value: Vec<f64> = max_value[..shape.n].iter().map(|m| m.as_f64()).collect();
        let parts = loss::image_loss(self, shape, weights, scale, output, target, &max_value, d_output);
        losses[..2].copy_from_slice(&parts.map(T::real));
    }

    #[allow(clippy::too_many_arguments)]
    fn rss_output_backward(
        &self,
        shape: ImageShape,
        sens_maps: &Buffer<T>,
        mask: &Buffer<T>,
        x0: &Buffer<T>,
        u: &Buffer<T>,
        v: &Buffer<T>,
        output: &Buffer<T>,
        d_output: &Buffer<T>,
        d_u: &mut Buffer<T>,
        d_v: &mut Buffer<T>,
        d_sens: &mut Buffer<T>,
    ) {
        cascade::rss_output_backward(
            self, shape, sens_maps, mask, x0, u, v, output, d_output, d_u, d_v, d_sens,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn cascade_update_backward(
        &self,
        parameters: &Buffer<T>,
        dc_weight: Span,
        u: &Buffer<T>,
        v: &Buffer<T>,
        d_m: &Buffer<T>,
        d_u: &mut Buffer<T>,
        d_v: &mut Buffer<T>,
        d_m0: &mut Buffer<T>,
        d_parameters: &mut Buffer<T>,
    ) {
        cascade::cascade_update_backward(
            self,
            parameters,
            dc_weight,
            u,
            v,
            d_m,
            d_u,
            d_v,
            d_m0,
            d_parameters,
        );
    }

    fn normal_operator(
        &self,
        shape: ImageShape,
        sens_maps: &Buffer<T>,
        mask: &Buffer<T>,
        v: &Buffer<T>,
        sum: &mut Buffer<T>,
    ) {
        cascade::normal_operator(self, shape, sens_maps, mask, v, sum);
    }

    #[allow(clippy::too_many_arguments)]
    fn sens_backward(
        &self,
        shape: ImageShape,
        sens_maps: &Buffer<T>,
        mask: &Buffer<T>,
        x0: &Buffer<T>,
        d_m0: &Buffer<T>,
        pairs: &[(&Buffer<T>, &Buffer<T>)],
        d_sens: &mut Buffer<T>,
    ) {
        cascade::sens_backward(self, shape, sens_maps, mask, x0, d_m0, pairs, d_sens);
    }

    fn divide_by_rss_backward(
        &self,
        shape: ImageShape,
        raw: &Buffer<T>,
        sens_maps: &Buffer<T>,
        d_sens: &mut Buffer<T>,
    ) {
        sens::divide_by_rss_backward(self, shape, raw, sens_maps, d_sens);
    }

    fn unet_output_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Buffer<T>>,
        moments: &Buffer<T>,
        d_image: &Buffer<T>,
        d_map: &mut MapGradient<Buffer<T>>,
        d_moments: &mut Buffer<T>,
    ) {
        unet_io::unet_output_backward(self, shape, map, moments, d_image, d_map, d_moments);
    }

    #[allow(clippy::too_many_arguments)]
    fn conv1x1_backward(
        &self,
        input: &FeatureMap<Buffer<T>>,
        parameters: &Buffer<T>,
        weight: Span,
        bias: Span,
        output: &FeatureMap<Buffer<T>>,
        d_output: &MapGradient<Buffer<T>>,
        d_parameters: &mut Buffer<T>,
        d_input: &mut MapGradient<Buffer<T>>,
    ) {
        conv1x1::conv1x1_backward(
            self,
            input,
            parameters,
            weight,
            bias,
            output,
            d_output,
            d_parameters,
            d_input,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn conv_transpose_backward(
        &self,
        input: &FeatureMap<Buffer<T>>,
        parameters: &Buffer<T>,
        weight: Span,
        output: &FeatureMap<Buffer<T>>,
        d_output: &MapGradient<Buffer<T>>,
        d_parameters: &mut Buffer<T>,
        d_input: &mut MapGradient<Buffer<T>>,
    ) {
        conv_transpose::conv_transpose_backward(
            self,
            input,
            parameters,
            weight,
            output,
            d_output,
            d_parameters,
            d_input,
        );
    }

    fn avg_pool_backward(
        &self,
        input: &FeatureMap<Buffer<T>>,
        output: &FeatureMap<Buffer<T>>,
        d_output: &MapGradient<Buffer<T>>,
        d_input: &mut MapGradient<Buffer<T>>,
    ) {
        pool::avg_pool_backward(self, input, output, d_output, d_input);
    }

    #[allow(clippy::too_many_arguments)]
    fn conv3x3_backward(
        &self,
        inputs: &[&FeatureMap<Buffer<T>>],
        parameters: &Buffer<T>,
        weight: Span,
        output: &FeatureMap<Buffer<T>>,
        d_output: &MapGradient<Buffer<T>>,
        d_parameters: &mut Buffer<T>,
        d_inputs: &mut [Option<InputGradient<'_, Buffer<T>>>],
    ) {
        conv::conv3x3_backward(self, inputs, parameters, weight, output, d_output, d_parameters, d_inputs);
    }

    fn unet_input_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Buffer<T>>,
        moments: &Buffer<T>,
        d_map: &MapGradient<Buffer<T>>,
        d_moments: &Buffer<T>,
        d_image: &mut Buffer<T>,
    ) {
        unet_io::unet_input_backward(self, shape, map, moments, d_map, d_moments, d_image);
    }

    fn update(
        &self,
        update: Update,
        parameters: &mut Buffer<T>,
        mask: Option<&Buffer<T>>,
        gradient: &Buffer<T>,
        first_moment: &mut Buffer<T>,
        second_moment: &mut Buffer<T>,
        norm: &mut Buffer<T>,
    ) {
        let mask = mask.map(|mask| &**mask);
        let found = update::update(self, update, parameters, mask, gradient, first_moment, second_moment);
        norm[0] = T::real(found);
    }

    fn add_squares(&self, factor: f64, gradient: &Buffer<T>, sums: &mut Buffer<T>) {
        importance::add_squares(self, factor, gradient, sums);
    }

    fn dampen(
        &self,
        dampening: Dampening,
        forget: &Buffer<T>,
        retain: &Buffer<T>,
        parameters: &mut Buffer<T>,
    ) {
        importance::dampen(self, dampening, forget, retain, parameters);
    }
}
