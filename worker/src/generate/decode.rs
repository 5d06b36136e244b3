//! The forward pass of one sequence over its cache.

use super::cache::KvCache;
use crate::lora::Adapter;
use crate::model::layer::{Activations, Layer, Tokens, Workspace};
use crate::model::{Model, head_logits, hidden_states};
use crate::ops::Ops;
use crate::train::PackedBatch;

/// A sequence that grows: its cache, and the buffers of one token.
pub(super) struct Decode<'a, O: Ops> {
    model: &'a Model<O>,
    adapter: Option<&'a Adapter<O::Params>>,
    cache: KvCache<O>,
    kept: Activations<O>,
    work: Workspace<O>,
    x: O::Buf,
    next: O::Buf,
}

impl<'a, O: Ops> Decode<'a, O> {
    /// An empty sequence of at most `capacity` tokens.
    pub(super) fn new(
        model: &'a Model<O>,
        adapter: Option<&'a Adapter<O::Params>>,
        capacity: usize,
    ) -> Self {
        let (ops, spec) = (model.ops(), model.spec());
        let rank = adapter.map_or(0, |adapter| adapter.layout().max_rank());
        Self {
            model,
            adapter,
            cache: KvCache::new(ops, spec, capacity),
            kept: Activations::new(ops, spec, 1),
            work: Workspace::for_forward(ops, spec, 1, rank),
            x: ops.alloc(1, spec.hidden),
            next: ops.alloc(1, spec.hidden),
        }
    }

    /// Runs the prompt at once and returns the logits after its last token.
    pub(super) fn prefill(&mut self, prompt: &[u32]) -> Vec<f32> {
        self.model.ops().together(|| self.run_prompt(prompt))
    }

    /// Appends one token and returns the logits after it.
    pub(super) fn append(&mut self, token: u32) -> Vec<f32> {
        self.model.ops().together(|| self.run_token(token))
    }

    fn run_prompt(&mut self, prompt: &[u32]) -> Vec<f32> {
        let Self { model, cache, .. } = self;
        let batch = PackedBatch::from_tokens(prompt);
        let x_td = hidden_states(model, self.adapter, &batch, |layer, kept| {
            cache.store(model.ops(), layer, prompt.len(), kept);
        });
        cache.advance(prompt.len());
        head_logits(model, (&x_td, batch.len()), &[batch.len() as u32 - 1])
    }

    fn run_token(&mut self, token: u32) -> Vec<f32> {
        let (ops, spec) = (self.model.ops(), self.model.spec());
        let position = self.cache.len() as u32;
        let tokens = Tokens::new(ops, spec, &[0, 1], &[position]);
        let documents = ops.upload_continued(&[0, 1], &[0, position + 1]);
        ops.embed(
            &ops.upload_ids(&[token], spec.vocab),
            self.model.embed(),
            spec.embed_scale,
            &mut self.x,
        );
        for index in 0..spec.layers {
            self.layer(index, &tokens, &documents);
        }
        self.cache.advance(1);
        head_logits(self.model, (&self.x, 1), &[0])
    }

    /// `x = layer(x)`, its keys and values added to the cache.
    fn layer(&mut self, index: usize, tokens: &Tokens<O>, documents: &O::Documents) {
        let Self {
            model,
            cache,
            kept,
            work,
            x,
            next,
            ..
        } = self;
        let layer = Layer {
            ops: model.ops(),
            spec: model.spec(),
            weights: model.layer(index),
            adapter: self.adapter,
            index,
            tokens,
        };
        layer.attention_inputs(x, kept, work);
        cache.store(model.ops(), index, 1, kept);
        let cached = cache.layer(index);
        layer.attend_over(kept, (&cached.k, &cached.v), documents);
        layer.attention_output(x, kept, work);
        layer.mlp_inputs(kept, work);
        layer.mlp_output(kept, work, next);
        std::mem::swap(x, next);
    }
}
