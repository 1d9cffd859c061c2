//! Complex numbers as HDF5 files hold them: compounds of two floats, mostly h5py's complex64.

use hdf5_pure::{Datatype, DatatypeByteOrder, FloatingPointLayout};
use num_complex::Complex32;

pub(super) fn all_finite(values: &[f32]) -> bool {
    // The exponent is all ones exactly in NaN and infinity; without an early exit the loop vectorises.
    const EXPONENT: u32 = 0x7f80_0000;
    values.iter().fold(true, |finite, value| finite & (value.to_bits() & EXPONENT != EXPONENT))
}

/// Where real and imaginary part lie in an element, and in what format.
pub(super) struct ComplexLayout {
    /// Bytes of one element.
    pub size: usize,
    real: FloatField,
    imaginary: FloatField,
}

#[derive(Clone, Copy, PartialEq)]
struct FloatField {
    offset: usize,
    double: bool,
    big_endian: bool,
}

impl ComplexLayout {
    /// `None` if these are not complex numbers.
    pub fn of(datatype: &Datatype) -> Option<Self> {
        let Datatype::Compound { size, members } = datatype else { return None };
        // h5py's names first; `real`, `imag` are what MATLAB and some converters write.
        let member = |names: [&str; 2]| {
            let member = members.iter().find(|member| names.contains(&member.name.as_str()))?;
            let offset = usize::try_from(member.byte_offset).ok()?;
            FloatField::of(&member.datatype, offset).filter(|field| field.end() <= *size as usize)
        };
        let (real, imaginary) = (member(["r", "real"])?, member(["i", "imag"])?);
        (members.len() == 2).then_some(Self { size: *size as usize, real, imaginary })
    }

    /// Whether elements lie in the file as `Complex32` lies in memory.
    pub fn is_native(&self) -> bool {
        let plain = |offset| FloatField { offset, double: false, big_endian: cfg!(target_endian = "big") };
        self.size == 8 && self.real == plain(0) && self.imaginary == plain(4)
    }

    /// The numbers in `bytes`, which are whole elements.
    pub fn decode(&self, bytes: &[u8]) -> Vec<Complex32> {
        if self.is_native() {
            let mut values = vec![Complex32::ZERO; bytes.len() / 8];
            bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
            return values;
        }
        bytes
            .chunks_exact(self.size)
            .map(|element| Complex32::new(self.real.decode(element), self.imaginary.decode(element)))
            .collect()
    }
}

impl FloatField {
    fn of(datatype: &Datatype, offset: usize) -> Option<Self> {
        let Datatype::FloatingPoint { size, byte_order, layout } = datatype else { return None };
        let double = match (*size, *layout) {
            (4, FloatingPointLayout::IEEE754_BINARY32) => false,
            (8, FloatingPointLayout::IEEE754_BINARY64) => true,
            _ => return None,
        };
        let big_endian = match byte_order {
            DatatypeByteOrder::LittleEndian => false,
            DatatypeByteOrder::BigEndian => true,
            _ => return None,
        };
        Some(Self { offset, double, big_endian })
    }

    fn end(self) -> usize {
        self.offset + if self.double { 8 } else { 4 }
    }

    fn decode(self, element: &[u8]) -> f32 {
        fn bytes<const N: usize>(field: FloatField, element: &[u8]) -> [u8; N] {
            let mut bytes = [0; N];
            bytes.copy_from_slice(&element[field.offset..field.offset + N]);
            if field.big_endian {
                bytes.reverse();
            }
            bytes
        }
        if self.double {
            f64::from_le_bytes(bytes(self, element)) as f32
        } else {
            f32::from_le_bytes(bytes(self, element))
        }
    }
}
