//! FLOPs and bytes that a step cannot do without, from its shape alone.
//!
//! | part | forward | backward | computed again |
//! | --- | --- | --- | --- |
//! | frozen linears | 2·T·P | 2·T·P, but not for the first layer's queries, keys and values | 2·T·P, but not for `down` |
//! | attention, per document | 2·T²·q (the causal half of two products) | 2.5 times that (five products) | as forward |
//! | adapters | 2·T·r·(i + o) | 4·T·r·(i + o) | as forward, but not for `down` |
//! | head, supervised rows | 2·S·V·d | 2·S·V·d | |
//!
//! T tokens, P parameters, q width of all query heads, i and o a linear's inputs and outputs, r rank, S supervised rows,
//! V vocabulary, d residual width. What an implementation computes again beyond its memory plan, or pads, is its own
//! loss and not counted.

use serde::Serialize;

use crate::model::{Projection, Spec};

/// Rows of the head that are multiplied at once when its rate is measured.
const HEAD_ROWS: usize = 1024;

/// Bytes of an NF4 weight: half, a byte for each 64, four for each 256 of those.
const NF4_BYTES: f64 = 0.5 + 1.0 / 64.0 + 4.0 / (64.0 * 256.0);

/// Bytes that one adapter parameter takes part in for each micro-batch: the gradient read, the integer sum read and
/// written.
const ACCUMULATE_BYTES: f64 = 4.0 + 8.0 + 8.0;

/// The same for each step: the sum becomes a gradient (8 + 4), which is read for its norm and for the update (4 + 4);
/// the parameter and two moments of a byte are read and written (8 + 4).
const UPDATE_BYTES: f64 = 12.0 + 8.0 + 12.0;

/// The shape of a step.
#[derive(Debug, Clone, Copy)]
pub struct StepShape<'a> {
    /// The model.
    pub spec: &'a Spec,
    /// The adapter's rank, on all seven linears.
    pub rank: usize,
    /// Rows of a micro-batch.
    pub rows: usize,
    /// Tokens of a row, all but the first predicted.
    pub row_tokens: usize,
    /// Micro-batches.
    pub slots: usize,
    /// Layers whose activations are computed again.
    pub recomputed_layers: usize,
    /// Bytes of an activation, and of a weight as products read it.
    pub element_bytes: usize,
}

/// What a product is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A frozen linear's forward.
    Forward,
    /// The gradient of a frozen linear's input.
    InputGradient,
    /// A forward that is computed again.
    Recompute,
    /// The head, either way.
    Head,
}

/// Products of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// What for.
    pub purpose: Purpose,
    /// Rows, columns and inner width, of one product whose rate stands for all.
    pub mnk: [usize; 3],
    /// FLOPs of all of them.
    pub flops: f64,
}

/// FLOPs of a step by class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepFlops {
    /// Frozen linears, forward.
    pub forward: f64,
    /// Gradients of their inputs.
    pub input_gradients: f64,
    /// Frozen linears computed again.
    pub recompute: f64,
    /// Head and loss.
    pub head: f64,
    /// Attention, everything.
    pub attention: f64,
    /// Adapters, everything.
    pub adapters: f64,
    /// All of it.
    pub total: f64,
}

/// Bytes of device memory that a step reads and writes beside its products, by class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepBytes {
    /// NF4 weights read, and written as products read them.
    pub dequantization: f64,
    /// Norms, rotary embedding, gated units, embeddings.
    pub elementwise: f64,
    /// Exact sums, norm, optimizer.
    pub optimizer: f64,
    /// All of it.
    pub total: f64,
}

/// One input's linears, as they can be multiplied at once.
struct Group {
    outputs: usize,
    inputs: usize,
    /// Whether it is computed again with its layer.
    recomputed: bool,
    /// Layers whose input gradient nobody needs.
    frozen_below: usize,
}

