//! What keys mean together. Types and ranges of single keys are the schema's (`check`).

use std::collections::BTreeSet;

use crate::byte_size::{ByteSize, HOW};
use crate::store::StoreUrl;

use super::{BatchScaling, DatasetSection, LrSchedulerType, Problem, Recipe, TargetModules};

/// Where `polynomial` ends, as Hugging Face's default has it.
const POLYNOMIAL_END: f64 = 1e-7;

/// Appends what does not make sense together. Rules over a key in `refused` are left out: it has been reported already,
/// and the default that stands in for it would make a second, misleading message.
pub(super) fn validate(recipe: &Recipe, refused: &BTreeSet<String>, problems: &mut Vec<Problem>) {
    let mut rules = Rules { refused, problems };
    batch(recipe, &mut rules);
    length(recipe, &mut rules);
    workers(recipe, &mut rules);
    adapter(recipe, &mut rules);
    storage(recipe, &mut rules);
    memory_limit(recipe, &mut rules);
    for (name, datasets) in [
        ("datasets", &recipe.datasets),
        ("eval_datasets", &recipe.eval_datasets),
    ] {
        for (index, dataset) in datasets.iter().enumerate() {
            columns(&format!("{name}[{index}].columns"), dataset, &mut rules);
        }
    }
}

struct Rules<'a> {
    refused: &'a BTreeSet<String>,
    problems: &'a mut Vec<Problem>,
}

impl Rules<'_> {
    /// Reports `problem` where `broken`; the first of `keys` is the one to change.
    fn rule(
        &mut self,
        keys: &[&str],
        broken: bool,
        found: impl std::fmt::Display,
        what: String,
        remedy: &str,
    ) {
        if broken && !keys.iter().any(|key| self.refused.contains(*key)) {
            self.problems
                .push(Problem::new(keys[0], what, remedy).found(found));
        }
    }
}

const MICRO_BATCH: &str = "training.per_device_train_batch_size";
const ACCUMULATION: &str = "training.gradient_accumulation_steps";
const GLOBAL_BATCH: &str = "training.global_batch_size";

fn batch(recipe: &Recipe, rules: &mut Rules<'_>) {
    let training = &recipe.training;
    let (per_slot, steps) = (
        training.per_device_train_batch_size,
        training.gradient_accumulation_steps,
    );
    let overflows = per_slot.checked_mul(steps).is_none();
    let what = format!("times {MICRO_BATCH} {per_slot} exceeds {}", u32::MAX);
    rules.rule(
        &[ACCUMULATION, MICRO_BATCH],
        overflows,
        steps,
        what,
        "lower one of them",
    );
    let Some(global) = training.global_batch_size else {
        return;
    };
    let what = format!("is less than one micro-batch of {MICRO_BATCH} {per_slot}");
    let remedy = "lower the micro-batch or raise the global batch";
    rules.rule(
        &[GLOBAL_BATCH, MICRO_BATCH],
        global < per_slot,
        global,
        what,
        remedy,
    );
    let fitting = global.div_ceil(per_slot.max(1));
    let what = format!(
        "contradicts {ACCUMULATION} {steps}: with {MICRO_BATCH} {per_slot} it takes {fitting}"
    );
    let keys = [GLOBAL_BATCH, MICRO_BATCH, ACCUMULATION];
    rules.rule(
        &keys,
        global >= per_slot && steps != fitting,
        global,
        what,
        "keep one of the two",
    );
}

fn length(recipe: &Recipe, rules: &mut Rules<'_>) {
    let training = &recipe.training;
    let endless = training.max_steps().is_none() && training.num_train_epochs == 0.0;
    let what = "and training.max_steps is unset, so that there is nothing to do".to_owned();
    let keys = ["training.num_train_epochs", "training.max_steps"];
    rules.rule(
        &keys,
        endless,
        training.num_train_epochs,
        what,
        "set one of the two above 0",
    );
    let polynomial = training.lr_scheduler_type == LrSchedulerType::Polynomial;
    let too_low = polynomial && training.learning_rate <= POLYNOMIAL_END;
    let what = format!("is not above {POLYNOMIAL_END:e}, where the polynomial schedule ends");
    let keys = ["training.learning_rate", "training.lr_scheduler_type"];
    rules.rule(
        &keys,
        too_low,
        training.learning_rate,
        what,
        "raise it or take another schedule",
    );
}

fn workers(recipe: &Recipe, rules: &mut Rules<'_>) {
    let range = recipe.resources.workers;
    let keys = [
        "resources.workers",
        "training.batch_scaling",
        MICRO_BATCH,
        ACCUMULATION,
        GLOBAL_BATCH,
    ];
    let per_worker = recipe.training.batch_scaling == BatchScaling::PerWorker;
    let unbounded = per_worker && range.max.is_none();
    let what = "needs resources.workers.max, by which it multiplies the global batch".to_owned();
    let remedy = "set resources.workers.max, or batch_scaling to fixed";
    rules.rule(
        &["training.batch_scaling", "resources.workers"],
        unbounded,
        "per_worker",
        what,
        remedy,
    );
    let max = recipe.max_slots();
    let what = match range.max {
        Some(max) => format!("has min above max {max}"),
        None => {
            format!("has min above {max}, the micro-batches of a step, which is the default of max")
        }
    };
    let crossed = !unbounded && range.min > max;
    rules.rule(
        &keys,
        crossed,
        format!("{{min: {}}}", range.min),
        what,
        "lower min or set a larger max",
    );
}

fn adapter(recipe: &Recipe, rules: &mut Rules<'_>) {
    let lora = &recipe.lora;
    let what = "adapter dropout is not supported".to_owned();
    rules.rule(
        &["lora.lora_dropout"],
        lora.lora_dropout != 0.0,
        lora.lora_dropout,
        what,
        "set it to 0",
    );
    let (empty, found) = match &lora.target_modules {
        TargetModules::Names(names) => (
            names.is_empty() || names.iter().any(String::is_empty),
            format!("{names:?}"),
        ),
        TargetModules::Pattern(pattern) => (pattern.is_empty(), format!("{pattern:?}")),
    };
    let remedy = "name modules such as q_proj, or write all-linear";
    rules.rule(
        &["lora.target_modules"],
        empty,
        found,
        "names no module".to_owned(),
        remedy,
    );
}

fn storage(recipe: &Recipe, rules: &mut Rules<'_>) {
    let Some(text) = &recipe.training.storage else {
        return;
    };
    if let Err(error) = text.parse::<StoreUrl>() {
        let what = error.to_string();
        let (what, remedy) = what.split_once("; ").unwrap_or((&what, "correct it"));
        // A secret in it must not get into logs.
        let found = text.rsplit('@').next().unwrap_or_default();
        rules.rule(&["training.storage"], true, found, what.to_owned(), remedy);
    }
}

fn memory_limit(recipe: &Recipe, rules: &mut Rules<'_>) {
    let Some(text) = &recipe.resources.memory_limit else {
        return;
    };
    rules.rule(
        &["resources.memory_limit"],
        text.parse::<ByteSize>().is_err(),
        text.as_str(),
        "is no amount of memory".to_owned(),
        HOW,
    );
}

fn columns(key: &str, dataset: &DatasetSection, rules: &mut Rules<'_>) {
    let mut targets = BTreeSet::new();
    let twice = dataset
        .columns
        .values()
        .find(|target| !targets.insert(*target));
    if let Some(target) = twice {
        let what = format!("gives two columns the name `{target}`");
        rules.rule(
            &[key],
            true,
            format!("{:?}", dataset.columns),
            what,
            "rename only one of them to it",
        );
    }
}
