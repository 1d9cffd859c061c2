//! Which parameters a VarNet has: names, shapes and order as in fastMRI's `VarNet.state_dict()`, their place in the
//! flat buffer, their initial values, and the way back from names and shapes to the architecture.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::backend::Span;
use crate::error::{Error, Result};

/// The numbers that define a VarNet. Defaults: the paper's network, 29.9 M parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    pub cascades: usize,
    /// Channels of the first level of each cascade's U-Net; doubled at every level below.
    pub chans: usize,
    /// Levels below the first.
    pub pools: usize,
    pub sens_chans: usize,
    pub sens_pools: usize,
}

impl Default for Architecture {
    fn default() -> Self {
        Self { cascades: 12, chans: 18, pools: 4, sens_chans: 8, sens_pools: 4 }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cascades, chans, pools, sens_chans, sens_pools } = self;
        write!(
            f,
            "{cascades} cascades, chans {chans}, pools {pools}, sens_chans {sens_chans}, sens_pools {sens_pools}"
        )
    }
}

/// One parameter of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterInfo {
    pub name: String,
    pub shape: Vec<usize>,
    pub span: Span,
}

/// All parameters in order, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterLayout {
    pub parameters: Vec<ParameterInfo>,
}

/// Where the weights of one ConvBlock lie: fastMRI's `layers.0` and `layers.4`.
pub type ConvBlockSpans = [Span; 2];

/// Where the parameters of one U-Net lie.
#[derive(Clone, Debug)]
pub struct UnetSpans {
    /// From the first level down; `pools` of them.
    pub down: Vec<ConvBlockSpans>,
    pub bottom: ConvBlockSpans,
    /// From the deepest level up; `pools` of them.
    pub up: Vec<ConvBlockSpans>,
    pub up_transpose: Vec<Span>,
    pub head_weight: Span,
    pub head_bias: Span,
}

/// Where the parameters of the whole network lie.
#[derive(Clone, Debug)]
pub struct VarNetSpans {
    pub sens_net: UnetSpans,
    /// `dc_weight` and U-Net of each cascade.
    pub cascades: Vec<(Span, UnetSpans)>,
}

impl ParameterLayout {
    /// Number of reals in the flat buffer.
    pub fn len(&self) -> usize {
        self.parameters.last().map_or(0, |p| p.span.offset + p.span.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, name: String, shape: Vec<usize>) -> Span {
        let span = Span { offset: self.len(), len: shape.iter().product() };
        self.parameters.push(ParameterInfo { name, shape, span });
        span
    }

    fn conv_block(&mut self, prefix: &str, inputs: usize, outputs: usize) -> ConvBlockSpans {
        [
            self.add(format!("{prefix}.layers.0.weight"), vec![outputs, inputs, 3, 3]),
            self.add(format!("{prefix}.layers.4.weight"), vec![outputs, outputs, 3, 3]),
        ]
    }

    /// fastMRI's `Unet(in_chans=2, out_chans=2, chans, num_pool_layers=pools)`.
    fn unet(&mut self, prefix: &str, chans: usize, pools: usize) -> UnetSpans {
        let width = |level: usize| chans << level;
        let down = (0..pools)
            .map(|level| {
                let inputs = if level == 0 { 2 } else { width(level - 1) };
                self.conv_block(&format!("{prefix}.down_sample_layers.{level}"), inputs, width(level))
            })
            .collect();
        let bottom = self.conv_block(&format!("{prefix}.conv"), width(pools - 1), width(pools));
        let mut up = Vec::new();
        for (i, level) in (0..pools).rev().enumerate() {
            let last = if level == 0 { ".0" } else { "" };
            up.push(self.conv_block(&format!("{prefix}.up_conv.{i}{last}"), width(level + 1), width(level)));
        }
        let head = format!("{prefix}.up_conv.{}.1", pools - 1);
        let head_weight = self.add(format!("{head}.weight"), vec![2, chans, 1, 1]);
        let head_bias = self.add(format!("{head}.bias"), vec![2]);
        let up_transpose = (0..pools)
            .rev()
            .enumerate()
            .map(|(i, level)| {
                let shape = vec![width(level + 1), width(level), 2, 2];
                self.add(format!("{prefix}.up_transpose_conv.{i}.layers.0.weight"), shape)
            })
            .collect();
        UnetSpans { down, bottom, up, up_transpose, head_weight, head_bias }
    }
}

impl Architecture {
    /// Errors where a number is zero or absurd.
    pub fn check(&self) -> Result<()> {
        let Self { cascades, chans, pools, sens_chans, sens_pools } = *self;
        for (name, value, most) in [
            ("cascades", cascades, 1000),
            ("chans", chans, 4096),
            ("pools", pools, 10),
            ("sens_chans", sens_chans, 4096),
            ("sens_pools", sens_pools, 10),
        ] {
            if value == 0 || value > most {
                return Err(Error::input(format!("{name} must be between 1 and {most}, got {value}")));
            }
        }
        Ok(())
    }

    /// The parameters in fastMRI's order, and where each part of the network finds its own.
    pub fn layout(&self) -> (ParameterLayout, VarNetSpans) {
        let mut layout = ParameterLayout::default();
        let sens_net = layout.unet("sens_net.norm_unet.unet", self.sens_chans, self.sens_pools);
        let cascades = (0..self.cascades)
            .map(|t| {
                let dc_weight = layout.add(format!("cascades.{t}.dc_weight"), vec![1]);
                (dc_weight, layout.unet(&format!("cascades.{t}.model.unet"), self.chans, self.pools))
            })
            .collect();
        (layout, VarNetSpans { sens_net, cascades })
    }

