//! In and out of the U-Net. A mean is a sum over an image; a normalised value carries the mean's error divided by the
//! deviation, so its scale is the size of the image's numbers relative to their deviation.

use std::fmt;

use super::{PAPER, PAPER_SIZE, pass};
use crate::backend::*;
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::{Random, single};
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Input,
    Output,
    OutputBackward,
    InputBackward,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Input, Self::Output, Self::OutputBackward, Self::InputBackward];
}

#[derive(Clone, Copy, Debug)]
pub struct UnetIo {
    operation: Operation,
    shape: ImageShape,
    /// Height and width of the padded map.
    padded: [usize; 2],
    content: Content,
}

/// What the images are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    /// Both parts have deviations of order 1 and means of the same order.
    Plain,
    /// The real part's mean is ten deviations: what a mean of squares less a squared mean gets wrong.
    FarMean,
    /// The imaginary part of every image is constant: divided by 1.
    Constant,
}
use Content::{Constant, FarMean, Plain};

/// n, coils, rows, columns and the padded size. Coils are no part of these images.
const SHAPES: [([usize; 4], [usize; 2]); 10] = [
    ([1, 1, 2, 1], [16, 16]),
    ([1, 1, 9, 14], [16, 16]),
    ([2, 5, 7, 11], [8, 16]),
    ([3, 1, 8, 23], [8, 32]),
    ([1, 1, 16, 32], [16, 32]),
    ([2, 1, 3, 5], [16, 16]),
    ([1, 3, 100, 33], [112, 48]),
    ([2, 1, 17, 130], [32, 144]),
    ([15, 1, 31, 20], [32, 32]),
    ([1, 1, 320, 64], [320, 64]),
];

impl Family for UnetIo {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for ([n, coils, rows, columns], padded) in SHAPES {
            let shape = ImageShape { n, coils, rows, columns };
            for operation in Operation::ALL {
                cases.push(Self { operation, shape, padded, content: Plain });
                if [9, 100].contains(&rows) {
                    cases.push(Self { operation, shape, padded, content: Constant });
                }
                if operation == Operation::Input && rows > 9 {
                    cases.push(Self { operation, shape, padded, content: FarMean });
                }
            }
        }
        cases
    }

    /// The images of both U-Nets, forward and backward.
    fn paper() -> Vec<Self> {
        let [rows, columns] = PAPER_SIZE;
        let cases = |(n, _)| {
            let shape = ImageShape { n, coils: 1, rows, columns };
            Operation::ALL.map(|operation| Self { operation, shape, padded: PAPER_SIZE, content: Plain })
        };
        PAPER.into_iter().flat_map(cases).collect()
    }

    fn random(random: &mut Random) -> Self {
        let operation = random.one_of(&Operation::ALL);
        let [rows, columns] = [0, 1].map(|_| random.size(2, 90));
        let shape = ImageShape { n: random.size(1, 4), coils: random.size(1, 3), rows, columns };
        Self {
            operation,
            shape,
            padded: [rows, columns].map(|size| size.next_multiple_of(16)),
            content: random.one_of(&[Plain, Plain, Constant]),
        }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        match self.operation {
            Operation::Input => self.input(rig),
            Operation::Output => self.output(rig),
            Operation::OutputBackward => self.output_backward(rig),
            Operation::InputBackward => self.input_backward(rig),
        }
    }
}

impl UnetIo {
    fn map(&self) -> MapShape {
        let [height, width] = self.padded;
        MapShape { n: self.shape.n, channels: 2, height, width }
    }

    /// Mean and deviation of each part of each image, as data and as [`Self::input`] would find them.
    fn moments(&self, random: &mut Random) -> Vec<f64> {
        let part = |i: usize| {
            let mean = random.uniform(-1.0..1.0);
            match self.content {
                FarMean if i.is_multiple_of(2) => [10.0 + mean, 1.0],
                Constant if !i.is_multiple_of(2) => [0.5, 0.0],
                _ => [mean, random.uniform(0.5..1.5)],
            }
        };
        (0..2 * self.shape.n).flat_map(part).collect()
    }

