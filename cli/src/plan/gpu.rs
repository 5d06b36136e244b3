//! The memory that a job takes of a GPU under each plan, and the plan that it would run with. Needs no GPU.

use std::fmt;

use serde::Serialize;
use weft_common::byte_size::ByteSize;
use weft_worker::cuda::Inventory;
use weft_worker::cuda::library::Environment;
use weft_worker::ops::cuda::CudaSizes;
use weft_worker::train::{MemoryPlan, PassShape, for_peers, spare};

use crate::output::figures::gib;
use crate::preflight::Preflight;

/// Memory of a job on a GPU, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct GpuMemory {
    /// What it may take; unknown where no GPU was found and none was described.
    limit_bytes: Option<u64>,
    base_bytes: u64,
    /// Adapter, optimizer and gradient sums.
    state_bytes: u64,
    /// Driver, libraries, kernels.
    context_bytes: u64,
    plans: Vec<GpuPlan>,
    /// What the chosen plan leaves for weights that stay in 16 bits.
    resident_bytes: u64,
}

/// One plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct GpuPlan {
    name: String,
    /// Activations and scratch.
    pass_bytes: u64,
    total_bytes: u64,
    chosen: bool,
    /// What to do first where it does not fit.
    #[serde(skip)]
    first_way_out: &'static str,
}

/// The least of what was described or else found, and what the recipe allows.
pub(super) fn limit(described: Option<ByteSize>, preflight: &Preflight) -> Option<u64> {
    let there = described.map(|size| size.0).or_else(found);
    let allowed = preflight.recipe.resources.memory_limit_bytes();
    there.into_iter().chain(allowed).min()
}

/// The memory of this machine's first GPU.
fn found() -> Option<u64> {
    let gpus = Inventory::take(&Environment::of_process()).gpus.ok()?;
    gpus.first().map(|gpu| gpu.memory_bytes)
}

impl GpuMemory {
    /// Counts what a job takes whose largest slot has so many tokens.
    pub(super) fn of(preflight: &Preflight, slot_tokens: u64, limit_bytes: Option<u64>) -> Self {
        let Preflight {
            recipe,
            spec,
            adapter,
            ..
        } = preflight;
        let shape = PassShape {
            tokens: usize::try_from(slot_tokens).unwrap_or(usize::MAX),
            rank: adapter.max_rank(),
        };
        let beside_context =
            limit_bytes.map(|limit| limit.saturating_sub(CudaSizes::CONTEXT_BYTES));
        let sizes = CudaSizes::of_job(recipe, (spec, adapter), shape, beside_context);
        let counted = |sizes: CudaSizes| Counted {
            base_bytes: sizes.base_bytes(spec, recipe.model.load_in_4bit),
            state_bytes: sizes.state_bytes(adapter, recipe.training.optim),
        };
        let checkpointing = recipe.lora.use_gradient_checkpointing;
        let peers = for_peers(recipe, &sizes, adapter.len());
        let budgets = limit_bytes.map(|limit| {
            let free = limit.saturating_sub(counted(sizes).taken());
            (CudaSizes::budget(free), peers)
        });
        let chosen = budgets.map(|budgets| {
            MemoryPlan::choose_beside_peers(&sizes, spec, checkpointing, shape, budgets)
        });
        let resident_bytes = budgets.zip(chosen).map_or(0, |(budgets, plan)| {
            let needed = plan.bytes(&sizes, spec, shape);
            let spare = spare((plan, spec), checkpointing, budgets, needed, adapter.len());
            spare.min(sizes.resident_bytes(spec))
        });
        let mut plans = vec![
            MemoryPlan::keep_all(spec),
            MemoryPlan::recompute(),
            MemoryPlan::offload(),
        ];
        // Between the first two, where it is none of them.
        if let Some(chosen) = chosen.filter(|chosen| !plans.contains(chosen)) {
            plans.insert(1, chosen);
        }
        let plan = |plan: MemoryPlan| {
            // What offloads inputs offloads what else it can.
            let lean = plan.offloads();
            let sizes = CudaSizes { lean, ..sizes };
            let pass_bytes = plan.bytes(&sizes, spec, shape);
            GpuPlan {
                name: plan.name(spec),
                pass_bytes,
                total_bytes: counted(sizes).taken() + pass_bytes,
                chosen: chosen == Some(plan),
                first_way_out: plan.first_way_out(),
            }
        };
        Self {
            limit_bytes,
            base_bytes: counted(sizes).base_bytes,
            state_bytes: counted(sizes).state_bytes,
            context_bytes: CudaSizes::CONTEXT_BYTES,
            plans: plans.into_iter().map(plan).collect(),
            resident_bytes,
        }
    }
}