    /// PyTorch's default initial values: uniform within 1/√fan_in (for a transposed convolution PyTorch counts its
    /// outputs), dc_weight 1. The values are kerase's own random numbers, not PyTorch's.
    pub fn initial_parameters(&self, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (layout, _) = self.layout();
        let mut values = Vec::with_capacity(layout.len());
        let mut fan_in = 1;
        for ParameterInfo { name, shape, span } in &layout.parameters {
            if name.ends_with("dc_weight") {
                values.push(1.0);
                continue;
            }
            // A bias has no fan-in of its own: it follows its weight.
            if shape.len() > 1 {
                fan_in = shape[1..].iter().product();
            }
            let bound = (fan_in as f64).sqrt().recip() as f32;
            values.extend((0..span.len).map(|_| rng.random_range(-bound..bound)));
        }
        values
    }

    /// The architecture that has exactly these parameters (name and shape, in any order).
    ///
    /// # Errors
    /// Where there is none: says which parameter is missing, surplus or of another shape.
    pub fn infer(parameters: &[(String, Vec<usize>)]) -> Result<Self> {
        let shape_of = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, shape)| shape);
        let count = |prefix: &str| {
            let index = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
            parameters.iter().filter_map(|(name, _)| index(name)).max().map_or(0, |max| max + 1)
        };
        let first = |prefix: &str| {
            let name = format!("{prefix}.down_sample_layers.0.layers.0.weight");
            shape_of(&name).and_then(|s| s.first().copied()).ok_or_else(|| {
                Error::input(format!(
                    "not an E2E-VarNet: there is no {name} among its {} parameters; expected the names of \
                     fastmri.models.VarNet (scripts/convert_checkpoint.py strips a Lightning prefix)",
                    parameters.len()
                ))
            })
        };
        let (sens, cascade) = ("sens_net.norm_unet.unet", "cascades.0.model.unet");
        let architecture = Self {
            cascades: count("cascades."),
            chans: first(cascade)?,
            pools: count(&format!("{cascade}.down_sample_layers.")),
            sens_chans: first(sens)?,
            sens_pools: count(&format!("{sens}.down_sample_layers.")),
        };
        architecture.check()?;
        let (layout, _) = architecture.layout();
        for ParameterInfo { name, shape, .. } in &layout.parameters {
            match shape_of(name) {
                Some(found) if found == shape => {}
                Some(found) => {
                    return Err(Error::input(format!(
                        "{name} has shape {found:?}, but a VarNet of {architecture} has {shape:?} there"
                    )));
                }
                None => {
                    return Err(Error::input(format!(
                        "a VarNet of {architecture} needs {name}, which is missing"
                    )));
                }
            }
        }
        let surplus = parameters.iter().find(|(name, _)| layout.parameters.iter().all(|p| &p.name != name));
        match surplus {
            Some((name, _)) => {
                Err(Error::input(format!("a VarNet of {architecture} has no parameter {name}")))
            }
            None => Ok(architecture),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(architecture: &Architecture) -> Vec<(String, Vec<usize>)> {
        architecture.layout().0.parameters.into_iter().map(|p| (p.name, p.shape)).collect()
    }

    #[test]
    fn the_papers_network_has_its_parameters() {
        // sum(p.numel() for p in fastmri.models.VarNet(12, 8, 4, 18, 4).parameters())
        assert_eq!(Architecture::default().layout().0.len(), 29_936_966);
    }

    #[test]
    fn names_and_shapes_lead_back_to_the_architecture() {
        for architecture in [
            Architecture::default(),
            Architecture { cascades: 1, chans: 2, pools: 1, sens_chans: 3, sens_pools: 2 },
            Architecture { cascades: 11, chans: 5, pools: 5, sens_chans: 2, sens_pools: 1 },
        ] {
            let mut parameters = named(&architecture);
            parameters.reverse();
            assert_eq!(Architecture::infer(&parameters).unwrap(), architecture);
        }
    }

    #[test]
    fn what_is_no_varnet_is_refused() {
        let good = named(&Architecture { cascades: 2, chans: 4, pools: 2, sens_chans: 2, sens_pools: 2 });
        let message =
            |parameters: &[(String, Vec<usize>)]| Architecture::infer(parameters).unwrap_err().to_string();

        assert!(message(&[]).contains("not an E2E-VarNet"));
        let mut missing = good.clone();
        missing.retain(|(name, _)| name != "cascades.1.dc_weight");
        assert!(message(&missing).contains("cascades.1.dc_weight, which is missing"));
        let mut reshaped = good.clone();
        reshaped.iter_mut().find(|(n, _)| n.ends_with("conv.layers.4.weight")).unwrap().1[0] = 9;
        assert!(message(&reshaped).contains("[9, "));
        let mut surplus = good;
        surplus.push(("loss.w".into(), vec![7]));
        assert!(message(&surplus).contains("no parameter loss.w"));
    }

    #[test]
    fn initial_values_are_bounded_by_fan_in_and_seeded() {
        let architecture = Architecture { cascades: 1, chans: 4, pools: 2, sens_chans: 2, sens_pools: 2 };
        let values = architecture.initial_parameters(1);
        assert_eq!(values, architecture.initial_parameters(1));
        assert_ne!(values, architecture.initial_parameters(2));
        let (layout, spans) = architecture.layout();
        assert_eq!(values.len(), layout.len());
        assert_eq!(values[spans.cascades[0].0.offset], 1.0);
        let transposed = &values[spans.cascades[0].1.up_transpose[0].range()];
        let bound = (1.0 / (8.0f32 * 4.0)).sqrt();
        let largest = transposed.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!(largest <= bound && largest > 0.95 * bound, "{largest} against {bound}");
    }
}
