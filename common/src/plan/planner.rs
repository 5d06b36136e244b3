//! From a step's number to its rows and slots.

use std::sync::Arc;

use super::shuffle::Shuffle;
use super::slots::{self, SlotLimits};
use super::{SlotPlan, StepPlan};
use crate::data::RowStat;
use crate::id::{SlotId, Step};
use crate::recipe::Recipe;

/// What the plan needs to know of the recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSpec {
    /// Seed of the shuffle.
    pub data_seed: u64,
    /// Rows of a full global batch.
    pub rows_per_step: u32,
    /// Passes over the data; fractions are allowed.
    pub epochs: f64,
    /// Steps in all, where the recipe says it; wins over `epochs`.
    pub max_steps: Option<u64>,
    /// No slot holds more tokens.
    pub slot_tokens: u64,
    /// Each step is cut into at least so many slots, where it has so many rows.
    pub min_slots: u32,
}

impl PlanSpec {
    /// The plan that a recipe asks for.
    #[must_use]
    pub fn from_recipe(recipe: &Recipe) -> Self {
        let training = &recipe.training;
        let rows_per_slot = u64::from(training.per_device_train_batch_size);
        Self {
            data_seed: training.data_seed(),
            rows_per_step: recipe.rows_per_step(),
            epochs: training.num_train_epochs,
            max_steps: training.max_steps(),
            slot_tokens: rows_per_slot * u64::from(recipe.model.max_seq_length),
            min_slots: recipe.max_slots(),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to train on.
    #[error(
        "the prepared dataset has no rows; check that the dataset files are not empty and that rows are supervised"
    )]
    NoRows,
    /// More rows than an index can name.
    #[error("the prepared dataset has {rows} rows, more than the {max} that a plan can hold; set datasets.N.limit", max = u32::MAX)]
    TooManyRows {
        /// Rows of the dataset.
        rows: usize,
    },
    /// A row that is empty or does not fit into any slot.
    #[error(
        "row {row} has {tokens} tokens, but a row must have 1 to {slot_tokens} (per_device_train_batch_size × max_seq_length); prepare the dataset again with this recipe"
    )]
    RowLength {
        /// Which row.
        row: usize,
        /// Its length.
        tokens: u32,
        /// The most that fits.
        slot_tokens: u64,
    },
    /// A number that makes no plan.
    #[error("a plan needs {what} above 0, found {value}; correct the recipe")]
    NotPositive {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: f64,
    },
}

/// Plans any step of a job, in any order.
#[derive(Debug, Clone)]
pub struct StepPlanner {
    spec: PlanSpec,
    stats: Arc<[RowStat]>,
    rows: u32,
}

impl StepPlanner {
    /// Checks that the rows can be planned.
    ///
    /// # Errors
    /// If there are no rows, a row fits into no slot, or a number of the recipe makes no plan.
    pub fn new(spec: PlanSpec, stats: Arc<[RowStat]>) -> Result<Self, PlanError> {
        check_numbers(&spec)?;
        let rows =
            u32::try_from(stats.len()).map_err(|_| PlanError::TooManyRows { rows: stats.len() })?;
        if rows == 0 {
            return Err(PlanError::NoRows);
        }
        let fits = |stat: &RowStat| stat.tokens > 0 && u64::from(stat.tokens) <= spec.slot_tokens;
        if let Some(row) = stats.iter().position(|stat| !fits(stat)) {
            return Err(PlanError::RowLength {
                row,
                tokens: stats[row].tokens,
                slot_tokens: spec.slot_tokens,
            });
        }
        Ok(Self { spec, stats, rows })
    }

