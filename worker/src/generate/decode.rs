//! The forward pass of one sequence over its cache.

use super::cache::KvCache;
use crate::lora::Adapter;
use crate::model::layer::{Activations, Layer, Tokens, Workspace};
use crate::model::{Model, Spec, hidden_states};
use crate::ops::{Norm, Ops};
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
    head: Head<O>,
}

/// What comes behind the layers, of one token.
struct Head<O: Ops> {
    x: O::Buf,
    xn: O::Buf,
    rstd: O::Floats,
    logits: O::Buf,
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
            head: Head::new(ops, spec),
        }
    }

    /// The logits after the last token.
    pub(super) fn logits(&self) -> Vec<f32> {
        let (ops, vocab) = (self.model.ops(), self.model.spec().vocab);
        let mut logits = vec![0.0; vocab];
        ops.read(&self.head.logits, vocab, &mut logits);
        logits
    }

    /// The token of the largest of them, of equal ones the first; `None` where one is not finite.
    pub(super) fn likeliest(&self) -> Option<u32> {
        let (ops, vocab) = (self.model.ops(), self.model.spec().vocab);
        ops.likeliest(vocab, &self.head.logits)
    }

    /// Runs the prompt at once.
    pub(super) fn prefill(&mut self, prompt: &[u32]) {
        self.model.ops().together(|| self.run_prompt(prompt));
    }

    /// Appends one token.
    pub(super) fn append(&mut self, token: u32) {
        self.model.ops().together(|| self.run_token(token));
    }

    fn run_prompt(&mut self, prompt: &[u32]) {
        let Self {
            model, cache, head, ..
        } = self;
        let batch = PackedBatch::from_tokens(prompt);
        let x_td = hidden_states(model, self.adapter, &batch, |layer, kept| {
            cache.store(model.ops(), layer, prompt.len(), kept);
        });
        cache.advance(prompt.len());
        let last = model
            .ops()
            .upload_ids(&[batch.len() as u32 - 1], batch.len());
        let hidden = model.spec().hidden;
        model.ops().gather_rows(&last, hidden, &x_td, &mut head.x);
        head.run(model, None);
    }

    fn run_token(&mut self, token: u32) {
        let (ops, spec) = (self.model.ops(), self.model.spec());
        let position = self.cache.len() as u32;
        let tokens = Tokens::continuing(ops, spec, position);
        ops.embed(
            &ops.upload_ids(&[token], spec.vocab),
            self.model.embed(),
            spec.embed_scale,
            &mut self.x,
        );
        for index in 0..spec.layers {
            self.layer(index, &tokens);
        }
        self.cache.advance(1);
        self.head.run(self.model, Some(&self.x));
    }

    /// `x = layer(x)`, its keys and values added to the cache.
    fn layer(&mut self, index: usize, tokens: &Tokens<O>) {
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
        layer.attend_over(kept, (&cached.k, &cached.v), &tokens.documents);
        layer.attention_output(x, kept, work);
        layer.mlp_inputs(kept, work);
        layer.mlp_output(kept, work, next);
        std::mem::swap(x, next);
    }
}

impl<O: Ops> Head<O> {
    fn new(ops: &O, spec: &Spec) -> Self {
        Self {
            x: ops.alloc(1, spec.hidden),
            xn: ops.alloc(1, spec.hidden),
            rstd: ops.alloc_floats(1),
            logits: ops.alloc(1, spec.vocab),
        }
    }

    /// Norm and head, of `x` or of what was put into the own one.
    fn run(&mut self, model: &Model<O>, x: Option<&O::Buf>) {
        let (ops, spec) = (model.ops(), model.spec());
        let norm = Norm {
            weight: model.final_norm(),
            eps: spec.rms_eps,
            tokens: 1,
            width: spec.hidden,
        };
        let x = x.unwrap_or(&self.x);
        ops.rms_norm_forward(norm, x, &mut self.xn, &mut self.rstd);
        ops.linear_forward(1, &self.xn, model.head(), &mut self.logits);
    }
}
