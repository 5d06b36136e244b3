//! `weft plan`: what would run. Changes nothing but the cache of prepared data.

mod gpu;
mod share;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use weft_common::byte_size::ByteSize;
use weft_common::id::Step;
use weft_common::recipe::{Optimizer, Recipe};
use weft_worker::model::Spec;
use weft_worker::ops::Cpu;
use weft_worker::train::{MemoryPlan, PassShape};

use crate::exit::{Exit, Failure, Problems};
use crate::output::figures::{gib, grouped};
use crate::output::print;
use crate::preflight::Preflight;
use crate::recipe::{CacheArgs, RecipeArgs};
use gpu::GpuMemory;
use share::Share;

/// Steps that the figures on slots are taken from: one costs microseconds, but a long run has many.
const SAMPLED_STEPS: u64 = 1000;

/// Arguments of `weft plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// The memory of a GPU to plan for, as in `24GiB`; that of this machine's where it has one
    #[arg(long, value_name = "SIZE")]
    gpu_memory: Option<ByteSize>,
    /// Says how far the steps fill so many workers, and what a larger batch would change
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Looks at everything and prints it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let loaded = args.recipe.load()?;
    let preflight = Preflight::inspect(loaded.recipe, &args.cache.folder(), Problems::default())?;
    let mut plan = Plan::of(&preflight, gpu::limit(args.gpu_memory, &preflight));
    plan.at_workers = args.workers.map(|workers| Share::of(&preflight, workers));
    if args.json {
        let text = serde_json::to_string_pretty(&plan)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        print::line(text).map(drop)
    } else {
        print::line(plan).map(drop)
    }
}

/// What would run, in figures.
#[derive(Debug, Serialize)]
struct Plan {
    base_model: String,
    parameters: u64,
    trainable_parameters: u64,
    rows_read: u64,
    rows: u64,
    rows_dropped: BTreeMap<String, u64>,
    tokens: u64,
    supervised_tokens: u64,
    steps: u64,
    steps_per_epoch: u64,
    rows_per_step: u32,
    slots: Slots,
    workers_min: u32,
    workers_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_workers: Option<Share>,
    memory_bytes_per_worker: BTreeMap<&'static str, u64>,
    gpu: GpuMemory,
    warnings: Vec<String>,
}

/// How steps are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Slots {
    fewest_per_step: usize,
    most_per_step: usize,
    largest_tokens: u64,
}