    /// Rows of the prepared dataset.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// Optimizer steps of one pass over the data; the last may be short. Counted as Hugging Face does:
    /// ⌈⌈rows / batch⌉ / accumulation⌉ is the same number.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        u64::from(self.rows.div_ceil(self.spec.rows_per_step))
    }

    /// Optimizer steps of the job: `max_steps`, or ⌈epochs · steps per epoch⌉.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        let by_epochs = (self.spec.epochs * self.steps_per_epoch() as f64).ceil();
        self.spec.max_steps.unwrap_or(by_epochs as u64)
    }

    /// The plan of one step. **Cost**: constant to find the rows, then as sorting them.
    #[must_use]
    pub fn step(&self, step: Step) -> StepPlan {
        let (data_epoch, rows) = self.rows_of(step);
        let row_tokens: Vec<u32> = rows.iter().map(|&row| self.stat(row).tokens).collect();
        let limits = SlotLimits {
            slot_tokens: self.spec.slot_tokens,
            min_slots: self.spec.min_slots,
        };
        let slots = slots::cut(&row_tokens, limits);
        let slots = slots.iter().zip(0..).map(|(positions, slot)| {
            let rows = positions.iter().map(|&position| rows[position]).collect();
            self.slot(SlotId(slot), rows)
        });
        StepPlan {
            step,
            data_epoch,
            slots: slots.collect(),
        }
    }

    /// The step's rows in the order of the shuffle, and the pass over the data that they belong to.
    fn rows_of(&self, step: Step) -> (u32, Vec<u32>) {
        let per_epoch = self.steps_per_epoch();
        let data_epoch = u32::try_from(step.0 / per_epoch).unwrap_or(u32::MAX);
        let first = step.0 % per_epoch * u64::from(self.spec.rows_per_step);
        let first = u32::try_from(first).expect("below `rows`, which is a u32");
        let end = first.saturating_add(self.spec.rows_per_step).min(self.rows);
        let shuffle = Shuffle::new(self.spec.data_seed, data_epoch, self.rows);
        let rows = (first..end).map(|position| shuffle.row_at(position));
        (data_epoch, rows.collect())
    }

    fn slot(&self, slot: SlotId, rows: Vec<u32>) -> SlotPlan {
        let sum = |count: fn(&RowStat) -> u32| {
            rows.iter()
                .map(|&row| u64::from(count(self.stat(row))))
                .sum()
        };
        SlotPlan {
            slot,
            tokens: sum(|stat| stat.tokens),
            supervised_tokens: sum(|stat| stat.supervised),
            rows,
        }
    }

    fn stat(&self, row: u32) -> &RowStat {
        &self.stats[row as usize]
    }
}

