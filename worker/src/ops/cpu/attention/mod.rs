//! Causal attention over packed documents, in tiles of queries and keys.
//!
//! Source: FlashAttention-2 (2307.08691). The forward keeps a running maximum and sum for each query; the backward
//! computes probabilities again from the saved logarithm of the sum, once tile by tile over queries (dQ) and once
//! over keys (dK, dV), so that every output has one writer and one order of summation.

mod backward;
mod forward;
mod tile;

pub(super) use backward::backward;
pub(super) use forward::forward;
