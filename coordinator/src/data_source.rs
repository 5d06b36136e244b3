//! Where prepared datasets come from.

use std::sync::Arc;

use weft_common::data::RowStat;
use weft_common::plan::{LrSchedule, PlanSpec, StepPlanner};
use weft_common::recipe::Recipe;
use weft_common::wire::DatasetRef;

use crate::engine::RunData;

/// Prepares datasets. Runs on a thread of its own and may take minutes.
pub trait DataSource: Send + Sync {
    /// The dataset that the recipe describes, complete on this host's disk.
    ///
    /// # Errors
    /// What failed, the values, the remedy.
    fn prepare(&self, recipe: &Recipe) -> Result<PreparedData, String>;
}

/// A dataset that is complete on this host's disk.
#[derive(Debug, Clone)]
pub struct PreparedData {
    /// By content, and where it is.
    pub dataset: DatasetRef,
    /// What the plan needs to know of each row.
    pub stats: Arc<[RowStat]>,
}

/// What was prepared before is the dataset of every recipe.
impl DataSource for PreparedData {
    fn prepare(&self, _: &Recipe) -> Result<PreparedData, String> {
        Ok(self.clone())
    }
}

/// Prepares and plans.
pub(crate) fn run_data(source: &dyn DataSource, recipe: &Recipe) -> Result<RunData, String> {
    let prepared = source.prepare(recipe)?;
    let planner = StepPlanner::new(PlanSpec::from_recipe(recipe), prepared.stats)
        .map_err(|error| error.to_string())?;
    Ok(RunData {
        dataset: prepared.dataset,
        schedule: LrSchedule::new(&recipe.training, planner.total_steps()),
        planner,
    })
}