/// What is there before a pass, beside the context.
#[derive(Debug, Clone, Copy)]
struct Counted {
    base_bytes: u64,
    state_bytes: u64,
}

impl Counted {
    fn taken(self) -> u64 {
        self.base_bytes + self.state_bytes + CudaSizes::CONTEXT_BYTES
    }
}

impl fmt::Display for GpuMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "gpu        {:.3} GiB base, {:.3} GiB adapter and optimizer, {:.3} GiB context",
            gib(self.base_bytes),
            gib(self.state_bytes),
            gib(self.context_bytes)
        )?;
        for plan in &self.plans {
            write!(
                f,
                "\n           {:>8.3} GiB per worker with plan \"{}\", {:.3} of them for activations and scratch",
                gib(plan.total_bytes),
                plan.name,
                gib(plan.pass_bytes)
            )?;
        }
        let chosen = self.plans.iter().find(|plan| plan.chosen);
        let (Some(limit), Some(chosen)) = (self.limit_bytes, chosen) else {
            return f.write_str("\n           --gpu-memory says which plan a GPU would run with");
        };
        if chosen.total_bytes > limit {
            return write!(
                f,
                "\n           too much for {}: \"{}\" would not start; {}, lower \
                 training.per_device_train_batch_size, or lower model.max_seq_length",
                ByteSize(limit),
                chosen.name,
                chosen.first_way_out
            );
        }
        write!(
            f,
            "\n           chosen for {:.3} GiB: \"{}\"",
            gib(limit),
            chosen.name
        )?;
        if self.resident_bytes == 0 {
            return Ok(());
        }
        write!(
            f,
            ", and {:.3} GiB for weights that stay in 16 bits, which saves time",
            gib(self.resident_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(limit_gib: u64) -> GpuMemory {
        let plan = |name: &str, gib: u64, chosen| GpuPlan {
            name: name.to_owned(),
            pass_bytes: gib << 30,
            total_bytes: (gib + 7) << 30,
            chosen,
            first_way_out: MemoryPlan::offload().first_way_out(),
        };
        GpuMemory {
            limit_bytes: Some(limit_gib << 30),
            base_bytes: 5 << 30,
            state_bytes: 1 << 30,
            context_bytes: 1 << 30,
            plans: vec![plan("keep all", 20, false), plan("recompute", 2, true)],
            resident_bytes: 0,
        }
    }

    #[test]
    fn each_plan_has_its_memory_and_one_is_chosen() {
        let text = memory(24).to_string();
        for part in [
            "5.000 GiB base, 1.000 GiB adapter and optimizer, 1.000 GiB context",
            "  27.000 GiB per worker with plan \"keep all\", 20.000 of them",
            "   9.000 GiB per worker with plan \"recompute\"",
            "chosen for 24.000 GiB: \"recompute\"",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_job_that_does_not_fit_is_told_what_to_lower() {
        let text = memory(8).to_string();
        assert!(text.contains("too much for 8.000 GiB"), "{text}");
        assert!(text.contains("per_device_train_batch_size"), "{text}");
        let unknown = GpuMemory {
            limit_bytes: None,
            ..memory(8)
        };
        assert!(unknown.to_string().contains("--gpu-memory"));
    }
}
