//! The two 16-bit number formats, and how numbers become their bits.

use std::borrow::Cow;
use std::fmt;

use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt};
use half::{bf16, f16};

use super::arch::Arch;
use crate::model::DenseValues;

/// The number format of a GPU's 16-bit matrices. Their memory is `u16` to the host; the format says what the bits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfFormat {
    /// bfloat16: f32's range, 8 bits of mantissa. GPUs have it from Ampere on.
    Bf16,
    /// IEEE half precision: up to 65504, 11 bits of mantissa.
    F16,
}

/// Numbers that are converted at a time on their way from one 16-bit format to the other.
const BLOCK: usize = 4096;

impl HalfFormat {
    /// The format that a GPU of this generation computes in where nothing else is asked for.
    #[must_use]
    pub fn of(arch: Arch) -> Self {
        if arch.number >= 80 {
            Self::Bf16
        } else {
            Self::F16
        }
    }

    /// Writes the bits of the nearest numbers, ties to even; what is beyond the range becomes infinite.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn round_into(self, values: &[f32], bits: &mut [u16]) {
        match self {
            Self::Bf16 => bits
                .reinterpret_cast_mut::<bf16>()
                .convert_from_f32_slice(values),
            Self::F16 => bits
                .reinterpret_cast_mut::<f16>()
                .convert_from_f32_slice(values),
        }
    }

    /// The bits of the nearest numbers, as [`Self::round_into`].
    #[must_use]
    pub fn round(self, values: &[f32]) -> Vec<u16> {
        let mut bits = vec![0; values.len()];
        self.round_into(values, &mut bits);
        bits
    }

    /// Writes what bits stand for.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn widen_into(self, bits: &[u16], values: &mut [f32]) {
        match self {
            Self::Bf16 => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(values),
            Self::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(values),
        }
    }

    /// What bits stand for.
    #[must_use]
    pub fn widen(self, bits: &[u16]) -> Vec<f32> {
        let mut values = vec![0.0; bits.len()];
        self.widen_into(bits, &mut values);
        values
    }

    /// A frozen matrix's bits; those that it was stored with where it has this format.
    #[must_use]
    pub fn bits_of(self, values: &DenseValues) -> Cow<'_, [u16]> {
        if let Some(bits) = self.stored_bits(values) {
            return Cow::Borrowed(bits);
        }
        let mut bits = vec![0; values.len()];
        self.convert_into(values, &mut bits);
        Cow::Owned(bits)
    }

    /// Writes a frozen matrix's bits.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn bits_into(self, values: &DenseValues, bits: &mut [u16]) {
        match self.stored_bits(values) {
            Some(stored) => bits.copy_from_slice(stored),
            None => self.convert_into(values, bits),
        }
    }

    fn stored_bits(self, values: &DenseValues) -> Option<&[u16]> {
        match (self, values) {
            (Self::Bf16, DenseValues::Bf16(values)) => Some(values.reinterpret_cast()),
            (Self::F16, DenseValues::F16(values)) => Some(values.reinterpret_cast()),
            (Self::Bf16, DenseValues::F16(_) | DenseValues::F32(_))
            | (Self::F16, DenseValues::Bf16(_) | DenseValues::F32(_)) => None,
        }
    }

    fn convert_into(self, values: &DenseValues, bits: &mut [u16]) {
        match values {
            DenseValues::F32(values) => self.round_into(values, bits),
            DenseValues::F16(values) => self.through_f32(values, bits),
            DenseValues::Bf16(values) => self.through_f32(values, bits),
        }
    }

    fn through_f32<T>(self, values: &[T], bits: &mut [u16])
    where
        [T]: HalfFloatSliceExt,
    {
        assert_eq!(values.len(), bits.len(), "bits for each number");
        let mut wide = vec![0.0; BLOCK.min(values.len())];
        for (values, bits) in values.chunks(BLOCK).zip(bits.chunks_mut(BLOCK)) {
            let wide = &mut wide[..values.len()];
            values.convert_to_f32_slice(wide);
            self.round_into(wide, bits);
        }
    }
}

/// As recipes name it.
impl fmt::Display for HalfFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bf16 => "bf16",
            Self::F16 => "fp16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_what_its_generation_has() {
        let formats = Arch::TESTED.map(|arch| HalfFormat::of(arch).to_string());
        assert_eq!(formats, ["fp16", "bf16", "bf16", "bf16", "bf16"]);
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_of_their_format() {
        let values = [1.0, 1.0 + 1.0 / 512.0, 70_000.0, -1e-9];
        assert_eq!(
            HalfFormat::Bf16.widen(&HalfFormat::Bf16.round(&values)),
            [1.0, 1.0, 70_144.0, bf16::from_f32(-1e-9).to_f32()]
        );
        assert_eq!(
            HalfFormat::F16.widen(&HalfFormat::F16.round(&values)),
            [1.0, 1.0 + 1.0 / 512.0, f32::INFINITY, -0.0]
        );
    }

    #[test]
    fn a_matrix_keeps_its_bits_in_its_own_format_and_is_rounded_into_the_other() {
        let numbers: Vec<f32> = (0..2 * BLOCK + 3).map(|i| (i as f32).sin()).collect();
        let stored = [
            DenseValues::F32(numbers.clone()),
            DenseValues::F16(numbers.iter().map(|&v| f16::from_f32(v)).collect()),
            DenseValues::Bf16(numbers.iter().map(|&v| bf16::from_f32(v)).collect()),
        ];
        for values in &stored {
            for format in [HalfFormat::Bf16, HalfFormat::F16] {
                let wide: Vec<f32> = match values {
                    DenseValues::F32(values) => values.clone(),
                    DenseValues::F16(values) => values.iter().map(|v| v.to_f32()).collect(),
                    DenseValues::Bf16(values) => values.iter().map(|v| v.to_f32()).collect(),
                };
                let expected = format.round(&wide);
                assert_eq!(*format.bits_of(values), expected);
                let mut bits = vec![7; numbers.len()];
                format.bits_into(values, &mut bits);
                assert_eq!(bits, expected);
            }
        }
    }
}