fn check_numbers(spec: &PlanSpec) -> Result<(), PlanError> {
    let numbers = [
        ("rows_per_step", f64::from(spec.rows_per_step)),
        (
            "num_train_epochs",
            if spec.max_steps.is_some() {
                1.0
            } else {
                spec.epochs
            },
        ),
        ("slot_tokens", spec.slot_tokens as f64),
    ];
    match numbers
        .into_iter()
        .find(|(_, value)| !(*value > 0.0 && value.is_finite()))
    {
        Some((what, value)) => Err(PlanError::NotPositive { what, value }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec() -> PlanSpec {
        PlanSpec {
            data_seed: 3407,
            rows_per_step: 8,
            epochs: 1.0,
            max_steps: None,
            slot_tokens: 256,
            min_slots: 4,
        }
    }

    fn planner(spec: PlanSpec, rows: usize) -> StepPlanner {
        let stats = (0..rows).map(|row| RowStat {
            tokens: 1 + (row * 37 % 128) as u32,
            supervised: (row * 37 % 128) as u32,
        });
        StepPlanner::new(spec, stats.collect()).unwrap()
    }

    #[test]
    fn steps_are_counted_as_hugging_face_counts_them() {
        // 2000 rows, batch 2, accumulation 4: 250 steps, as `Trainer` reports for such a run.
        assert_eq!(planner(spec(), 2000).total_steps(), 250);
        assert_eq!(planner(spec(), 2001).total_steps(), 251);
        let epochs = PlanSpec {
            epochs: 2.5,
            ..spec()
        };
        assert_eq!(planner(epochs, 20).steps_per_epoch(), 3);
        assert_eq!(
            planner(
                PlanSpec {
                    epochs: 2.5,
                    ..spec()
                },
                20
            )
            .total_steps(),
            8
        );
        let max_steps = Some(60);
        assert_eq!(
            planner(
                PlanSpec {
                    max_steps,
                    ..spec()
                },
                2000
            )
            .total_steps(),
            60
        );
    }

    #[test]
    fn the_short_last_step_of_an_epoch_is_kept() {
        let planner = planner(spec(), 20);
        assert_eq!(
            [0, 1, 2, 3].map(|step| planner.step(Step(step)).rows()),
            [8, 8, 4, 8]
        );
        assert_eq!(
            [2, 3].map(|step| planner.step(Step(step)).data_epoch),
            [0, 1]
        );
    }

    #[test]
    fn a_dataset_smaller_than_the_batch_is_one_step_an_epoch() {
        let planner = planner(spec(), 3);
        assert_eq!(
            (planner.total_steps(), planner.step(Step(0)).rows()),
            (1, 3)
        );
    }

    #[test]
    fn a_row_that_fits_nowhere_is_refused() {
        let long = RowStat {
            tokens: 257,
            supervised: 1,
        };
        let refused = StepPlanner::new(spec(), [long].into()).unwrap_err();
        assert!(
            matches!(
                refused,
                PlanError::RowLength {
                    row: 0,
                    tokens: 257,
                    ..
                }
            ),
            "{refused}"
        );
        let empty = RowStat {
            tokens: 0,
            supervised: 0,
        };
        assert!(StepPlanner::new(spec(), [empty].into()).is_err());
        assert_eq!(
            StepPlanner::new(spec(), [].into()).unwrap_err(),
            PlanError::NoRows
        );
    }

    #[test]
    fn a_recipe_of_nothing_is_refused() {
        let rows: Arc<[RowStat]> = [RowStat {
            tokens: 1,
            supervised: 1,
        }]
        .into();
        for spec in [
            PlanSpec {
                rows_per_step: 0,
                ..spec()
            },
            PlanSpec {
                epochs: f64::NAN,
                ..spec()
            },
            PlanSpec {
                slot_tokens: 0,
                ..spec()
            },
        ] {
            assert!(matches!(
                StepPlanner::new(spec, rows.clone()),
                Err(PlanError::NotPositive { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn every_row_counts_exactly_once_an_epoch(rows in 1usize..200, per_step in 1u32..20, epoch in 0u64..4) {
            let planner = planner(PlanSpec { rows_per_step: per_step, ..spec() }, rows);
            let per_epoch = planner.steps_per_epoch();
            let steps = epoch * per_epoch..(epoch + 1) * per_epoch;
            let mut seen: Vec<u32> = steps
                .flat_map(|step| planner.step(Step(step)).slots)
                .flat_map(|slot| slot.rows)
                .collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..rows as u32).collect::<Vec<_>>());
        }

        #[test]
        fn slots_are_numbered_bounded_and_summed(rows in 1usize..200, step in 0u64..100) {
            let planner = planner(spec(), rows);
            let plan = planner.step(Step(step));
            for (slot, number) in plan.slots.iter().zip(0..) {
                prop_assert_eq!(slot.slot, SlotId(number));
                prop_assert!(slot.tokens <= 256);
                let supervised: u64 = slot.rows.iter().map(|&row| u64::from(planner.stat(row).supervised)).sum();
                prop_assert_eq!(slot.supervised_tokens, supervised);
            }
            prop_assert!(plan.slots.len() >= plan.rows().min(4));
        }

        #[test]
        fn a_step_is_the_same_whether_asked_first_or_last(rows in 1usize..100, step in 0u64..50) {
            let asked_first = planner(spec(), rows).step(Step(step));
            let walked = planner(spec(), rows);
            let mut asked_last = walked.step(Step(0));
            for earlier in 1..=step {
                asked_last = walked.step(Step(earlier));
            }
            prop_assert_eq!(asked_first, asked_last);
        }
    }
}
