//! Whether a plan's memory is there, looked at before the first step.

use weft_common::byte_size::ByteSize;
use weft_common::recipe::{GradientCheckpointing, Recipe};

use super::{MemoryPlan, PassShape};
use crate::model::Spec;
use crate::ops::Sizes;

/// A memory plan that needs more than there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory plan \"{plan}\" needs {needed} for micro-batches of {tokens} tokens, and {free} are left beside the base model \
     and the adapter; {first}, lower training.per_device_train_batch_size, or lower model.max_seq_length (what else uses the \
     GPU is listed by nvidia-smi, and resources.memory_limit counts)",
    first = self.first_way_out
)]
pub struct NoRoom {
    /// The plan's name.
    pub plan: String,
    /// What to do first.
    pub first_way_out: &'static str,
    /// What it needs.
    pub needed: ByteSize,
    /// What there is.
    pub free: ByteSize,
    /// Tokens of the largest micro-batch.
    pub tokens: usize,
}

/// Refuses a plan that needs `needed` bytes where `free` are left.
pub(super) fn check(
    (plan, spec): (MemoryPlan, &Spec),
    shape: PassShape,
    needed: u64,
    free: u64,
) -> Result<(), NoRoom> {
    if needed <= free {
        return Ok(());
    }
    Err(NoRoom {
        plan: plan.name(spec),
        first_way_out: plan.first_way_out(),
        needed: ByteSize(needed),
        free: ByteSize(free),
        tokens: shape.tokens,
    })
}

/// What a job's workers may want of each GPU from the first sum of `params` gradients on, where there may be several of them.
#[must_use]
pub fn for_peers(recipe: &Recipe, ops: &impl Sizes, params: usize) -> u64 {
    match *recipe.worker_bounds().end() {
        0 | 1 => 0,
        _ => ops.peers_bytes(params),
    }
}

/// What is left of `budget` bytes beside a pass that needs `needed`, where the recipe leaves it open what memory is for: not
/// the sums of `params` gradients that a slot at a step's end may want later, nor `peers` bytes.
pub fn spare(
    (plan, spec): (MemoryPlan, &Spec),
    checkpointing: GradientCheckpointing,
    (budget, peers): (u64, u64),
    needed: u64,
    params: usize,
) -> u64 {
    let later = (params * size_of::<i64>()) as u64 + peers;
    match checkpointing {
        GradientCheckpointing::Auto if plan == MemoryPlan::keep_all(spec) => {
            budget.saturating_sub(needed + later)
        }
        GradientCheckpointing::Auto
        | GradientCheckpointing::True
        | GradientCheckpointing::False
        | GradientCheckpointing::Unsloth => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn a_plan_that_does_not_fit_is_named_with_three_ways_out() {
        let spec = Preset::Llama3_8b.spec();
        let shape = PassShape {
            tokens: 8192,
            rank: 16,
        };
        let refused = |plan| check((plan, &spec), shape, 9 << 30, 8 << 30).unwrap_err();
        let keep = refused(MemoryPlan::keep_all(&spec)).to_string();
        for part in [
            "\"keep everything\" needs 9.000 GiB",
            "8192 tokens",
            "8.000 GiB are left",
            "lora.use_gradient_checkpointing: unsloth",
            "training.per_device_train_batch_size",
            "model.max_seq_length",
        ] {
            assert!(keep.contains(part), "{part} is missing in {keep}");
        }
        let least = refused(MemoryPlan::offload()).to_string();
        assert!(
            least.contains("more memory") && !least.contains("unsloth"),
            "{least}"
        );
        let plan = MemoryPlan::recompute();
        assert_eq!(check((plan, &spec), shape, 8 << 30, 8 << 30), Ok(()));
    }

    #[test]
    fn what_is_left_is_spent_only_where_everything_is_kept_and_the_recipe_leaves_it_open() {
        let spec = Preset::Llama3_8b.spec();
        let spare = |plan, checkpointing| spare((plan, &spec), checkpointing, (100, 7), 50, 2);
        let (keep, auto) = (MemoryPlan::keep_all(&spec), GradientCheckpointing::Auto);
        assert_eq!(spare(keep, auto), 100 - 50 - 16 - 7);
        assert_eq!(spare(keep, GradientCheckpointing::False), 0);
        assert_eq!(spare(MemoryPlan::recompute(), auto), 0);
    }
}
