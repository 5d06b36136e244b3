//! AdamW with 8-bit block-wise moments.
//!
//! A block of 256 elements holds a code of the dynamic map for each element and the block's largest magnitude. An
//! update dequantizes both moments, moves the parameters with the fresh 32-bit moments, and quantizes those with fresh
//! scales. Source: 8-bit Optimizers (2110.02861); bitsandbytes csrc/kernels.cu, `kOptimizerStatic8bit2StateBlockwise`.

use rayon::prelude::*;

use super::coefficients::Coefficients;
use super::quantizer::Quantizer;

/// Elements that share a scale.
const BLOCK: usize = 256;

/// Blocks that one task updates.
const BLOCKS_PER_TASK: usize = 32;

/// One moment of one matrix: `map[codes[i]]·absmax[i / 256]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMoments {
    /// A code for each element.
    pub codes: Vec<u8>,
    /// A scale for each block; the last block may be short.
    pub absmax: Vec<f32>,
}

impl BlockMoments {
    /// Zero: any code times a scale of 0.
    #[must_use]
    pub fn zero(len: usize) -> Self {
        Self {
            codes: vec![0; len],
            absmax: vec![0.0; len.div_ceil(BLOCK)],
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + 4 * self.absmax.len()
    }
}

/// One block of parameters, gradients and state.
struct Block<'a> {
    params: &'a mut [f32],
    grads: &'a [f32],
    first: (&'a mut [u8], &'a mut f32),
    second: (&'a mut [u8], &'a mut f32),
}

/// Updates one matrix.
pub(super) fn update(
    params: &mut [f32],
    grads: &[f32],
    first: &mut BlockMoments,
    second: &mut BlockMoments,
    scalars: &Coefficients,
) {
    let first = first.codes.par_chunks_mut(BLOCK).zip(&mut first.absmax);
    let second = second.codes.par_chunks_mut(BLOCK).zip(&mut second.absmax);
    params
        .par_chunks_mut(BLOCK)
        .zip(grads.par_chunks(BLOCK))
        .zip(first.zip(second))
        .with_min_len(BLOCKS_PER_TASK)
        .for_each(|((params, grads), (first, second))| {
            let block = Block {
                params,
                grads,
                first,
                second,
            };
            block.update(scalars);
        });
}

impl Block<'_> {
    fn update(self, scalars: &Coefficients) {
        let (signed, unsigned) = (Quantizer::signed(), Quantizer::unsigned());
        let len = self.params.len();
        let (mut m, mut v) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
        for i in 0..len {
            let grad = self.grads[i] * scalars.clip;
            let m_old = signed.entry(self.first.0[i]) * *self.first.1;
            let v_old = unsigned.entry(self.second.0[i]) * *self.second.1;
            m[i] = m_old * scalars.beta1 + scalars.gain1 * grad;
            v[i] = v_old * scalars.beta2 + scalars.gain2 * grad * grad;
        }
        for ((param, m), v) in self.params.iter_mut().zip(&m).zip(&v) {
            *param = scalars.moved(*param, *m, *v);
        }
        quantize(
            &m[..len],
            self.first,
            |m| signed.code_keeping_sign(m),
            signed.zero(),
        );
        quantize(
            &v[..len],
            self.second,
            |v| unsigned.code(v),
            unsigned.zero(),
        );
    }
}

fn quantize(
    values: &[f32],
    (codes, scale): (&mut [u8], &mut f32),
    code: impl Fn(f32) -> u8,
    zero: u8,
) {
    let absmax = values
        .iter()
        .fold(0.0_f32, |max, value| max.max(value.abs()));
    *scale = absmax;
    for (slot, &value) in codes.iter_mut().zip(values) {
        *slot = if absmax == 0.0 {
            zero
        } else {
            code(value / absmax)
        };
    }
}
