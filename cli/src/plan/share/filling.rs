//! What would leave no worker idle: the same batch in smaller slots, or a larger one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use weft_common::data::RowStat;
use weft_common::plan::{PlanSpec, StepPlanner};
use weft_common::recipe::{BatchScaling, Recipe};

use super::{Full, Share};
use crate::output::figures::grouped;

/// What leaves no worker idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Filling {
    /// Keys of the recipe with their new values.
    pub(super) changes: BTreeMap<&'static str, u32>,
    pub(super) slots_per_step: u32,
    /// The effective batch size.
    pub(super) rows_per_step: u32,
    pub(super) steps_per_epoch: u64,
    pub(super) steps: u64,
}

/// What the keys are called.
const WORKERS: &str = "resources.workers.max";
const ACCUMULATION: &str = "training.gradient_accumulation_steps";
const ROWS: &str = "training.global_batch_size";

/// A step is cut in microseconds, but thousands of rows take longer.
const MOST_TRIED: u32 = 512;

/// The same batch in as many more slots as leave no worker idle.
pub(super) fn finer_slots(
    recipe: &Recipe,
    full: Full,
    workers: u32,
    stats: &Arc<[RowStat]>,
) -> Option<Filling> {
    let wanted = full.slots.div_ceil(workers).checked_mul(workers)?;
    if wanted == full.slots {
        return None;
    }
    let mut finer = recipe.clone();
    finer.resources.workers.max = Some(wanted);
    let found = Filling::of(&finer, BTreeMap::from([(WORKERS, wanted)]), stats)?;
    (found.slots_per_step == wanted && found.rows_per_step == full.rows).then_some(found)
}

/// The smallest larger batch whose slots, as large as now, leave no worker idle. At most as many times larger as there are
/// workers: each of them then has what all had before.
pub(super) fn larger_batch(
    recipe: &Recipe,
    full: Full,
    workers: u32,
    stats: &Arc<[RowStat]>,
) -> Option<Filling> {
    if full.slots.is_multiple_of(workers) {
        return None;
    }
    let tried = (1..=MOST_TRIED).map_while(|times| larger(recipe, times));
    let mut found = tried
        .take_while(|(larger, _)| larger.rows_per_step() <= full.rows.saturating_mul(workers))
        .filter_map(|(larger, changes)| Filling::of(&larger, changes, stats));
    found.find(|found| {
        found.slots_per_step > full.slots && found.slots_per_step.is_multiple_of(workers)
    })
}

/// The recipe with a batch that is larger by so many micro-batches, and with as many more slots where it says how many.
fn larger(recipe: &Recipe, times: u32) -> Option<(Recipe, BTreeMap<&'static str, u32>)> {
    let mut larger = recipe.clone();
    let mut changes = BTreeMap::new();
    let scales = recipe.training.batch_scaling == BatchScaling::PerWorker;
    if !scales {
        let training = &mut larger.training;
        let (key, value) = match &mut training.global_batch_size {
            Some(rows) => {
                let more = times.checked_mul(training.per_device_train_batch_size)?;
                *rows = rows.checked_add(more)?;
                (ROWS, *rows)
            }
            None => {
                let steps = &mut training.gradient_accumulation_steps;
                *steps = steps.checked_add(times)?;
                (ACCUMULATION, *steps)
            }
        };
        changes.insert(key, value);
    }
    if let Some(most) = recipe.resources.workers.max {
        let value = if scales {
            most.checked_add(times)?
        } else {
            let (rows, before) = (larger.rows_per_step(), recipe.rows_per_step().max(1));
            let slots = (u64::from(most) * u64::from(rows)).div_ceil(u64::from(before));
            u32::try_from(slots).ok()?
        };
        larger.resources.workers.max = Some(value);
        changes.insert(WORKERS, value);
    }
    Some((larger, changes))
}

impl Filling {
    /// Of a changed recipe; nothing where the data have too few rows for it.
    fn of(
        recipe: &Recipe,
        changes: BTreeMap<&'static str, u32>,
        stats: &Arc<[RowStat]>,
    ) -> Option<Self> {
        let planner = StepPlanner::new(PlanSpec::from_recipe(recipe), stats.clone()).ok()?;
        let full = Full::of(recipe, &planner);
        (u64::from(full.rows) <= stats.len() as u64).then_some(Self {
            changes,
            slots_per_step: full.slots,
            rows_per_step: full.rows,
            steps_per_epoch: full.steps_per_epoch,
            steps: full.steps,
        })
    }

