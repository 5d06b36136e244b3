//! Keys and values of all tokens so far, layer by layer.

use crate::model::Spec;
use crate::model::layer::Activations;
use crate::ops::Ops;

/// A cache for one sequence, allocated once for its greatest length.
pub(super) struct KvCache<O: Ops> {
    layers: Vec<LayerCache<O>>,
    kv_dim: usize,
    len: usize,
}

/// One layer's keys, rotated, and values: tokens × key/value heads × head width.
pub(super) struct LayerCache<O: Ops> {
    pub(super) k: O::Buf,
    pub(super) v: O::Buf,
}

impl<O: Ops> KvCache<O> {
    pub(super) fn new(ops: &O, spec: &Spec, capacity: usize) -> Self {
        let kv_dim = spec.kv_dim();
        let layer = |_| LayerCache {
            k: ops.alloc(capacity, kv_dim),
            v: ops.alloc(capacity, kv_dim),
        };
        Self {
            layers: (0..spec.layers).map(layer).collect(),
            kv_dim,
            len: 0,
        }
    }

    /// Tokens of which every layer holds keys and values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn layer(&self, layer: usize) -> &LayerCache<O> {
        &self.layers[layer]
    }

    /// Stores a layer's keys and values of the `tokens` that come next; [`Self::advance`] follows the last layer.
    pub(super) fn store(&mut self, ops: &O, layer: usize, tokens: usize, kept: &Activations<O>) {
        let shape = (tokens, self.kv_dim);
        let cache = &mut self.layers[layer];
        ops.copy_rows(shape, &kept.k, self.len, &mut cache.k);
        ops.copy_rows(shape, &kept.v, self.len, &mut cache.v);
    }

    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
