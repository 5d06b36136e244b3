//! 16-bit matrices become NF4 on the GPU: the bits that the processors make of them.

use std::path::PathBuf;

use half::{bf16, f16};
use weft_worker::model::loader::{LoadError, LoadOptions, load, load_onto};
use weft_worker::model::{FrozenLinear, Projection, StoredMatrix};
use weft_worker::ops::cuda::{CudaLinear, CudaOptions};
use weft_worker::quant::nf4::{BLOCK, TABLE};
use weft_worker::quant::{Nf4Matrix, StoredDtype};

use crate::support::{golden, gpu, opened, random};

/// A matrix in memory that acts as one in a file.
struct InMemory {
    shape: (usize, usize),
    dtype: StoredDtype,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl InMemory {
    /// These values in 16 bits.
    fn new(shape: (usize, usize), dtype: StoredDtype, values: &[f32]) -> Self {
        let bits = |value: &f32| match dtype {
            StoredDtype::F16 => f16::from_f32(*value).to_bits(),
            StoredDtype::Bf16 | StoredDtype::F32 => bf16::from_f32(*value).to_bits(),
        };
        let widened = |bits: &u16| match dtype {
            StoredDtype::F16 => f16::from_bits(*bits).to_f32(),
            StoredDtype::Bf16 | StoredDtype::F32 => bf16::from_bits(*bits).to_f32(),
        };
        let bits: Vec<u16> = values.iter().map(bits).collect();
        Self {
            shape,
            dtype,
            bytes: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            values: bits.iter().map(widened).collect(),
        }
    }
}

impl StoredMatrix for InMemory {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn dtype(&self) -> StoredDtype {
        self.dtype
    }

    fn read(&self, first: usize, out: &mut [u8]) -> Result<(), LoadError> {
        out.copy_from_slice(&self.bytes[2 * first..][..out.len()]);
        Ok(())
    }

    fn not_finite(&self, value: f32) -> LoadError {
        LoadError::Damaged {
            path: PathBuf::from("memory"),
            problem: format!("it holds {value}"),
        }
    }

    fn quantize(&self) -> Result<Nf4Matrix, LoadError> {
        let (rows, cols) = self.shape;
        Ok(Nf4Matrix::quantize(rows, cols, &self.values).with_dtype(self.dtype))
    }
}

/// Blocks of zeros, of the smallest numbers, of halves of a table's neighbours: where a code could go either way.
fn hard(len: usize) -> Vec<f32> {
    let between = |i: usize| (TABLE[i % 15] + TABLE[i % 15 + 1]) / 2.0;
    (0..len)
        .map(|i| match (i / BLOCK) % 5 {
            0 => 0.0,
            1 => -0.0,
            2 => f32::from_bits((1 + i as u32 % 9) << 16),
            3 if i % BLOCK == 0 => 1.0,
            3 => between(i),
            _ => -3.0 * between(i + 7),
        })
        .collect()
}

#[test]
fn matrices_are_quantized_to_the_bits_of_the_processors() {
    let Some(gpu) = gpu() else { return };
    let mut staging = gpu.new_staging().unwrap();
    // The last are longer than one and two buffers between file and GPU.
    for shape @ (rows, cols) in [
        (1, 64),
        (8, 8),
        (3, 576),
        (96, 64),
        (2100, 4096),
        (4100, 4112),
    ] {
        let normal: Vec<f32> = random(rows * cols, 3).iter().map(|v| v * 0.05).collect();
        for dtype in [StoredDtype::Bf16, StoredDtype::F16] {
            for values in [&normal, &hard(rows * cols)] {
                let stored = InMemory::new(shape, dtype, values);
                let expected = stored.quantize().unwrap();
                let placed = gpu.quantize_nf4(&stored, &mut staging).unwrap();
                let ours = gpu.download_nf4(&placed).unwrap();
                let apart = (ours.packed().iter().zip(expected.packed()))
                    .position(|(ours, expected)| ours != expected);
                assert_eq!(apart, None, "codes of {rows}x{cols} {dtype:?}");
                assert!(ours == expected, "magnitudes of {rows}x{cols} {dtype:?}");
            }
        }
    }
}

#[test]
fn a_number_that_is_not_finite_is_refused() {
    let Some(gpu) = gpu() else { return };
    let mut staging = gpu.new_staging().unwrap();
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for dtype in [StoredDtype::Bf16, StoredDtype::F16] {
            let mut values = random(256 * 64, 4);
            values[9001] = wrong;
            let stored = InMemory::new((256, 64), dtype, &values);
            let refused = gpu.quantize_nf4(&stored, &mut staging).map(drop);
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("it holds"), "{wrong} {dtype:?}: {message}");
        }
    }
}

#[test]
fn a_checkpoint_is_loaded_as_in_host_memory() {
    let options = CudaOptions {
        ordinal: 0,
        head_dim: 64,
        rank: 0,
        half: None,
        lean: false,
        memory_limit: None,
    };
    for name in ["tiny_llama", "tiny_llama_bnb4"] {
        let Some(cuda) = opened(options) else { return };
        let path = golden(name);
        let options = LoadOptions {
            load_in_4bit: true,
            digest: None,
        };
        let expected = load(&path, &options, &|_| ()).unwrap();
        let placed = load_onto(cuda, &path, &options, &|_| ()).unwrap();
        assert_eq!(placed.digest, expected.digest);
        let kernels = placed.model.ops().kernels();
        for (index, layer) in expected.weights.layers.iter().enumerate() {
            for projection in Projection::ALL {
                let (FrozenLinear::Nf4(expected), CudaLinear::Nf4(ours)) = (
                    &layer.linear(projection).weight,
                    &placed.model.layer(index).linear(projection).weight,
                ) else {
                    panic!("{name} {index} {projection:?} is not in 4 bits");
                };
                assert!(
                    kernels.download_nf4(ours).unwrap() == *expected,
                    "{name} {index}"
                );
            }
        }
    }
}
