//! E2E-VarNet (Sriram et al. 2020) in its normal-operator form, forward and backward, against any backend.

pub mod architecture;
pub mod norm_unet;
pub mod varnet;
pub mod weights;

pub use architecture::{Architecture, ParameterInfo, ParameterLayout};
pub use varnet::VarNet;
pub use weights::Weights;
