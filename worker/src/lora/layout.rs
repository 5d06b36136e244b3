//! Where each matrix of the adapter lies in the flat array.

use std::ops::Range;

use weft_common::recipe::LoraSection;

use super::LoraError;
use super::target::{path, targeted};
use crate::model::{Projection, Spec};

/// One matrix of the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterTensor {
    /// PEFT's key: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub name: String,
    /// r for A, outputs for B.
    pub rows: usize,
    /// Inputs for A, r for B.
    pub cols: usize,
    /// Position of its first number.
    pub offset: usize,
}

impl AdapterTensor {
    /// Its place in the flat array.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.rows * self.cols
    }
}

/// The two matrices beside one linear, by their offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoraPair {
    /// Offset of A, `rank × inputs`.
    pub a: usize,
    /// Offset of B, `outputs × rank`.
    pub b: usize,
    /// r.
    pub rank: usize,
}

/// All matrices of an adapter, one after another without gaps: layer by layer, and within a layer by the input of their
/// linears (q, k, v; o; gate, up; down), all A before all B. So the A of linears with one input are one matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterLayout {
    tensors: Vec<AdapterTensor>,
    layers: Vec<LayerPairs>,
    len: usize,
}

/// The pairs of one layer and the range that holds them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct LayerPairs {
    range: Range<usize>,
    pairs: [Option<LoraPair>; 7],
}

impl AdapterLayout {
    /// Lays out the adapter that a recipe asks for.
    ///
    /// # Errors
    /// If the rank is 0 or a target matches nothing.
    pub fn new(spec: &Spec, lora: &LoraSection) -> Result<Self, LoraError> {
        let rank = lora.r as usize;
        if rank == 0 {
            return Err(LoraError::ZeroRank);
        }
        let mut modules = targeted(spec, &lora.target_modules)?;
        modules.sort_by_key(|&(layer, projection)| (layer, projection.index()));
        let mut layout = Self {
            tensors: Vec::new(),
            layers: vec![LayerPairs::default(); spec.layers],
            len: 0,
        };
        let shares_input = |a: &(usize, Projection), b: &(usize, Projection)| {
            a.0 == b.0 && a.1.input() == b.1.input()
        };
        for group in modules.chunk_by(shares_input) {
            layout.push_group(spec, rank, group);
        }
        Ok(layout)
    }

    /// All A, then all B, of linears with one input.
    fn push_group(&mut self, spec: &Spec, rank: usize, group: &[(usize, Projection)]) {
        let start = self.len;
        let module = |&(layer, projection): &(usize, Projection)| {
            format!("base_model.model.{}", path(layer, projection))
        };
        let mut place = |linear, letter: char, rows, cols| {
            self.push(
                format!("{}.lora_{letter}.weight", module(linear)),
                rows,
                cols,
            )
        };
        let shapes = || group.iter().map(|linear| (linear, spec.shape(linear.1)));
        let a: Vec<usize> = shapes()
            .map(|(linear, (_, inputs))| place(linear, 'A', rank, inputs))
            .collect();
        let b: Vec<usize> = shapes()
            .map(|(linear, (outputs, _))| place(linear, 'B', outputs, rank))
            .collect();
        for ((&(layer, projection), a), b) in group.iter().zip(a).zip(b) {
            let pairs = &mut self.layers[layer];
            if pairs.range.is_empty() {
                pairs.range = start..start;
            }
            pairs.range.end = self.len;
            pairs.pairs[projection.index()] = Some(LoraPair { a, b, rank });
        }
    }

    fn push(&mut self, name: String, rows: usize, cols: usize) -> usize {
        let offset = self.len;
        self.tensors.push(AdapterTensor {
            name,
            rows,
            cols,
            offset,
        });
        self.len += rows * cols;
        offset
    }

    /// The matrices, in the order in which they lie.
    #[must_use]
    pub fn tensors(&self) -> &[AdapterTensor] {
        &self.tensors
    }

