//! What is kept from the forward pass for the backward pass.

use weft_common::recipe::GradientCheckpointing;

use super::pass;
use crate::model::Spec;
use crate::ops::Sizes;

/// How many layers keep their activations, the others being computed again from their input, and where inputs are kept.
/// No plan changes a bit of the result.
///
/// Layers are kept from the top, because the last one's are still there when the backward begins: at least one always
/// is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    kept_layers: usize,
    offloads: bool,
}

/// Dimensions that a pass's memory depends on, beside the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassShape {
    /// Tokens of the largest micro-batch.
    pub tokens: usize,
    /// The largest rank of an adapter.
    pub rank: usize,
}

impl MemoryPlan {
    /// Every layer keeps its activations.
    #[must_use]
    pub fn keep_all(spec: &Spec) -> Self {
        Self::keep(spec.layers)
    }

    /// Only the last layer does.
    #[must_use]
    pub fn recompute() -> Self {
        Self::keep(1)
    }

    /// Only the last layer does, and inputs of layers are kept in host memory, for devices that have their own.
    #[must_use]
    pub fn offload() -> Self {
        Self {
            offloads: true,
            ..Self::recompute()
        }
    }

    fn keep(kept_layers: usize) -> Self {
        Self {
            kept_layers,
            offloads: false,
        }
    }

    /// The plan that a recipe asks for; `auto` keeps as many layers as `budget_bytes` allows, and none where nothing else was
    /// let lie on the device either.
    #[must_use]
    pub fn choose(
        ops: &impl Sizes,
        spec: &Spec,
        checkpointing: GradientCheckpointing,
        shape: PassShape,
        budget_bytes: u64,
    ) -> Self {
        match checkpointing {
            GradientCheckpointing::False => Self::keep_all(spec),
            GradientCheckpointing::True => Self::recompute(),
            GradientCheckpointing::Unsloth => Self::offload(),
            GradientCheckpointing::Auto if ops.is_lean() => Self::offload(),
            GradientCheckpointing::Auto => {
                let fits = |plan: &Self| plan.bytes(ops, spec, shape) <= budget_bytes;
                (1..=spec.layers)
                    .rev()
                    .map(Self::keep)
                    .find(fits)
                    .unwrap_or(Self::offload())
            }
        }
    }

    /// The same for a job whose workers may be several: `peers_bytes` of the budget are left for what they sum through,
    /// unless inputs of layers had to go to host memory for that.
    #[must_use]
    pub fn choose_beside_peers(
        ops: &impl Sizes,
        spec: &Spec,
        checkpointing: GradientCheckpointing,
        shape: PassShape,
        (budget_bytes, peers_bytes): (u64, u64),
    ) -> Self {
        let within = |budget| Self::choose(ops, spec, checkpointing, shape, budget);
        let beside = within(budget_bytes.saturating_sub(peers_bytes));
        match beside.offloads {
            true => within(budget_bytes),
            false => beside,
        }
    }

    /// What it is called for people.
    #[must_use]
    pub fn name(self, spec: &Spec) -> String {
        match (self.kept_layers, self.offloads) {
            (_, true) => "recompute, inputs in host memory".to_owned(),
            (kept, false) if kept == spec.layers => "keep everything".to_owned(),
            (1, false) => "recompute".to_owned(),
            (kept, false) => format!("keep {kept} of {} layers", spec.layers),
        }
    }

    /// What to do first where it has no room.
    #[must_use]
    pub fn first_way_out(self) -> &'static str {
        match self.offloads {
            true => "take a GPU with more memory",
            false => "set lora.use_gradient_checkpointing: unsloth",
        }
    }

    /// Layers that keep their activations.
    #[must_use]
    pub fn kept_layers(self) -> usize {
        self.kept_layers
    }

    /// Whether inputs of layers are kept in host memory.
    #[must_use]
    pub fn offloads(self) -> bool {
        self.offloads
    }

    /// Bytes of device memory that a pass takes, scratch of the device included.
    #[must_use]
    pub fn bytes(self, ops: &impl Sizes, spec: &Spec, shape: PassShape) -> u64 {
        pass::bytes(ops, spec, self, shape)
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

    const SHAPE: PassShape = PassShape {
        tokens: 128,
        rank: 16,
    };

    fn chosen(checkpointing: GradientCheckpointing, budget: u64) -> MemoryPlan {
        let spec = Spec { layers: 8, ..toy() };
        MemoryPlan::choose(&Cpu::new(), &spec, checkpointing, SHAPE, budget)
    }

    #[test]
    fn auto_keeps_as_many_layers_as_the_budget_allows() {
        let spec = Spec { layers: 8, ..toy() };
        let bytes = |kept_layers| MemoryPlan::keep(kept_layers).bytes(&Cpu::new(), &spec, SHAPE);
        let kept = |budget| chosen(GradientCheckpointing::Auto, budget).kept_layers();
        assert_eq!(kept(bytes(5)), 5);
        assert_eq!(kept(bytes(5) - 1), 4);
        assert_eq!(kept(u64::MAX), 8);
        assert_eq!(kept(0), 1);
        assert!(!chosen(GradientCheckpointing::Auto, bytes(1)).offloads());
        assert!(chosen(GradientCheckpointing::Auto, bytes(1) - 1).offloads());
    }

    #[test]
    fn what_peers_need_is_left_unless_inputs_had_to_leave_for_it() {
        let spec = Spec { layers: 8, ..toy() };
        let bytes = |kept_layers| MemoryPlan::keep(kept_layers).bytes(&Cpu::new(), &spec, SHAPE);
        let beside = |budgets| {
            let auto = GradientCheckpointing::Auto;
            MemoryPlan::choose_beside_peers(&Cpu::new(), &spec, auto, SHAPE, budgets)
        };
        let peers = bytes(3) - bytes(2);
        assert_eq!(beside((bytes(5), peers)).kept_layers(), 4);
        assert_eq!(beside((bytes(2), peers)).kept_layers(), 1);
        let least = beside((bytes(1), peers));
        assert!(!least.offloads() && least.kept_layers() == 1);
        assert!(beside((bytes(1) - 1, peers)).offloads());
    }

    #[test]
    fn an_explicit_choice_ignores_the_budget() {
        let kept = |checkpointing, budget| chosen(checkpointing, budget).kept_layers();
        assert_eq!(kept(GradientCheckpointing::False, 0), 8);
        assert_eq!(kept(GradientCheckpointing::True, u64::MAX), 1);
        assert!(chosen(GradientCheckpointing::Unsloth, u64::MAX).offloads());
    }

    #[test]
    fn layers_that_are_not_kept_share_the_lowest_place() {
        let spec = Spec { layers: 5, ..toy() };
        let plan = MemoryPlan::keep(2);
        let slots: Vec<_> = (0..5)
            .map(|layer| (plan.slot(&spec, layer), plan.recomputes(&spec, layer)))
            .collect();
        assert_eq!(
            slots,
            [(0, true), (0, true), (0, true), (0, false), (1, false)]
        );
    }
}
