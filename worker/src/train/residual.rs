//! The residual stream of a pass: the input of every layer, and the output of the last.

use crate::model::Spec;
use crate::ops::{Ops, Sizes};

/// Places that inputs take turns in where the others are kept off the device.
///
/// Layer i reads place i and writes place i + 1, modulo three, while input i − 1 is still on its way out; in the backward,
/// input i − 1 comes in while layer i reads its own, so that copies and work overlap.
const PLACES: usize = 3;

/// Inputs of all layers, each where it was computed, or in host memory but for the last few.
pub(super) struct Residuals<O: Ops> {
    layers: usize,
    shape: (usize, usize),
    places: Vec<O::Buf>,
    /// One for each layer but the last two, whose inputs are still in place; empty where all are.
    stored: Vec<O::Store>,
}

impl<O: Ops> Residuals<O> {
    /// Room for `tokens` tokens.
    pub(super) fn new(ops: &O, spec: &Spec, tokens: usize, offload: bool) -> Self {
        let (layers, width) = (spec.layers, spec.hidden);
        let places = Self::places(spec, offload);
        // The inputs that are not in one of the places at the end of the forward, where the last output has one too.
        let stored = layers + 1 - places;
        Self {
            layers,
            shape: (0, width),
            places: (0..places).map(|_| ops.alloc(tokens, width)).collect(),
            stored: (0..stored)
                .map(|_| ops.alloc_store(tokens, width))
                .collect(),
        }
    }

    /// Bytes of device memory that the places take.
    pub(super) fn bytes(ops: &impl Sizes, spec: &Spec, tokens: usize, offload: bool) -> u64 {
        let places = Self::places(spec, offload);
        places as u64 * ops.matrix_bytes(tokens, &[spec.hidden])
    }

    fn places(spec: &Spec, offload: bool) -> usize {
        if offload && spec.layers >= PLACES {
            PLACES
        } else {
            spec.layers + 1
        }
    }

    /// Where the embeddings of `tokens` tokens go.
    pub(super) fn start(&mut self, ops: &O, tokens: usize) -> &mut O::Buf {
        // A pass that was abandoned may have left copies under way.
        self.stored.iter().for_each(|stored| ops.settle(stored));
        self.shape.0 = tokens;
        &mut self.places[0]
    }

    /// The input of a layer and where its output goes; the input starts on its way out, where it is to be kept there.
    pub(super) fn step(&mut self, ops: &O, layer: usize) -> (&O::Buf, &mut O::Buf) {
        let (from, to) = (self.place(layer), self.place(layer + 1));
        // The output's place held the input two layers below.
        if let Some(leaving) = (layer + 1)
            .checked_sub(PLACES)
            .and_then(|i| self.stored.get(i))
        {
            ops.settle(leaving);
        }
        if let Some(store) = self.stored.get_mut(layer) {
            ops.store(self.shape, &self.places[from], store);
        }
        let [from, to] = self
            .places
            .get_disjoint_mut([from, to])
            .expect("neighbours lie in different places");
        (from, to)
    }

    /// The last layer's output.
    pub(super) fn last(&self) -> &O::Buf {
        &self.places[self.place(self.layers)]
    }

    /// The input of a layer, for its backward. Layers come last to first, each once.
    pub(super) fn input(&mut self, ops: &O, layer: usize) -> &O::Buf {
        if let Some(next) = layer.checked_sub(PLACES - 1) {
            let place = self.place(next);
            if let Some(store) = self.stored.get_mut(next) {
                ops.load(self.shape, store, &mut self.places[place]);
            }
        }
        if let Some(arrived) = self.stored.get(layer) {
            ops.settle(arrived);
        }
        &self.places[self.place(layer)]
    }

    fn place(&self, index: usize) -> usize {
        index % self.places.len()
    }
}