    /// Trainable parameters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is trained.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The numbers of one layer; empty where the layer has no adapter.
    #[must_use]
    pub fn layer(&self, layer: usize) -> Range<usize> {
        self.layers[layer].range.clone()
    }

    /// The matrices beside one linear, where it is targeted.
    #[must_use]
    pub fn pair(&self, layer: usize, projection: Projection) -> Option<LoraPair> {
        self.layers[layer].pairs[projection.index()]
    }

    /// The largest rank of any pair.
    #[must_use]
    pub fn max_rank(&self) -> usize {
        self.layers
            .iter()
            .flat_map(|layer| layer.pairs.iter().flatten())
            .map(|pair| pair.rank)
            .max()
            .unwrap_or(0)
    }

    /// Numbers of the largest layer.
    #[must_use]
    pub fn max_layer_len(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.range.len())
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests_support::toy;

    #[test]
    fn matrices_are_contiguous_and_grouped_by_layer_and_input() {
        let spec = Spec {
            layers: 12,
            ..toy()
        };
        let layout = AdapterLayout::new(
            &spec,
            &LoraSection {
                r: 4,
                ..LoraSection::default()
            },
        )
        .unwrap();
        let order: Vec<_> = layout.tensors()[..14]
            .iter()
            .map(|tensor| {
                let parts: Vec<_> = tensor.name.split('.').collect();
                format!("{} {}", parts[6], parts[7])
            })
            .collect();
        let expected = [
            "q_proj lora_A",
            "k_proj lora_A",
            "v_proj lora_A",
            "q_proj lora_B",
            "k_proj lora_B",
            "v_proj lora_B",
            "o_proj lora_A",
            "o_proj lora_B",
            "gate_proj lora_A",
            "up_proj lora_A",
            "gate_proj lora_B",
            "up_proj lora_B",
            "down_proj lora_A",
            "down_proj lora_B",
        ];
        assert_eq!(order, expected);
        let mut end = 0;
        for tensor in layout.tensors() {
            assert_eq!(tensor.offset, end, "{}", tensor.name);
            end = tensor.range().end;
            let layer: usize = tensor.name.split('.').nth(4).unwrap().parse().unwrap();
            let range = layout.layer(layer);
            assert!(
                range.start <= tensor.offset && tensor.range().end <= range.end,
                "{}",
                tensor.name
            );
        }
        assert_eq!(end, layout.len());
        assert_eq!(
            (0..12)
                .map(|layer| layout.layer(layer).len())
                .sum::<usize>(),
            layout.len()
        );
    }

    #[test]
    fn llama_3_8b_has_its_known_number_of_trainable_parameters() {
        let spec = Spec {
            hidden: 4096,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            ffn: 14_336,
            ..toy()
        };
        let layout = AdapterLayout::new(&spec, &LoraSection::default()).unwrap();
        assert_eq!(layout.len(), 41_943_040);
    }

    #[test]
    fn names_and_shapes_are_peft_s() {
        let layout = AdapterLayout::new(
            &toy(),
            &LoraSection {
                r: 4,
                ..LoraSection::default()
            },
        )
        .unwrap();
        let find = |name: &str| {
            layout
                .tensors()
                .iter()
                .find(|tensor| tensor.name == name)
                .unwrap()
        };
        let a = find("base_model.model.model.layers.1.mlp.down_proj.lora_A.weight");
        let b = find("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
        assert_eq!(
            (a.rows, a.cols, b.rows, b.cols),
            (4, toy().ffn, toy().hidden, 4)
        );
        let pair = layout.pair(1, Projection::Down).unwrap();
        assert_eq!((pair.a, pair.b, pair.rank), (a.offset, b.offset, 4));
    }

    #[test]
    fn rank_zero_is_refused() {
        let refused = AdapterLayout::new(
            &toy(),
            &LoraSection {
                r: 0,
                ..LoraSection::default()
            },
        );
        assert_eq!(refused.unwrap_err(), LoraError::ZeroRank);
    }
}
