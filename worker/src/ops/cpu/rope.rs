//! Rotary position embedding.

use rayon::prelude::*;

use crate::ops::{Rotation, Turn};

/// Tokens that one thread takes at a time.
const TOKENS: usize = 16;

pub(super) fn rotate(rotation: Rotation<'_, Vec<f32>>, heads: usize, x_the: &mut [f32]) {
    let Rotation {
        cos,
        sin,
        tokens,
        head_dim,
        turn,
    } = rotation;
    let half = head_dim / 2;
    let width = heads * head_dim;
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    (x_the[..tokens * width].par_chunks_mut(TOKENS * width))
        .zip(cos[..tokens * half].par_chunks(TOKENS * half))
        .zip(sin[..tokens * half].par_chunks(TOKENS * half))
        .for_each(|((x, cos), sin)| {
            for ((token, cos), sin) in x
                .chunks_mut(width)
                .zip(cos.chunks(half))
                .zip(sin.chunks(half))
            {
                for head in token.chunks_mut(head_dim) {
                    let (low, high) = head.split_at_mut(half);
                    for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                        let s = sign * s;
                        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                    }
                }
            }
        });
}