    fn input<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let moments = self.moments(&mut rig.random);
        let image = (0..self.shape.combined())
            .map(|i| {
                let part = i / (2 * self.shape.pixels()) * 2 + i % 2;
                // A uniform number's deviation is 1/√3 of its range.
                let deviation = rig.random.uniform(-1.7..1.7);
                single(moments[2 * part] + moments[2 * part + 1] * deviation)
            })
            .collect();
        let image = rig.input("image", image);
        let mut map = rig.empty_map("map", self.map(), false);
        let mut found = rig.output("moments", moments.len());
        rig.ops().run(operation::UnetInput {
            shape: self.shape,
            image: &image,
            map: &mut map,
            moments: &mut found,
        });
        let far = if self.content == FarMean { 10.0 } else { 1.0 };
        // Whatever the order, many threads add up an image: their sums' errors grow with the logarithm.
        let tolerance = Tolerance::roundings(4.0 + (self.shape.pixels() as f64).log2() / 2.0);
        rig.map_result("map", &map, tolerance.scale(far));
        rig.result("moments", &found, tolerance.scale(far));
        rig.unchanged("image", &image);
    }

    fn output<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let (map, moments) = self.map_and_moments(rig);
        let mut image = rig.output("image", self.shape.combined());
        rig.ops().run(operation::UnetOutput {
            shape: self.shape,
            map: &map,
            moments: &moments,
            image: &mut image,
        });
        rig.result("image", &image, Tolerance::roundings(2.0));
        rig.map_unchanged("map", &map);
        rig.unchanged("moments", &moments);
    }

    fn output_backward<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let (map, moments) = self.map_and_moments(rig);
        let d_image = rig.random.values(self.shape.combined());
        let d_image = rig.input("d_image", d_image);
        let mut d_map = rig.empty_gradient("d_map", self.map(), false);
        let mut d_moments = rig.output("d_moments", 4 * self.shape.n);
        let ops = rig.ops();
        ops.run(operation::UnetOutputBackward {
            shape: self.shape,
            map: &map,
            moments: &moments,
            d_image: &d_image,
            d_map: &mut d_map,
            d_moments: &mut d_moments,
        });
        rig.gradient_result("d_map", &d_map, Tolerance::roundings(1.0));
        // Sums over an image that cancel: their terms' size grows with the root of their number.
        let pixels = self.shape.pixels();
        rig.result("d_moments", &d_moments, Tolerance::sum(pixels).scale((pixels as f64).sqrt() / 3.0));
        rig.all_unchanged(&[("moments", &moments), ("d_image", &d_image)]);
        rig.map_unchanged("map", &map);
    }

    fn input_backward<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let (map, moments) = self.map_and_moments(rig);
        let d_map: MapGradient<B::Buffer> = rig.gradient("d_map", self.map(), false);
        let d_moments = rig.random.values(4 * self.shape.n);
        let d_moments = rig.input("d_moments", d_moments);
        let mut d_image = rig.output("d_image", self.shape.combined());
        rig.ops().run(operation::UnetInputBackward {
            shape: self.shape,
            map: &map,
            moments: &moments,
            d_map: &d_map,
            d_moments: &d_moments,
            d_image: &mut d_image,
        });
        rig.result("d_image", &d_image, Tolerance::roundings(6.0));
        rig.all_unchanged(&[("moments", &moments), ("d_moments", &d_moments)]);
        rig.map_unchanged("map", &map);
        rig.gradient_unchanged("d_map", &d_map);
    }

    /// A map with something in its padding, as the network leaves it.
    fn map_and_moments<B: Checked>(&self, rig: &mut Rig<'_, B>) -> (FeatureMap<B::Buffer>, B::Buffer) {
        let map = rig.map("map", self.map(), false);
        let moments = self.moments(&mut rig.random);
        (map, rig.input("moments", moments))
    }
}

impl fmt::Display for UnetIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, shape: ImageShape { n, coils, rows, columns }, padded, content } = *self;
        let name = match operation {
            Operation::Input | Operation::InputBackward => "unet_input",
            Operation::Output | Operation::OutputBackward => "unet_output",
        };
        let pass = pass(matches!(operation, Operation::OutputBackward | Operation::InputBackward));
        write!(f, "{name}{pass} n{n} c{coils} {rows}x{columns} in {}x{}", padded[0], padded[1])?;
        f.write_str(match content {
            Plain => "",
            FarMean => " far mean",
            Constant => " constant",
        })
    }
}
