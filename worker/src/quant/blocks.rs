//! A matrix in one of ggml's block quantizations, as a GGUF file has it.
//!
//! Blocks lie along rows, so a row is whole blocks. Products with one vector take the kernels of llama.cpp's design that
//! candle has: the vector is rounded to 8 bits in blocks, and blocks are multiplied as integers.
#![allow(
    unsafe_code,
    reason = "blocks are read from files as bytes; they are plain numbers without padding"
)]

use std::ops::Range;

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0, GgmlType as BlockType,
};
use rayon::prelude::*;
use weft_common::gguf::GgmlType;

#[cfg(target_arch = "x86_64")]
use super::q8_dot::{self, Q8Vector};

/// Bytes of the rows that a thread multiplies at a time.
const BYTES_AT_ONCE: usize = 1 << 16;

/// A frozen matrix in blocks. Shapes: `rows` outputs × `cols` inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMatrix {
    rows: usize,
    cols: usize,
    kind: GgmlType,
    blocks: Blocks,
}

macro_rules! block_types {
    ($($name:ident $block:ident,)*) => {
        #[derive(Debug, Clone, PartialEq)]
        enum Blocks { $($name(Vec<$block>),)* }

        impl Blocks {
            /// So many blocks of zeros; `None` of a type that has none here.
            fn zeros(kind: GgmlType, count: usize) -> Option<Self> {
                match kind {
                    $(GgmlType::$name => Some(Self::$name(vec![<$block>::zeros(); count])),)*
                    GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 | GgmlType::Q8_1 | GgmlType::Q8K => None,
                }
            }

            fn bytes_mut(&mut self) -> &mut [u8] {
                match self { $(Self::$name(blocks) => as_bytes_mut(blocks),)* }
            }

            fn bytes(&self) -> usize {
                match self { $(Self::$name(blocks) => size_of_val(blocks.as_slice()),)* }
            }

            fn widen(&self, elements: Range<usize>, out: &mut [f32]) {
                match self { $(Self::$name(blocks) => widen(blocks, elements, out),)* }
            }

            fn multiply(&self, x_i: &[f32], store: &(impl Fn(&mut f32, f32) + Sync), y_o: &mut [f32]) {
                match self { $(Self::$name(blocks) => multiply(blocks, x_i, store, y_o),)* }
            }
        }
    };
}

block_types! {
    Q4_0 BlockQ4_0,
    Q4_1 BlockQ4_1,
    Q5_0 BlockQ5_0,
    Q5_1 BlockQ5_1,
    Q8_0 BlockQ8_0,
    Q2K BlockQ2K,
    Q3K BlockQ3K,
    Q4K BlockQ4K,
    Q5K BlockQ5K,
    Q6K BlockQ6K,
}

impl BlockMatrix {
    /// A matrix whose bytes `read` fills, row by row, as the file has them. `None` where `kind` is no block quantization
    /// that is multiplied in blocks, or a row is not whole blocks.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read_with<E>(
        (rows, cols): (usize, usize),
        kind: GgmlType,
        read: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Self>, E> {
        let block = kind.block_elements() as usize;
        let Some(mut blocks) = (cols.is_multiple_of(multiplied_together(kind) * block))
            .then(|| Blocks::zeros(kind, rows * cols / block))
            .flatten()
        else {
            return Ok(None);
        };
        read(blocks.bytes_mut())?;
        Ok(Some(Self {
            rows,
            cols,
            kind,
            blocks,
        }))
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The quantization.
    #[must_use]
    pub fn kind(&self) -> GgmlType {
        self.kind
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// Writes rows as f32, `=`.
    ///
    /// # Panics
    /// If `out` does not hold exactly the rows asked for.
    pub fn rows_into(&self, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            rows.len() * self.cols,
            "rows {rows:?} of {} columns",
            self.cols
        );
        self.blocks
            .widen(rows.start * self.cols..rows.end * self.cols, out);
    }

    /// `store(y_o, w_oi · x_i)` for each output, in parallel.
    ///
    /// # Panics
    /// If `x_i` or `y_o` has another length.
    pub fn multiply(&self, x_i: &[f32], store: &(impl Fn(&mut f32, f32) + Sync), y_o: &mut [f32]) {
        assert_eq!((y_o.len(), x_i.len()), (self.rows, self.cols));
        #[cfg(target_arch = "x86_64")]
        if let (Blocks::Q8_0(blocks), Some(x)) = (&self.blocks, Q8Vector::new(x_i)) {
            let blocks = q8_dot::as_blocks(blocks);
            let dot = |row: &[_]| x.dot(row);
            return by_rows(blocks, x_i.len() / 32, dot, store, y_o);
        }
        self.blocks.multiply(x_i, store, y_o);
    }
}

/// Blocks that the kernels of a type multiply at once: a row has a multiple of them.
fn multiplied_together(kind: GgmlType) -> usize {
    match kind {
        GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1 => 2,
        GgmlType::F32
        | GgmlType::F16
        | GgmlType::BF16
        | GgmlType::Q4_0
        | GgmlType::Q8_0
        | GgmlType::Q8_1
        | GgmlType::Q2K
        | GgmlType::Q3K
        | GgmlType::Q4K
        | GgmlType::Q5K
        | GgmlType::Q6K
        | GgmlType::Q8K => 1,
    }
}

fn widen<T: BlockType>(blocks: &[T], elements: Range<usize>, out: &mut [f32]) {
    let blocks = &blocks[elements.start / T::BLCK_SIZE..elements.end / T::BLCK_SIZE];
    T::to_float(blocks, out);
}

fn multiply<T: BlockType>(
    blocks: &[T],
    x_i: &[f32],
    store: &(impl Fn(&mut f32, f32) + Sync),
    y_o: &mut [f32],
) {
    let cols = x_i.len();
    let mut x = vec![T::VecDotType::zeros(); cols / T::VecDotType::BLCK_SIZE];
    T::VecDotType::from_float(x_i, &mut x);
    let dot = |row: &[T]| T::vec_dot(cols, row, &x);
    by_rows(blocks, cols / T::BLCK_SIZE, dot, store, y_o);
}

/// `store(y, dot(row))` of each row of so many blocks.
fn by_rows<T: Sync>(
    blocks: &[T],
    per_row: usize,
    dot: impl Fn(&[T]) -> f32 + Sync,
    store: &(impl Fn(&mut f32, f32) + Sync),
    y_o: &mut [f32],
) {
    let rows_at_once = (BYTES_AT_ONCE / (per_row * size_of::<T>())).max(1);
    (y_o.par_chunks_mut(rows_at_once))
        .zip(blocks.par_chunks(rows_at_once * per_row))
        .for_each(|(y_o, blocks)| {
            for (y, row) in y_o.iter_mut().zip(blocks.chunks(per_row)) {
                store(y, dot(row));
            }
        });
}

fn as_bytes_mut<T: BlockType>(blocks: &mut [T]) -> &mut [u8] {
    let bytes = size_of_val(blocks);
    // SAFETY: every block type is `repr(C)` of integers and halves without padding, for which all bytes are valid; the
    // slice is borrowed as long as the bytes are.
    unsafe { std::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast(), bytes) }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::GgmlDType;