impl StepShape<'_> {
    /// Tokens of a micro-batch.
    fn tokens(&self) -> usize {
        self.rows * self.row_tokens
    }

    /// Supervised rows of a micro-batch.
    fn supervised(&self) -> usize {
        self.rows * self.row_tokens.saturating_sub(1)
    }

    fn groups(&self) -> [Group; 4] {
        let Spec { hidden, ffn, .. } = *self.spec;
        let group = |outputs, inputs| Group {
            outputs,
            inputs,
            recomputed: true,
            frozen_below: 0,
        };
        [
            Group {
                frozen_below: 1,
                ..group(self.spec.q_dim() + 2 * self.spec.kv_dim(), hidden)
            },
            group(hidden, self.spec.q_dim()),
            group(2 * ffn, hidden),
            Group {
                recomputed: false,
                ..group(hidden, ffn)
            },
        ]
    }

    /// The products with frozen matrices, in the order of the forward pass.
    #[must_use]
    pub fn products(&self) -> Vec<Product> {
        let (tokens, layers) = (self.tokens(), self.spec.layers);
        let products = |purpose, mnk: [usize; 3], rows: usize, times: usize| Product {
            purpose,
            mnk,
            flops: 2.0 * (rows * times * self.slots) as f64 * (mnk[1] * mnk[2]) as f64,
        };
        let linears = self.groups().into_iter().flat_map(|group| {
            let (outputs, inputs) = (group.outputs, group.inputs);
            let again = usize::from(group.recomputed) * self.recomputed_layers;
            let forward = [tokens, outputs, inputs];
            let backward = [tokens, inputs, outputs];
            [
                products(Purpose::Forward, forward, tokens, layers),
                products(Purpose::Recompute, forward, tokens, again),
                products(
                    Purpose::InputGradient,
                    backward,
                    tokens,
                    layers - group.frozen_below,
                ),
            ]
        });
        let (rows, vocab, hidden) = (self.supervised(), self.spec.vocab, self.spec.hidden);
        let chunk = rows.clamp(1, HEAD_ROWS);
        let head = [[chunk, vocab, hidden], [chunk, hidden, vocab]];
        let head = head.map(|mnk| products(Purpose::Head, mnk, rows, 1));
        linears
            .chain(head)
            .filter(|product| product.flops > 0.0)
            .collect()
    }

    /// FLOPs by class.
    #[must_use]
    pub fn flops(&self) -> StepFlops {
        let products = self.products();
        let of = |purpose| {
            let wanted = products.iter().filter(|p| p.purpose == purpose);
            wanted.fold(0.0, |sum, product| sum + product.flops)
        };
        let mut flops = StepFlops {
            forward: of(Purpose::Forward),
            input_gradients: of(Purpose::InputGradient),
            recompute: of(Purpose::Recompute),
            head: of(Purpose::Head),
            attention: self.attention_flops(),
            adapters: self.adapter_flops(),
            total: 0.0,
        };
        flops.total = flops.forward
            + flops.input_gradients
            + flops.recompute
            + flops.head
            + flops.attention
            + flops.adapters;
        flops
    }

    fn attention_flops(&self) -> f64 {
        let forward = 2.0 * (self.row_tokens as f64).powi(2) * self.spec.q_dim() as f64;
        let layers = 3.5 * self.spec.layers as f64 + self.recomputed_layers as f64;
        forward * layers * (self.rows * self.slots) as f64
    }

    fn adapter_flops(&self) -> f64 {
        let width = |p: Projection| {
            let (outputs, inputs) = self.spec.shape(p);
            outputs + inputs
        };
        let all: usize = Projection::ALL.into_iter().map(width).sum();
        let again = (all - width(Projection::Down)) * self.recomputed_layers;
        let no_gradient = 3 * self.spec.hidden;
        let widths = 3 * all * self.spec.layers + again - no_gradient;
        2.0 * (self.tokens() * self.slots) as f64 * (self.rank * widths) as f64
    }

    /// Bytes by class.
    #[must_use]
    pub fn bytes(&self) -> StepBytes {
        let dequantization = self.dequantized() * (NF4_BYTES + self.element_bytes as f64);
        let elementwise = self.elementwise() * self.element_bytes as f64;
        let per_parameter = ACCUMULATE_BYTES * self.slots as f64 + UPDATE_BYTES;
        let optimizer = self.adapter_parameters() as f64 * per_parameter;
        StepBytes {
            dequantization,
            elementwise,
            optimizer,
            total: dequantization + elementwise + optimizer,
        }
    }

    /// Parameters of the adapter.
    #[must_use]
    pub fn adapter_parameters(&self) -> usize {
        let shapes = Projection::ALL.into_iter().map(|p| self.spec.shape(p));
        let widths: usize = shapes.map(|(outputs, inputs)| outputs + inputs).sum();
        widths * self.rank * self.spec.layers
    }

    /// Weights that are dequantized in a step, each as often as it is used.
    fn dequantized(&self) -> f64 {
        let layers = self.spec.layers;
        let uses = self.groups().into_iter().map(|group| {
            let again = usize::from(group.recomputed) * self.recomputed_layers;
            (group.outputs * group.inputs) as f64 * (2 * layers - group.frozen_below + again) as f64
        });
        uses.sum::<f64>() * self.slots as f64
    }

    /// Activations that are read or written in a step outside of products and attention.
    fn elementwise(&self) -> f64 {
        let Spec { hidden, ffn, .. } = *self.spec;
        let heads = self.spec.q_dim() + self.spec.kv_dim();
        // Norms twice x → y; rotary in place; gate, up → h.
        let forward = 2 * 2 * hidden + 2 * heads + 3 * ffn;
        // Norms twice x, dy, dx → dx; rotary in place; dh, gate, up → gate, up.
        let backward = 2 * 4 * hidden + 2 * heads + 5 * ffn;
        let layers =
            forward * (self.spec.layers + self.recomputed_layers) + backward * self.spec.layers;
        // Embeddings are read and written; the last norm goes both ways over supervised rows.
        let ends = 2 * hidden * self.tokens() + 6 * hidden * self.supervised();
        (self.tokens() * layers + ends) as f64 * self.slots as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    fn shape(spec: &Spec, recomputed_layers: usize) -> StepShape<'_> {
        StepShape {
            spec,
            rank: 16,
            rows: 2,
            row_tokens: 2048,
            slots: 4,
            recomputed_layers,
            element_bytes: 2,
        }
    }

    const TOKENS: f64 = 16_384.0;

    #[test]
    fn forward_and_backward_take_two_flops_a_parameter_and_token_each() {
        let spec = Preset::Llama3_8b.spec();
        let parameters = spec.linear_parameters() as f64;
        let flops = shape(&spec, 0).flops();
        assert_eq!(flops.forward, 2.0 * TOKENS * parameters);
        let first_qkv = (6144 * 4096) as f64;
        assert_eq!(
            flops.input_gradients,
            2.0 * TOKENS * (parameters - first_qkv)
        );
        assert_eq!(flops.recompute, 0.0);
        // 2 ways × 2 FLOPs × 4 × 2 × 2047 supervised rows.
        assert_eq!(flops.head, 4.0 * 16_376.0 * (128_256.0 * 4096.0));
    }

    #[test]
    fn a_layer_computed_again_costs_a_forward_without_its_last_product() {
        let spec = Preset::Llama3_8b.spec();
        let (kept, again) = (shape(&spec, 0), shape(&spec, 31));
        let layer = (spec.linear_parameters() / 32 - 4096 * 14_336) as f64;
        assert_eq!(again.flops().recompute, 31.0 * 2.0 * TOKENS * layer);
        let attention = 8.0 * 2.0 * 2048.0_f64.powi(2) * 4096.0;
        assert_eq!(kept.flops().attention, 32.0 * 3.5 * attention);
        assert_eq!(
            again.flops().attention - kept.flops().attention,
            31.0 * attention
        );
        let weights = 31.0 * 4.0 * layer * (NF4_BYTES + 2.0);
        let more = again.bytes().dequantization - kept.bytes().dequantization;
        assert!((more / weights - 1.0).abs() < 1e-12, "{more} {weights}");
    }

    #[test]
    fn adapters_take_three_products_of_their_size_and_none_below_the_first_layer() {
        let spec = Preset::Llama3_8b.spec();
        let shape = shape(&spec, 0);
        assert_eq!(shape.adapter_parameters(), 41_943_040);
        let all = 6.0 * TOKENS * 41_943_040.0;
        let below = 2.0 * TOKENS * (16 * 3 * 4096) as f64;
        assert_eq!(shape.flops().adapters, all - below);
    }

    #[test]
    fn bytes_of_a_step_are_those_counted_by_hand() {
        let spec = Preset::Tiny.spec();
        let shape = StepShape {
            rows: 1,
            row_tokens: 3,
            slots: 2,
            rank: 1,
            element_bytes: 4,
            ..shape(&spec, 1)
        };
        // Two layers, q 256, kv 128, d 64, f 128: 3 × 2 slots tokens.
        let forward = 4 * 64 + 2 * 384 + 3 * 128;
        let backward = 8 * 64 + 2 * 384 + 5 * 128;
        let tokens = 6 * (3 * forward + 2 * backward + 2 * 64);
        let supervised = 4 * 6 * 64;
        assert_eq!(
            shape.bytes().elementwise,
            f64::from(4 * (tokens + supervised))
        );
        let widths = (256 + 64) * 2 + 2 * (128 + 64) + 3 * (128 + 64);
        assert_eq!(shape.adapter_parameters(), 2 * widths);
        assert_eq!(
            shape.bytes().optimizer,
            (2 * widths) as f64 * (2.0 * 20.0 + 32.0)
        );
    }

    #[test]
    fn classes_add_up() {
        let spec = Preset::Gemma1_1_7b.spec();
        let shape = shape(&spec, 27);
        let flops = shape.flops();
        let products: f64 = shape.products().iter().map(|p| p.flops).sum();
        let sum = products + flops.attention + flops.adapters;
        assert!((flops.total / sum - 1.0).abs() < 1e-12);
        let bytes = shape.bytes();
        assert_eq!(
            bytes.total,
            bytes.dequantization + bytes.elementwise + bytes.optimizer
        );
    }
}
