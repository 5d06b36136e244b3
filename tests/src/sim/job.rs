//! The simulated job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weft_common::data::RowStat;
use weft_common::id::{Digest, JobId, Step};
use weft_common::plan::{LrSchedule, PlanSpec, StepPlanner};
use weft_common::recipe::TrainingSection;
use weft_common::wire::{CheckpointRef, DatasetRef};
use weft_coordinator::engine::{JobTerms, Needs, OnNonFinite, RunData};

use super::setup::Setup;

/// Its name.
pub(super) fn id() -> JobId {
    "job-sim".parse().expect("only letters and a hyphen")
}

fn planner(setup: &Setup) -> StepPlanner {
    let spec = PlanSpec {
        data_seed: setup.seed,
        rows_per_step: setup.slots,
        epochs: 1.0,
        max_steps: Some(setup.steps),
        slot_tokens: 10,
        min_slots: setup.slots,
    };
    let stat = RowStat {
        tokens: 10,
        supervised: 4,
    };
    let rows = setup.slots as usize * 4 + 1;
    StepPlanner::new(spec, Arc::from(vec![stat; rows])).expect("every row fits into a slot")
}

/// Its data and plan.
pub(super) fn data(setup: &Setup) -> Arc<RunData> {
    Arc::new(RunData {
        dataset: DatasetRef {
            digest: Digest::of(b"data"),
            dir: "/sim/data".into(),
            files: Vec::new(),
        },
        schedule: LrSchedule::new(&TrainingSection::default(), setup.steps),
        planner: planner(setup),
    })
}

/// What a coordinator submits, having found this on its disk.
pub(super) fn terms(setup: &Setup, checkpoint: Option<Step>) -> JobTerms {
    JobTerms {
        id: id(),
        recipe_json: "{}".into(),
        priority: 0,
        workers: setup.workers,
        gang: setup.workers,
        needs: Needs::default(),
        min_workers: setup.min_workers,
        max_workers: setup.hosts,
        form_within: Duration::from_secs(600),
        save_steps: setup.save_steps,
        checkpoints_dir: "/sim/checkpoints".into(),
        on_non_finite: OnNonFinite::Fail,
        resume: checkpoint.map(|next_step| CheckpointRef {
            dir: weft_common::checkpoint::folder(&PathBuf::from("/sim/checkpoints"), next_step),
            next_step,
        }),
        continued: None,
    }
}
