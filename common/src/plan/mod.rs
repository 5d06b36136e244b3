//! What each step computes, as a pure function of data and recipe: it never depends on who computes it.
//!
//! [`StepPlanner`] walks the rows in the order of a seekable [`Shuffle`], takes the next global batch, and cuts it into
//! slots. [`LrSchedule`] says how far each step moves. Everything here can be asked for any step, in any order, and
//! answers the same on every machine: integer arithmetic decides, and no hash map is iterated.

mod planner;
mod schedule;
mod shuffle;
mod slots;
mod step_plan;

pub use planner::{PlanError, PlanSpec, StepPlanner};
pub use schedule::LrSchedule;
pub use shuffle::Shuffle;
pub use step_plan::{SlotPlan, StepPlan};
