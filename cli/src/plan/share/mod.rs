//! How a step's micro-batches fill so many workers, and what a larger batch would change.

mod filling;

use std::fmt;

use serde::Serialize;
use weft_common::id::Step;
use weft_common::plan::StepPlanner;
use weft_common::recipe::Recipe;

use super::SAMPLED_STEPS;
use crate::output::figures::grouped;
use crate::preflight::Preflight;
use filling::{Filling, finer_slots, larger_batch};

/// A full step's micro-batches (slots) on so many workers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Share {
    workers: u32,
    /// Workers that a step can give work at once, by the recipe; more are refused.
    workers_max: u32,
    /// Of a full step.
    slots_per_step: u32,
    slots_per_worker_fewest: u32,
    slots_per_worker_most: u32,
    /// The time in which workers compute, of the time that the step takes: as if all slots took equally long.
    busy_share: f64,
    /// Workers without a slot in the last round, of all.
    idle_share_last_round: f64,
    /// Mean over the steps.
    tokens_per_step: u64,
    rows_per_step: u32,
    steps_per_epoch: u64,
    /// The fewest smaller slots of the same batch that leave no worker idle; nothing where none is, or none are found.
    filled_by_finer_slots: Option<Filling>,
    /// The smallest larger batch that leaves no worker idle, its slots as large as now; nothing where none is, or none is
    /// found.
    filled_by_larger_batch: Option<Filling>,
}

/// A full step, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Full {
    slots: u32,
    rows: u32,
    steps_per_epoch: u64,
    steps: u64,
}

impl Share {
    /// Of a job on `workers` workers.
    pub(super) fn of(preflight: &Preflight, workers: u32) -> Self {
        let Preflight {
            recipe, planner, ..
        } = preflight;
        let full = Full::of(recipe, planner);
        let stats = preflight.prepared.stats();
        Self {
            tokens_per_step: mean_tokens(planner),
            workers_max: *recipe.worker_bounds().end(),
            filled_by_finer_slots: finer_slots(recipe, full, workers, &stats),
            filled_by_larger_batch: larger_batch(recipe, full, workers, &stats),
            ..Self::of_step(full, workers)
        }
    }

    fn of_step(full: Full, workers: u32) -> Self {
        let slots = full.slots;
        let rounds = slots.div_ceil(workers).max(1);
        let places = u64::from(rounds) * u64::from(workers);
        let idle = places - u64::from(slots);
        Self {
            workers,
            workers_max: workers,
            slots_per_step: slots,
            slots_per_worker_fewest: slots / workers,
            slots_per_worker_most: rounds,
            busy_share: f64::from(slots) / places as f64,
            idle_share_last_round: idle as f64 / f64::from(workers),
            tokens_per_step: 0,
            rows_per_step: full.rows,
            steps_per_epoch: full.steps_per_epoch,
            filled_by_finer_slots: None,
            filled_by_larger_batch: None,
        }
    }
}

impl Full {
    /// The first step is full, if one is.
    fn of(recipe: &Recipe, planner: &StepPlanner) -> Self {
        let slots = planner.step(Step(0)).slots.len();
        Self {
            slots: u32::try_from(slots).unwrap_or(u32::MAX),
            rows: recipe.rows_per_step(),
            steps_per_epoch: planner.steps_per_epoch(),
            steps: planner.total_steps(),
        }
    }
}

fn mean_tokens(planner: &StepPlanner) -> u64 {
    let steps = planner.total_steps().clamp(1, SAMPLED_STEPS);
    let tokens = (0..steps).map(|step| planner.step(Step(step)).tokens());
    tokens.sum::<u64>() / steps
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workers,
            slots_per_step: slots,
            slots_per_worker_fewest: fewest,
            slots_per_worker_most: most,
            ..
        } = self;
        let each = match fewest == most {
            true => format!("{most}"),
            false => format!("{fewest} to {most}"),
        };
        write!(
            f,
            "at {workers:<8}{slots} slots and {} tokens a step, {each} slots a worker: {:.0}% busy",
            grouped(self.tokens_per_step),
            self.busy_share * 100.0
        )?;
        if self.idle_share_last_round > 0.0 {
            write!(
                f,
                ", {:.0}% of the workers idle in the last round",
                self.idle_share_last_round * 100.0
            )?;
        }
        if *workers > self.workers_max {
            write!(
                f,
                "\n           more than {} workers are refused: resources.workers.max, or else the slots of a step, say how \
                 many may come",
                self.workers_max
            )?;
        }
        if let Some(finer) = &self.filled_by_finer_slots {
            write!(
                f,
                "\n           {} would cut the same batch into {} smaller slots, and keep all {workers} busy",
                finer.changed(),
                finer.slots_per_step
            )?;
        }
        match &self.filled_by_larger_batch {
            Some(larger) => write!(f, "\n           {}", larger.against(self)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn full(slots: u32) -> Full {
        Full {
            slots,
            rows: slots * 2,
            steps_per_epoch: 10,
            steps: 30,
        }
    }

    #[test]
    fn four_slots_keep_three_workers_busy_for_two_thirds_of_the_time() {
        let share = Share::of_step(full(4), 3);
        assert!((share.busy_share - 2.0 / 3.0).abs() < 1e-9);
        assert!((share.idle_share_last_round - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(
            (share.slots_per_worker_fewest, share.slots_per_worker_most),
            (1, 2)
        );
        let share = Share::of_step(full(4), 4);
        assert_eq!((share.busy_share, share.idle_share_last_round), (1.0, 0.0));
        let share = Share::of_step(full(4), 8);
        assert_eq!((share.busy_share, share.slots_per_worker_fewest), (0.5, 0));
    }

    #[test]
    fn people_are_told_what_idles_and_what_a_larger_batch_changes() {
        let larger = Filling {
            changes: [("training.gradient_accumulation_steps", 6)].into(),
            slots_per_step: 6,
            rows_per_step: 12,
            steps_per_epoch: 9,
            steps: 27,
        };
        let share = Share {
            filled_by_larger_batch: Some(larger),
            tokens_per_step: 8192,
            ..Share::of_step(full(4), 3)
        };
        assert_eq!(
            share.to_string(),
            "at 3       4 slots and 8,192 tokens a step, 1 to 2 slots a worker: 67% busy, 67% of the workers idle in the last \
             round\n           training.gradient_accumulation_steps=6 would keep all 3 busy: 6 slots and 12 rows a step (the \
             effective batch size) instead of 4 and 8, 9 steps per epoch instead of 10; another batch trains otherwise, and \
             whether the learning rate should follow is yours to say"
        );
    }

    #[test]
    fn more_workers_than_may_come_are_told() {
        let share = Share {
            workers_max: 4,
            ..Share::of_step(full(4), 8)
        };
        assert!(
            share
                .to_string()
                .contains("more than 4 workers are refused")
        );
    }
}
