//! What is kept from the forward pass for the backward pass.

use weft_common::recipe::GradientCheckpointing;

use crate::model::Spec;
use crate::model::layer::{Activations, Workspace};
use crate::ops::Ops;

/// How many layers keep their activations; the others are computed again from their input. No plan changes a bit of
/// the result.
///
/// Inputs of all layers are always kept. Layers are kept from the top, because the last one's are still there when
/// the backward begins: at least one always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    kept_layers: usize,
}

impl MemoryPlan {
    /// Every layer keeps its activations.
    #[must_use]
    pub fn keep_all(spec: &Spec) -> Self {
        Self {
            kept_layers: spec.layers,
        }
    }

    /// Only the last layer does.
    #[must_use]
    pub fn recompute() -> Self {
        Self { kept_layers: 1 }
    }

    /// The plan that a recipe asks for; `auto` keeps as many layers as `budget_bytes` allows at `tokens` tokens a
    /// micro-batch.
    #[must_use]
    pub fn choose<O: Ops>(
        spec: &Spec,
        checkpointing: GradientCheckpointing,
        (tokens, rank): (usize, usize),
        budget_bytes: u64,
    ) -> Self {
        match checkpointing {
            GradientCheckpointing::False => Self::keep_all(spec),
            GradientCheckpointing::True | GradientCheckpointing::Unsloth => Self::recompute(),
            GradientCheckpointing::Auto => {
                let plan = |kept_layers| Self { kept_layers };
                let fits = |plan: &Self| plan.bytes::<O>(spec, tokens, rank) <= budget_bytes;
                (1..=spec.layers)
                    .rev()
                    .map(plan)
                    .find(fits)
                    .unwrap_or(Self::recompute())
            }
        }
    }

    /// Layers that keep their activations.
    #[must_use]
    pub fn kept_layers(self) -> usize {
        self.kept_layers
    }

    /// Bytes of the pass's buffers at `tokens` tokens and adapter rank `rank`, the loss's chunk not counted.
    #[must_use]
    pub fn bytes<O: Ops>(self, spec: &Spec, tokens: usize, rank: usize) -> u64 {
        let inputs = (spec.layers + 1) * spec.hidden;
        let kept = self.kept_layers * Activations::<O>::per_token(spec);
        let work = Workspace::<O>::per_token(spec, rank);
        // The gradient of the residual stream, and what the loss gathers: rows, their norm, two gradients.
        let loss = 5 * spec.hidden + 1;
        let numbers = tokens * (inputs + kept + work + loss);
        (numbers * O::ELEMENT_BYTES) as u64
    }

    /// Where layer `layer` puts its activations. Layers that are not kept share the first place with the lowest kept
    /// one.
    pub(super) fn slot(self, spec: &Spec, layer: usize) -> usize {
        layer.saturating_sub(spec.layers - self.kept_layers)
    }

    /// Whether the activations of `layer` are gone when its backward comes.
    pub(super) fn recomputes(self, spec: &Spec, layer: usize) -> bool {
        layer < spec.layers - self.kept_layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests_support::toy;
    use crate::ops::Cpu;

    const SHAPE: (usize, usize) = (128, 16);

    fn chosen(checkpointing: GradientCheckpointing, budget: u64) -> usize {
        let spec = Spec { layers: 8, ..toy() };
        MemoryPlan::choose::<Cpu>(&spec, checkpointing, SHAPE, budget).kept_layers()
    }

    #[test]
    fn auto_keeps_as_many_layers_as_the_budget_allows() {
        let spec = Spec { layers: 8, ..toy() };
        let bytes = |kept_layers| MemoryPlan { kept_layers }.bytes::<Cpu>(&spec, SHAPE.0, SHAPE.1);
        assert_eq!(chosen(GradientCheckpointing::Auto, bytes(5)), 5);
        assert_eq!(chosen(GradientCheckpointing::Auto, bytes(5) - 1), 4);
        assert_eq!(chosen(GradientCheckpointing::Auto, u64::MAX), 8);
        assert_eq!(chosen(GradientCheckpointing::Auto, 0), 1);
    }

    #[test]
    fn an_explicit_choice_ignores_the_budget() {
        assert_eq!(chosen(GradientCheckpointing::False, 0), 8);
        assert_eq!(chosen(GradientCheckpointing::True, u64::MAX), 1);
    }

    #[test]
    fn layers_that_are_not_kept_share_the_lowest_place() {
        let spec = Spec { layers: 5, ..toy() };
        let plan = MemoryPlan { kept_layers: 2 };
        let slots: Vec<_> = (0..5)
            .map(|layer| (plan.slot(&spec, layer), plan.recomputes(&spec, layer)))
            .collect();
        assert_eq!(
            slots,
            [(0, true), (0, true), (0, true), (0, false), (1, false)]
        );
    }
}
