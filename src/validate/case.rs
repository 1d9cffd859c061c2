//! Cases: an operation at a shape. A table of them by hand, and as many as one likes at random.

use std::fmt::Display;

use super::cases::{
    announce, cascade, conv, conv_transpose, conv1x1, crop_to_target, fft, importance, loss, memory, noise,
    pool, rss_output, sens, sens_backward, unet_io, update,
};
use super::checked::Checked;
use super::family::Family;
use super::random::Random;
use super::rig::Rig;
use crate::backend::ImageShape;

macro_rules! families {
    ($($family:ident: $path:ty, weight $weight:literal;)*) => {
        /// A case of any family. Its name, which starts with the operation's, says all that there is to say of it.
        #[derive(Clone, Copy, Debug)]
        pub enum Case {
            $($family($path),)*
        }

        impl Case {
            /// The cases written by hand.
            pub fn table() -> Vec<Self> {
                let mut cases = Vec::new();
                $(cases.extend(<$path>::table().into_iter().map(Self::$family));)*
                cases
            }

            /// The shapes of the paper's network.
            pub fn paper() -> Vec<Self> {
                let mut cases = Vec::new();
                $(cases.extend(<$path>::paper().into_iter().map(Self::$family));)*
                cases
            }

            /// Weights are about the number of a family's operations.
            fn random(random: &mut Random) -> Self {
                let mut at = random.size(1, 0 $(+ $weight)*);
                $(
                    if at <= $weight {
                        return Self::$family(<$path>::random(random));
                    }
                    at -= $weight;
                )*
                unreachable!("{at} is beyond all weights")
            }

            pub fn images(&self) -> Option<ImageShape> {
                match self {
                    $(Self::$family(case) => case.images(),)*
                }
            }

            pub fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
                match self {
                    $(Self::$family(case) => case.run(rig),)*
                }
            }
        }

        impl Display for Case {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$family(case) => case.fmt(f),)*
                }
            }
        }
    };
}

families! {
    Memory: memory::Memory, weight 2;
    Ifft2c: fft::Ifft2c, weight 2;
    UnetIo: unet_io::UnetIo, weight 4;
    Conv: conv::Conv, weight 6;
    Announce: announce::Announce, weight 2;
    Pool: pool::Pool, weight 2;
    ConvTranspose: conv_transpose::ConvTranspose, weight 3;
    Conv1x1: conv1x1::Conv1x1, weight 2;
    Sens: sens::Sens, weight 3;
    Cascade: cascade::Cascade, weight 4;
    RssOutput: rss_output::RssOutput, weight 2;
    SensBackward: sens_backward::SensBackward, weight 1;
    Noise: noise::Noise, weight 1;
    Loss: loss::Loss, weight 2;
    Adam: update::Adam, weight 2;
    CropToTarget: crop_to_target::CropToTarget, weight 1;
    Importance: importance::Importance, weight 2;
}

impl Case {
    /// The name's first word.
    pub fn operation(&self) -> String {
        let name = self.to_string();
        name.split(' ').next().unwrap_or_default().to_string()
    }

    /// Cases at random: the same number and seed give the same cases.
    pub fn random_cases(number: usize, seed: u64) -> Vec<Self> {
        let mut random = Random::seeded(seed);
        (0..number).map(|_| Self::random(&mut random)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_names_one_case() {
        let all = Case::table().into_iter().chain(Case::paper());
        let names: Vec<String> = all.map(|case| case.to_string()).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn random_cases_can_be_drawn_again() {
        let names = |seed| Case::random_cases(100, seed).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(3), names(3));
        assert_ne!(names(3), names(4));
    }
}