    /// `key=value`, several joined by `with`.
    pub(super) fn changed(&self) -> String {
        let changes = self.changes.iter();
        let changes: Vec<String> = changes
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        changes.join(" with ")
    }

    /// What it changes against how things are now.
    pub(super) fn against(&self, now: &Share) -> String {
        format!(
            "{} would keep all {} busy: {} slots and {} rows a step (the effective batch size) instead of {} and {}, {} \
             steps per epoch instead of {}; another batch trains otherwise, and whether the learning rate should follow is \
             yours to say",
            self.changed(),
            now.workers,
            self.slots_per_step,
            self.rows_per_step,
            now.slots_per_step,
            now.rows_per_step,
            grouped(self.steps_per_epoch),
            grouped(now.steps_per_epoch)
        )
    }
}

#[cfg(test)]
mod tests {
    use weft_common::recipe::Format;

    use super::super::tests::full;
    use super::*;

    fn recipe(settings: &str, more: &str) -> Recipe {
        let text = format!(
            "model: {{base_model: m}}\ndatasets: [{{path: d.jsonl}}]\ntraining: {{per_device_train_batch_size: 2, {settings}}}\n{more}\n"
        );
        Recipe::parse(&text, Format::Yaml).unwrap()
    }

    fn stats(rows: usize) -> Arc<[RowStat]> {
        let row = RowStat {
            tokens: 10,
            supervised: 4,
        };
        Arc::from(vec![row; rows])
    }

    #[test]
    fn the_smallest_larger_batch_that_fills_the_workers_is_named_with_what_it_changes() {
        let recipe = recipe("gradient_accumulation_steps: 4", "");
        let found = larger_batch(&recipe, full(4), 3, &stats(100));
        let expected = Filling {
            changes: BTreeMap::from([(ACCUMULATION, 6)]),
            slots_per_step: 6,
            rows_per_step: 12,
            steps_per_epoch: 9,
            steps: (9.0 * recipe.training.num_train_epochs) as u64,
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn the_same_batch_is_cut_finer_where_it_has_the_rows() {
        let recipe = recipe("gradient_accumulation_steps: 4", "");
        let found = finer_slots(&recipe, full(4), 3, &stats(100)).unwrap();
        assert_eq!(found.changes, BTreeMap::from([(WORKERS, 6)]));
        assert_eq!((found.slots_per_step, found.rows_per_step), (6, 8));
        assert_eq!(
            finer_slots(&recipe, full(4), 9, &stats(100)),
            None,
            "8 rows"
        );
        assert_eq!(finer_slots(&recipe, full(4), 2, &stats(100)), None, "full");
    }

    #[test]
    fn where_the_recipe_says_how_many_slots_both_grow() {
        let recipe = recipe(
            "gradient_accumulation_steps: 4",
            "resources: {workers: {max: 4}}",
        );
        let found = larger_batch(&recipe, full(4), 3, &stats(100)).unwrap();
        assert_eq!(
            found.changes,
            BTreeMap::from([(WORKERS, 6), (ACCUMULATION, 6)])
        );
        assert_eq!(
            found.changed(),
            "resources.workers.max=6 with training.gradient_accumulation_steps=6"
        );
    }

    #[test]
    fn a_batch_that_grows_with_the_workers_grows_by_them() {
        let recipe = recipe(
            "gradient_accumulation_steps: 1, batch_scaling: per_worker",
            "resources: {workers: {max: 4}}",
        );
        let found = larger_batch(&recipe, full(4), 3, &stats(100)).unwrap();
        assert_eq!(found.changes, BTreeMap::from([(WORKERS, 6)]));
        assert_eq!(found.rows_per_step, 12);
        assert_eq!(finer_slots(&recipe, full(4), 3, &stats(100)), None);
    }

    #[test]
    fn a_batch_that_the_data_cannot_fill_is_not_proposed() {
        let recipe = recipe("gradient_accumulation_steps: 4", "");
        assert_eq!(larger_batch(&recipe, full(4), 3, &stats(10)), None);
    }

    #[test]
    fn a_global_batch_size_grows_by_whole_micro_batches() {
        let recipe = recipe("global_batch_size: 8", "");
        let found = larger_batch(&recipe, full(4), 3, &stats(100)).unwrap();
        assert_eq!(found.changes, BTreeMap::from([(ROWS, 12)]));
    }
}
