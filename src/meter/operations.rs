//! Each operation, handed on through the meter with what it is called, its shape and its cost.

use std::sync::atomic::Ordering;

use super::cost::Cost;
use super::{Metered, cost};
use crate::backend::*;
use crate::error::Result;

fn coil_images(shape: ImageShape) -> String {
    let ImageShape { n, coils, rows, columns } = shape;
    format!("n{n} c{coils} {rows}x{columns}")
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

#[allow(clippy::too_many_arguments)]
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

    fn finish(&self) -> Result<()> {
        self.settle()
    }

    fn mark(&self) -> O::Mark {
        self.ops.mark()
    }

    fn seconds(&self, from: &O::Mark, to: &O::Mark) -> f64 {
        self.ops.seconds(from, to)
    }

    fn in_one_block<R>(&self, build: impl Fn() -> Result<R>) -> Result<R> {
        self.ops.in_one_block(build)
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

    fn clear(&self, buffer: &mut O::Buffer) {
        let len = self.ops.len(buffer);
        self.meter("clear", format!("{len} reals"), cost::clear(len), |ops| ops.clear(buffer));
    }

    fn copy_part(
        &self,
        from: &O::Buffer,
        from_offset: usize,
        to: &mut O::Buffer,
        to_offset: usize,
        len: usize,
    ) {
        let cost = cost::copy(len);
        self.meter("copy_part", format!("{len} reals"), cost, |ops| {
            ops.copy_part(from, from_offset, to, to_offset, len);
        });
    }

    fn ifft2c(&self, shape: ImageShape, kspace: &O::Buffer, columns: &O::Buffer, images: &mut O::Buffer) {
        let cost = cost::ifft2c(shape);
        self.meter("ifft2c", coil_images(shape), cost, |ops| ops.ifft2c(shape, kspace, columns, images));
    }

    fn unet_input(
        &self,
        shape: ImageShape,
        image: &O::Buffer,
        map: &mut FeatureMap<O::Buffer>,
        moments: &mut O::Buffer,
    ) {
        let cost = cost::unet_input(self.precision, shape, map.shape);
        self.meter("unet_input", map_of(&map.shape), cost, |ops| ops.unet_input(shape, image, map, moments));
    }

    /// What is made ahead is work that a pass could do without: its floor is none.
    fn announce(&self, parameters: &O::Buffer, convolutions: &[Convolution]) {
        let layers = format!("{} layers", convolutions.len());
        if !self.preparing.load(Ordering::Relaxed) {
            self.notes().ledger.announce(convolutions);
        }
        self.meter("announce", layers, Cost::default(), |ops| ops.announce(parameters, convolutions));
    }

    fn conv3x3(
        &self,
        inputs: &[&FeatureMap<O::Buffer>],
        parameters: &O::Buffer,
        weight: Span,
        output: &mut FeatureMap<O::Buffer>,
    ) {
        let cost = cost::conv3x3(self.precision, &shapes(inputs), output.shape, weight.len);
        self.meter("conv3x3", layer(&shapes(inputs), output.shape), cost, |ops| {
            ops.conv3x3(inputs, parameters, weight, output)
        });
    }

    fn avg_pool(&self, input: &FeatureMap<O::Buffer>, output: &mut FeatureMap<O::Buffer>) {
        let cost = cost::avg_pool(self.precision, input.shape, output.shape);
        self.meter("avg_pool", map_of(&input.shape), cost, |ops| ops.avg_pool(input, output));
    }

    fn conv_transpose(
        &self,
        input: &FeatureMap<O::Buffer>,
        parameters: &O::Buffer,
        weight: Span,
        output: &mut FeatureMap<O::Buffer>,
    ) {
        let cost = cost::conv_transpose(self.precision, input.shape, output.shape, weight.len);
        self.meter("conv_transpose", layer(&[input.shape], output.shape), cost, |ops| {
            ops.conv_transpose(input, parameters, weight, output)
        });
    }

    fn conv1x1(
        &self,
        input: &FeatureMap<O::Buffer>,
        parameters: &O::Buffer,
        weight: Span,
        bias: Span,
        output: &mut FeatureMap<O::Buffer>,
    ) {
        let cost = cost::conv1x1(self.precision, input.shape, output.shape, weight.len);
        self.meter("conv1x1", layer(&[input.shape], output.shape), cost, |ops| {
            ops.conv1x1(input, parameters, weight, bias, output)
        });
    }

    fn unet_output(
        &self,
        shape: ImageShape,
        map: &FeatureMap<O::Buffer>,
        moments: &O::Buffer,
        image: &mut O::Buffer,
    ) {
        let cost = cost::unet_output(self.precision, shape, map.shape);
        self.meter("unet_output", map_of(&map.shape), cost, |ops| {
            ops.unet_output(shape, map, moments, image)
        });
    }

    fn divide_by_rss(&self, shape: ImageShape, raw: &O::Buffer, sens_maps: &mut O::Buffer) {
        let cost = cost::divide_by_rss(shape);
        self.meter("divide_by_rss", coil_images(shape), cost, |ops| ops.divide_by_rss(shape, raw, sens_maps));
    }

    fn sens_reduce(
        &self,
        shape: ImageShape,
        sens_maps: &O::Buffer,
        images: &O::Buffer,
        combined: &mut O::Buffer,
    ) {
        let cost = cost::sens_reduce(shape);
        self.meter("sens_reduce", coil_images(shape), cost, |ops| {
            ops.sens_reduce(shape, sens_maps, images, combined)
        });
    }

    fn cascade_input(
        &self,
        shape: ImageShape,
        sens_maps: &O::Buffer,
        mask: &O::Buffer,
        m0: &O::Buffer,
        u: &O::Buffer,
        v: &O::Buffer,
        m: &mut O::Buffer,
    ) {
        let cost = cost::cascade_input(shape);
        self.meter("cascade_input", coil_images(shape), cost, |ops| {
            ops.cascade_input(shape, sens_maps, mask, m0, u, v, m)
        });
    }

    fn cascade_dc(
        &self,
        parameters: &O::Buffer,
        dc_weight: Span,
        u: &O::Buffer,
        v: &O::Buffer,
        v_out: &mut O::Buffer,
    ) {
        let len = self.ops.len(u);
        self.meter("cascade_dc", format!("{len} reals"), cost::cascade_dc(len), |ops| {
            ops.cascade_dc(parameters, dc_weight, u, v, v_out)
        });
    }

    fn cascade_update(&self, r: &O::Buffer, u: &O::Buffer, u_out: &mut O::Buffer, m: Option<&mut O::Buffer>) {
        let len = self.ops.len(u);
        let cost = cost::cascade_update(len, m.is_some());
        self.meter("cascade_update", format!("{len} reals"), cost, |ops| ops.cascade_update(r, u, u_out, m));
    }

    fn rss_output(
        &self,
        shape: ImageShape,
        sens_maps: &O::Buffer,
        mask: &O::Buffer,
        x0: &O::Buffer,
        u: &O::Buffer,
        v: &O::Buffer,
        output: &mut O::Buffer,
    ) {
        let cost = cost::rss_output(shape);
        self.meter("rss_output", coil_images(shape), cost, |ops| {
            ops.rss_output(shape, sens_maps, mask, x0, u, v, output)
        });
    }

    fn crop_to_target(&self, shape: LossShape, output: &O::Buffer, target: &mut O::Buffer) {
        let [height, width] = shape.crop();
        let name = format!("n{} {height}x{width}", shape.n);
        self.meter("crop_to_target", name, cost::crop_to_target(shape), |ops| {
            ops.crop_to_target(shape, output, target);
        });
    }

    fn label_noise(&self, noise: LabelNoise, first: usize, len: usize, target: &mut O::Buffer) {
        let cost = cost::label_noise(len);
        self.meter("label_noise", format!("{len} reals"), cost, |ops| {
            ops.label_noise(noise, first, len, target)
        });
    }

    fn image_loss(
        &self,
        shape: LossShape,
        weights: LossWeights,
        scale: f64,
        output: &O::Buffer,
        target: &O::Buffer,
        max_value: &O::Buffer,
        losses: &mut O::Buffer,
        d_output: &mut O::Buffer,
    ) {
        let cost = cost::image_loss(shape);
        self.meter(
            "image_loss",
            format!("n{} {}x{}", shape.n, shape.output[0], shape.output[1]),
            cost,
            |ops| ops.image_loss(shape, weights, scale, output, target, max_value, losses, d_output),
        );
    }

    fn rss_output_backward(
        &self,
        shape: ImageShape,
        sens_maps: &O::Buffer,
        mask: &O::Buffer,
        x0: &O::Buffer,
        u: &O::Buffer,
        v: &O::Buffer,
        output: &O::Buffer,
        d_output: &O::Buffer,
        d_u: &mut O::Buffer,
        d_v: &mut O::Buffer,
        d_sens: &mut O::Buffer,
    ) {
        let cost = cost::rss_output_backward(shape);
        self.meter("rss_output_backward", coil_images(shape), cost, |ops| {
            ops.rss_output_backward(shape, sens_maps, mask, x0, u, v, output, d_output, d_u, d_v, d_sens)
        });
    }

    fn cascade_update_backward(
        &self,
        parameters: &O::Buffer,
        dc_weight: Span,
        u: &O::Buffer,
        v: &O::Buffer,
        d_m: &O::Buffer,
        d_u: &mut O::Buffer,
        d_v: &mut O::Buffer,
        d_m0: &mut O::Buffer,
        d_parameters: &mut O::Buffer,
    ) {
        let len = self.ops.len(u);
        let cost = cost::cascade_update_backward(len);
        self.meter("cascade_update_backward", format!("{len} reals"), cost, |ops| {
            ops.cascade_update_backward(parameters, dc_weight, u, v, d_m, d_u, d_v, d_m0, d_parameters)
        });
    }

    fn normal_operator(
        &self,
        shape: ImageShape,
        sens_maps: &O::Buffer,
        mask: &O::Buffer,
        v: &O::Buffer,
        sum: &mut O::Buffer,
    ) {
        let cost = cost::normal_operator(shape);
        self.meter("normal_operator", coil_images(shape), cost, |ops| {
            ops.normal_operator(shape, sens_maps, mask, v, sum)
        });
    }

    fn sens_backward(
        &self,
        shape: ImageShape,
        sens_maps: &O::Buffer,
        mask: &O::Buffer,
        x0: &O::Buffer,
        d_m0: &O::Buffer,
        pairs: &[(&O::Buffer, &O::Buffer)],
        d_sens: &mut O::Buffer,
    ) {
        let cost = cost::sens_backward(shape, pairs.len());
        self.meter("sens_backward", format!("{}, {} pairs", coil_images(shape), pairs.len()), cost, |ops| {
            ops.sens_backward(shape, sens_maps, mask, x0, d_m0, pairs, d_sens)
        });
    }

    fn divide_by_rss_backward(
        &self,
        shape: ImageShape,
        raw: &O::Buffer,
        sens_maps: &O::Buffer,
        d_sens: &mut O::Buffer,
    ) {
        let cost = cost::divide_by_rss_backward(shape);
        self.meter("divide_by_rss_backward", coil_images(shape), cost, |ops| {
            ops.divide_by_rss_backward(shape, raw, sens_maps, d_sens)
        });
    }

    fn unet_output_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<O::Buffer>,
        moments: &O::Buffer,
        d_image: &O::Buffer,
        d_map: &mut MapGradient<O::Buffer>,
        d_moments: &mut O::Buffer,
    ) {
        let cost = cost::unet_output_backward(self.precision, shape, map.shape);
        self.meter("unet_output_backward", map_of(&map.shape), cost, |ops| {
            ops.unet_output_backward(shape, map, moments, d_image, d_map, d_moments)
        });
    }

    fn conv1x1_backward(
        &self,
        input: &FeatureMap<O::Buffer>,
        parameters: &O::Buffer,
        weight: Span,
        bias: Span,
        output: &FeatureMap<O::Buffer>,
        d_output: &MapGradient<O::Buffer>,
        d_parameters: &mut O::Buffer,
        d_input: &mut MapGradient<O::Buffer>,
    ) {
        let cost = cost::conv1x1_backward(self.precision, input.shape, output.shape, weight.len);
        self.meter("conv1x1_backward", layer(&[input.shape], output.shape), cost, |ops| {
            ops.conv1x1_backward(input, parameters, weight, bias, output, d_output, d_parameters, d_input)
        });
    }

    fn conv_transpose_backward(
        &self,
        input: &FeatureMap<O::Buffer>,
        parameters: &O::Buffer,
        weight: Span,
        output: &FeatureMap<O::Buffer>,
        d_output: &MapGradient<O::Buffer>,
        d_parameters: &mut O::Buffer,
        d_input: &mut MapGradient<O::Buffer>,
    ) {
        let cost = cost::conv_transpose_backward(self.precision, input.shape, output.shape, weight.len);
        self.meter("conv_transpose_backward", layer(&[input.shape], output.shape), cost, |ops| {
            ops.conv_transpose_backward(input, parameters, weight, output, d_output, d_parameters, d_input)
        });
    }

    fn avg_pool_backward(
        &self,
        input: &FeatureMap<O::Buffer>,
        output: &FeatureMap<O::Buffer>,
        d_output: &MapGradient<O::Buffer>,
        d_input: &mut MapGradient<O::Buffer>,
    ) {
        let cost = cost::avg_pool_backward(self.precision, input.shape, output.shape);
        self.meter("avg_pool_backward", map_of(&input.shape), cost, |ops| {
            ops.avg_pool_backward(input, output, d_output, d_input)
        });
    }

    fn conv3x3_backward(
        &self,
        inputs: &[&FeatureMap<O::Buffer>],
        parameters: &O::Buffer,
        weight: Span,
        output: &FeatureMap<O::Buffer>,
        d_output: &MapGradient<O::Buffer>,
        d_parameters: &mut O::Buffer,
        d_inputs: &mut [Option<InputGradient<'_, O::Buffer>>],
    ) {
        let wanted: Vec<bool> = d_inputs.iter().map(Option::is_some).collect();
        let cost = cost::conv3x3_backward(self.precision, &shapes(inputs), &wanted, output.shape, weight.len);
        self.meter("conv3x3_backward", layer(&shapes(inputs), output.shape), cost, |ops| {
            ops.conv3x3_backward(inputs, parameters, weight, output, d_output, d_parameters, d_inputs)
        });
    }

    fn unet_input_backward(
        &self,
        shape: ImageShape,
        map: &FeatureMap<O::Buffer>,
        moments: &O::Buffer,
        d_map: &MapGradient<O::Buffer>,
        d_moments: &O::Buffer,
        d_image: &mut O::Buffer,
    ) {
        let cost = cost::unet_input_backward(self.precision, shape, map.shape);
        self.meter("unet_input_backward", map_of(&map.shape), cost, |ops| {
            ops.unet_input_backward(shape, map, moments, d_map, d_moments, d_image)
        });
    }

    fn update(
        &self,
        update: Update,
        parameters: &mut O::Buffer,
        mask: Option<&O::Buffer>,
        gradient: &O::Buffer,
        first_moment: &mut O::Buffer,
        second_moment: &mut O::Buffer,
        norm: &mut O::Buffer,
    ) {
        let len = self.ops.len(gradient);
        let cost = cost::update(len, mask.is_some());
        let masked = if mask.is_some() { " masked" } else { "" };
        self.meter("update", format!("{len} parameters{masked}"), cost, |ops| {
            ops.update(update, parameters, mask, gradient, first_moment, second_moment, norm)
        });
    }

    fn add_squares(&self, factor: f64, gradient: &O::Buffer, sums: &mut O::Buffer) {
        let len = self.ops.len(sums);
        self.meter("add_squares", format!("{len} parameters"), cost::add_squares(len), |ops| {
            ops.add_squares(factor, gradient, sums);
        });
    }

    fn dampen(
        &self,
        dampening: Dampening,
        forget: &O::Buffer,
        retain: &O::Buffer,
        parameters: &mut O::Buffer,
    ) {
        let len = self.ops.len(parameters);
        self.meter("dampen", format!("{len} parameters"), cost::dampen(len), |ops| {
            ops.dampen(dampening, forget, retain, parameters);
        });
    }
}