    use super::*;

    /// The matrix that these numbers are quantized to, through the bytes of a file.
    fn quantized(kind: GgmlType, cols: usize, values: &[f32]) -> BlockMatrix {
        let device = candle_core::Device::Cpu;
        let rows = values.len() / cols;
        let tensor = candle_core::Tensor::from_slice(values, (rows, cols), &device).unwrap();
        let all = [
            (GgmlType::Q4_0, GgmlDType::Q4_0),
            (GgmlType::Q4_1, GgmlDType::Q4_1),
            (GgmlType::Q5_0, GgmlDType::Q5_0),
            (GgmlType::Q5_1, GgmlDType::Q5_1),
            (GgmlType::Q8_0, GgmlDType::Q8_0),
            (GgmlType::Q2K, GgmlDType::Q2K),
            (GgmlType::Q3K, GgmlDType::Q3K),
            (GgmlType::Q4K, GgmlDType::Q4K),
            (GgmlType::Q5K, GgmlDType::Q5K),
            (GgmlType::Q6K, GgmlDType::Q6K),
        ];
        let (_, dtype) = all.into_iter().find(|(own, _)| *own == kind).unwrap();
        let tensor = candle_core::quantized::QTensor::quantize(&tensor, dtype).unwrap();
        let bytes = tensor.data().unwrap();
        let read = |out: &mut [u8]| {
            out.copy_from_slice(&bytes);
            Ok::<_, std::convert::Infallible>(())
        };
        BlockMatrix::read_with((rows, cols), kind, read)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_product_in_blocks_is_near_that_of_the_widened_rows() {
        for (kind, cols) in [
            (GgmlType::Q4_0, 96),
            (GgmlType::Q4_1, 64),
            (GgmlType::Q5_0, 64),
            (GgmlType::Q5_1, 128),
            (GgmlType::Q8_0, 96),
            (GgmlType::Q2K, 256),
            (GgmlType::Q3K, 512),
            (GgmlType::Q4K, 512),
            (GgmlType::Q5K, 256),
            (GgmlType::Q6K, 512),
        ] {
            let rows = 37;
            let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.37).sin()).collect();
            let x: Vec<f32> = (0..cols).map(|i| (i as f32 * 0.11).cos()).collect();
            let matrix = quantized(kind, cols, &values);
            let mut y = vec![1.0; rows];
            matrix.multiply(&x, &|y, product| *y += product, &mut y);
            let mut row = vec![0.0; cols];
            for (index, y) in y.iter().enumerate() {
                matrix.rows_into(index..index + 1, &mut row);
                let exact: f32 = 1.0 + row.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>();
                assert!(
                    (y - exact).abs() < 0.02 * (cols as f32).sqrt(),
                    "{kind}: {y} {exact}"
                );
            }
        }
    }

    #[test]
    fn floats_and_rows_that_end_within_a_block_are_not_taken() {
        let read = |_: &mut [u8]| Ok::<_, std::convert::Infallible>(());
        for (kind, cols) in [
            (GgmlType::F16, 64),
            (GgmlType::Q4K, 128),
            (GgmlType::Q5_1, 96),
            (GgmlType::Q8_0, 40),
        ] {
            assert_eq!(BlockMatrix::read_with((2, cols), kind, read), Ok(None));
        }
    }
}
