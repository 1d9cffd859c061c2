//! The CPU's side of the contract: each operation handed to its file.

use std::time::Instant;

use crate::backend::*;
use crate::cpu::{
    COUNTED, Cpu, cascade, conv, conv_transpose, conv1x1, fft, importance, loss, noise, pool, sens, unet_io,
    update,
};
use crate::error::{Error, Result};
use crate::memory::{REMEDY, size};
use crate::real::Real;

impl<T: Real> Memory for Cpu<T> {
    type Buffer = Vec<T>;

    fn zeros(&self, _purpose: Purpose, len: usize) -> Vec<T> {
        match COUNTED.get() {
            Some(bytes) => {
                COUNTED.set(Some(bytes.saturating_add(len.saturating_mul(size_of::<T>()))));
                Vec::new()
            }
            None => vec![T::zero(); len],
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
        match self.memory {
            Some(memory) if bytes > memory => Err(Error::NoMemory(format!(
                "cpu has not enough memory: {} are needed, this machine has {}. {REMEDY}",
                size(bytes),
                size(memory)
            ))),
            _ => build(),
        }
    }

    /// One that is trained with, and one that is validated with: other programs want memory, too.
    fn keeps(&self, rooms: usize) -> bool {
        rooms <= 2
    }

    fn len(&self, buffer: &Vec<T>) -> usize {
        buffer.len()
    }

    fn set_len(&self, buffer: &mut Vec<T>, len: usize) {
        assert!(len <= buffer.capacity(), "a buffer of {} is asked to hold {len}", buffer.capacity());
        buffer.resize(len, T::zero());
    }

    fn upload(&self, from: &[T], to: &mut Vec<T>) {
        to[..from.len()].copy_from_slice(from);
    }

    /// Nothing is under way.
    fn upload_after(&self, _after: &Instant, from: &[T], to: &mut Vec<T>) {
        self.upload(from, to);
    }

    fn download(&self, from: &Vec<T>, to: &mut [T]) {
        to.copy_from_slice(&from[..to.len()]);
    }

    fn begin_download(&self, from: &Vec<T>, len: usize) -> Result<Vec<T>> {
        Ok(from[..len].to_vec())
    }

    fn await_download(&self, download: Vec<T>, to: &mut [T]) -> Result<()> {
        to.copy_from_slice(&download);
        Ok(())
    }

    fn clear(&self, buffer: &mut Vec<T>) {
        buffer.fill(T::zero());
    }

    fn copy_part(&self, from: &Vec<T>, from_offset: usize, to: &mut Vec<T>, to_offset: usize, len: usize) {
        to[to_offset..][..len].copy_from_slice(&from[from_offset..][..len]);
    }

    fn ifft2c(&self, shape: ImageShape, kspace: &Vec<T>, columns: &Vec<T>, images: &mut Vec<T>) {
        fft::ifft2c(self, shape, kspace, columns, images);
    }

    fn unet_input(
        &self,
        shape: ImageShape,
        image: &Vec<T>,
        map: &mut FeatureMap<Vec<T>>,
        moments: &mut Vec<T>,
    ) {
        unet_io::unet_input(self, shape, image, map, moments);
    }

    fn conv3x3(
        &self,
        inputs: &[&FeatureMap<Vec<T>>],
        parameters: &Vec<T>,
        weight: Span,
        output: &mut FeatureMap<Vec<T>>,
    ) {
        conv::conv3x3(self, inputs, parameters, weight, output);
    }

    fn avg_pool(&self, input: &FeatureMap<Vec<T>>, output: &mut FeatureMap<Vec<T>>) {
        pool::avg_pool(self, input, output);
    }

    fn conv_transpose(
        &self,
        input: &FeatureMap<Vec<T>>,
        parameters: &Vec<T>,
        weight: Span,
        output: &mut FeatureMap<Vec<T>>,
    ) {
        conv_transpose::conv_transpose(self, input, parameters, weight, output);
    }

    fn conv1x1(
        &self,
        input: &FeatureMap<Vec<T>>,
        parameters: &Vec<T>,
        weight: Span,
        bias: Span,
        output: &mut FeatureMap<Vec<T>>,
    ) {
        conv1x1::conv1x1(self, input, parameters, weight, bias, output);
    }

    fn unet_output(&self, shape: ImageShape, map: &FeatureMap<Vec<T>>, moments: &Vec<T>, image: &mut Vec<T>) {
        unet_io::unet_output(self, shape, map, moments, image);
    }

    fn divide_by_rss(&self, shape: ImageShape, raw: &Vec<T>, sens_maps: &mut Vec<T>) {
        sens::divide_by_rss(self, shape, raw, sens_maps);
    }

    fn sens_reduce(&self, shape: ImageShape, sens_maps: &Vec<T>, images: &Vec<T>, combined: &mut Vec<T>) {
        sens::sens_reduce(self, shape, sens_maps, images, combined);
    }

    #[allow(clippy::too_many_arguments)]
    fn cascade_input(
        &self,
        shape: ImageShape,
        sens_maps: &Vec<T>,
        mask: &Vec<T>,
        m0: &Vec<T>,
        u: &Vec<T>,
        v: &Vec<T>,
        m: &mut Vec<T>,
    ) {
        cascade::cascade_input(self, shape, sens_maps, mask, m0, u, v, m);
    }

    fn cascade_dc(&self, parameters: &Vec<T>, dc_weight: Span, u: &Vec<T>, v: &Vec<T>, v_out: &mut Vec<T>) {
        cascade::cascade_dc(self, parameters, dc_weight, u, v, v_out);
    }

    fn cascade_update(&self, r: &Vec<T>, u: &Vec<T>, u_out: &mut Vec<T>, m: Option<&mut Vec<T>>) {
        cascade::cascade_update(self, r, u, u_out, m.map(Vec::as_mut_slice));
    }

    #[allow(clippy::too_many_arguments)]
    fn rss_output(
        &self,
        shape: ImageShape,
        sens_maps: &Vec<T>,
        mask: &Vec<T>,
        x0: &Vec<T>,
        u: &Vec<T>,
        v: &Vec<T>,
        output: &mut Vec<T>,
    ) {
        cascade::rss_output(self, shape, sens_maps, mask, x0, u, v, output);
    }

    fn crop_to_target(&self, shape: LossShape, output: &Vec<T>, target: &mut Vec<T>) {
        loss::crop_to_target(shape, output, target);
    }

    fn label_noise(&self, noise: LabelNoise, first: usize, len: usize, target: &mut Vec<T>) {
        noise::label_noise(noise, &mut target[first..first + len]);
    }

    #[allow(clippy::too_many_arguments)]
    fn image_loss(
        &self,
        shape: LossShape,
        weights: LossWeights,
        scale: f64,
        output: &Vec<T>,
        target: &Vec<T>,
        max_value: &Vec<T>,
        losses: &mut Vec<T>,
        d_output: &mut Vec<T>,
    ) {
        let max_value: Vec<f64> = max_value[..shape.n].iter().map(|m| m.as_f64()).collect();
        let parts = loss::image_loss(self, shape, weights, scale, output, target, &max_value, d_output);
        losses[..2].copy_from_slice(&parts.map(T::real));
    }

    #[allow(clippy::too_many_arguments)]
    fn rss_output_backward(
        &self,
        shape: ImageShape,
        sens_maps: &Vec<T>,
        mask: &Vec<T>,
        x0: &Vec<T>,
        u: &Vec<T>,
        v: &Vec<T>,
        output: &Vec<T>,
        d_output: &Vec<T>,
        d_u: &mut Vec<T>,
        d_v: &mut Vec<T>,
        d_sens: &mut Vec<T>,
    ) {
        cascade::rss_output_backward(
            self, shape, sens_maps, mask, x0, u, v, output, d_output, d_u, d_v, d_sens,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn cascade_update_backward(
        &self,
        parameters: &Vec<T>,
        dc_weight: Span,
        u: &Vec<T>,
        v: &Vec<T>,
        d_m: &Vec<T>,
        d_u: &mut Vec<T>,
        d_v: &mut Vec<T>,
        d_m0: &mut Vec<T>,
        d_parameters: &mut Vec<T>,
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
        sens_maps: &Vec<T>,
        mask: &Vec<T>,
        v: &Vec<T>,
        sum: &mut Vec<T>,
    ) {
        cascade::normal_operator(self, shape, sens_maps, mask, v, sum);
    }

    #[allow(clippy::too_many_arguments)]
    fn sens_backward(
        &self,
        shape: ImageShape,
        sens_maps: &Vec<T>,
        mask: &Vec<T>,
        x0: &Vec<T>,
        d_m0: &Vec<T>,
        pairs: &[(&Vec<T>, &Vec<T>)],
        d_sens: &mut Vec<T>,
    ) {
        cascade::sens_backward(self, shape, sens_maps, mask, x0, d_m0, pairs, d_sens);
    }

    fn divide_by_rss_backward(
        &self,
        shape: ImageShape,
        raw: &Vec<T>,
        sens_maps: &Vec<T>,
        d_sens: &mut Vec<T>,
    ) {
        sens::divide_by_rss_backward(self, shape, raw, sens_maps, d_sens);
    }

    fn unet_output_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Vec<T>>,
        moments: &Vec<T>,
        d_image: &Vec<T>,
        d_map: &mut MapGradient<Vec<T>>,
        d_moments: &mut Vec<T>,
    ) {
        unet_io::unet_output_backward(self, shape, map, moments, d_image, d_map, d_moments);
    }

    #[allow(clippy::too_many_arguments)]
    fn conv1x1_backward(
        &self,
        input: &FeatureMap<Vec<T>>,
        parameters: &Vec<T>,
        weight: Span,
        bias: Span,
        output: &FeatureMap<Vec<T>>,
        d_output: &MapGradient<Vec<T>>,
        d_parameters: &mut Vec<T>,
        d_input: &mut MapGradient<Vec<T>>,
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
        input: &FeatureMap<Vec<T>>,
        parameters: &Vec<T>,
        weight: Span,
        output: &FeatureMap<Vec<T>>,
        d_output: &MapGradient<Vec<T>>,
        d_parameters: &mut Vec<T>,
        d_input: &mut MapGradient<Vec<T>>,
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
        input: &FeatureMap<Vec<T>>,
        output: &FeatureMap<Vec<T>>,
        d_output: &MapGradient<Vec<T>>,
        d_input: &mut MapGradient<Vec<T>>,
    ) {
        pool::avg_pool_backward(self, input, output, d_output, d_input);
    }

    #[allow(clippy::too_many_arguments)]
    fn conv3x3_backward(
        &self,
        inputs: &[&FeatureMap<Vec<T>>],
        parameters: &Vec<T>,
        weight: Span,
        output: &FeatureMap<Vec<T>>,
        d_output: &MapGradient<Vec<T>>,
        d_parameters: &mut Vec<T>,
        d_inputs: &mut [Option<InputGradient<'_, Vec<T>>>],
    ) {
        conv::conv3x3_backward(self, inputs, parameters, weight, output, d_output, d_parameters, d_inputs);
    }

    fn unet_input_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<Vec<T>>,
        moments: &Vec<T>,
        d_map: &MapGradient<Vec<T>>,
        d_moments: &Vec<T>,
        d_image: &mut Vec<T>,
    ) {
        unet_io::unet_input_backward(self, shape, map, moments, d_map, d_moments, d_image);
    }

    fn update(
        &self,
        update: Update,
        parameters: &mut Vec<T>,
        mask: Option<&Vec<T>>,
        gradient: &Vec<T>,
        first_moment: &mut Vec<T>,
        second_moment: &mut Vec<T>,
        norm: &mut Vec<T>,
    ) {
        let mask = mask.map(Vec::as_slice);
        let found = update::update(self, update, parameters, mask, gradient, first_moment, second_moment);
        norm[0] = T::real(found);
    }

    fn add_squares(&self, factor: f64, gradient: &Vec<T>, sums: &mut Vec<T>) {
        importance::add_squares(self, factor, gradient, sums);
    }

    fn dampen(&self, dampening: Dampening, forget: &Vec<T>, retain: &Vec<T>, parameters: &mut Vec<T>) {
        importance::dampen(self, dampening, forget, retain, parameters);
    }
}
