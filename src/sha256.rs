//! SHA-256 as text: of bytes, and of numbers wherever they were computed.

use sha2::{Digest, Sha256};

/// A finished digest in hexadecimal.
pub fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds numbers as little-endian float32.
pub fn update(hash: &mut Sha256, values: &[f32]) {
    if cfg!(target_endian = "little") {
        hash.update(bytemuck::cast_slice::<f32, u8>(values));
    } else {
        values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
}

/// Of a network's parameters, flat in the layout's order, as little-endian float32.
pub fn of_parameters(parameters: &[f32]) -> String {
    let mut hash = Sha256::new();
    update(&mut hash, parameters);
    hex(hash)
}