impl Plan {
    fn of(preflight: &Preflight, gpu_limit: Option<u64>) -> Self {
        let report = preflight.prepared.report();
        let slots = Slots::of(preflight);
        let workers = preflight.recipe.worker_bounds();
        Self {
            base_model: preflight.recipe.model.base_model.clone(),
            parameters: preflight.parameters(),
            trainable_parameters: preflight.adapter_parameters(),
            rows_read: report.rows_read,
            rows: report.rows,
            rows_dropped: report
                .dropped()
                .map(|(dropped, rows)| (dropped.to_string(), rows))
                .collect(),
            tokens: report.tokens,
            supervised_tokens: report.supervised,
            steps: preflight.planner.total_steps(),
            steps_per_epoch: preflight.planner.steps_per_epoch(),
            rows_per_step: preflight.recipe.rows_per_step(),
            slots,
            workers_min: *workers.start(),
            workers_max: *workers.end(),
            at_workers: None,
            memory_bytes_per_worker: memory(preflight, slots.largest_tokens),
            gpu: GpuMemory::of(preflight, slots.largest_tokens, gpu_limit),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Slots {
    fn of(preflight: &Preflight) -> Self {
        let steps = 0..preflight.planner.total_steps().min(SAMPLED_STEPS);
        let plans = steps.map(|step| preflight.planner.step(Step(step)));
        let none = Self {
            fewest_per_step: usize::MAX,
            most_per_step: 0,
            largest_tokens: 0,
        };
        plans.fold(none, |sofar, plan| Self {
            fewest_per_step: sofar.fewest_per_step.min(plan.slots.len()),
            most_per_step: sofar.most_per_step.max(plan.slots.len()),
            largest_tokens: plan
                .slots
                .iter()
                .map(|slot| slot.tokens)
                .fold(sofar.largest_tokens, u64::max),
        })
    }
}

/// What one worker needs at least.
pub(crate) fn least_memory_bytes(preflight: &Preflight) -> u64 {
    let plans = memory(preflight, Slots::of(preflight).largest_tokens);
    plans.into_values().min().unwrap_or(0)
}

/// What one worker needs with each memory plan.
fn memory(preflight: &Preflight, slot_tokens: u64) -> BTreeMap<&'static str, u64> {
    let (spec, recipe) = (&preflight.spec, &preflight.recipe);
    let tokens = usize::try_from(slot_tokens).unwrap_or(usize::MAX);
    let state = base_bytes(spec, recipe) + state_bytes(recipe, preflight.adapter_parameters());
    let plans = [
        ("keep everything", MemoryPlan::keep_all(spec)),
        ("recompute", MemoryPlan::recompute()),
    ];
    let shape = PassShape {
        tokens,
        rank: recipe.lora.r as usize,
    };
    let total = |plan: MemoryPlan| state + plan.bytes(&Cpu::new(), spec, shape);
    plans
        .into_iter()
        .map(|(name, plan)| (name, total(plan)))
        .collect()
}

/// The frozen base in host memory.
fn base_bytes(spec: &Spec, recipe: &Recipe) -> u64 {
    let linears = spec.linear_parameters() as u64;
    let others = spec.parameters() as u64 - linears;
    // Four bits a weight, a byte for each block of 64, and four for each 256 of those; else 16 bits.
    let linear_bytes = if recipe.model.load_in_4bit {
        linears / 2 + linears / 64 + linears / (64 * 256) * 4
    } else {
        linears * 2
    };
    linear_bytes + others * 2
}

/// Adapter, its gradient in both forms, and the optimizer's two moments.
fn state_bytes(recipe: &Recipe, parameters: u64) -> u64 {
    let moments = match recipe.training.optim {
        Optimizer::AdamW8bit => 2,
        Optimizer::AdamW => 2 * size_of::<f32>(),
    };
    let gradient = size_of::<i64>() + size_of::<f32>();
    parameters * (size_of::<f32>() + gradient + moments) as u64
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.trainable_parameters as f64 / self.parameters.max(1) as f64 * 100.0;
        writeln!(f, "model      {}", self.base_model)?;
        writeln!(
            f,
            "parameters {} trainable of {} ({share:.2}%)",
            grouped(self.trainable_parameters),
            grouped(self.parameters)
        )?;
        writeln!(
            f,
            "rows       {} of {} read",
            grouped(self.rows),
            grouped(self.rows_read)
        )?;
        for (reason, rows) in &self.rows_dropped {
            writeln!(f, "           {} dropped: {reason}", grouped(*rows))?;
        }
        writeln!(
            f,
            "tokens     {}, {} of them supervised",
            grouped(self.tokens),
            grouped(self.supervised_tokens)
        )?;
        writeln!(
            f,
            "steps      {} of {} rows, {} per epoch",
            grouped(self.steps),
            self.rows_per_step,
            grouped(self.steps_per_epoch)
        )?;
        let Slots {
            fewest_per_step,
            most_per_step,
            largest_tokens,
        } = self.slots;
        writeln!(
            f,
            "slots      {fewest_per_step} to {most_per_step} per step, at most {} tokens",
            grouped(largest_tokens)
        )?;
        writeln!(f, "workers    {} to {}", self.workers_min, self.workers_max)?;
        if let Some(share) = &self.at_workers {
            writeln!(f, "{share}")?;
        }
        for (plan, bytes) in &self.memory_bytes_per_worker {
            writeln!(
                f,
                "memory     {:.3} GiB per worker on CPUs with plan \"{plan}\"",
                gib(*bytes)
            )?;
        }
        writeln!(f, "{}", self.gpu)?;
        match self.warnings.as_slice() {
            [] => write!(f, "lint       nothing to report"),
            warnings => {
                let lines: Vec<String> = warnings
                    .iter()
                    .map(|warning| format!("lint       {warning}"))
                    .collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}
