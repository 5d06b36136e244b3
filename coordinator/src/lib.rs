//! Shards the dataset, schedules workers, commits steps.
//!
//! [`engine`] decides, and touches nothing. The driver is the one task that owns it: it selects one event, applies it
//! and performs the actions. The services and [`CoordinatorHandle`] only send events to the driver. The coordinator is
//! never on the data path.

mod attendance;
mod blocking;
mod claim;
mod clock;
mod config;
mod data_source;
mod driver;
pub mod engine;
mod handle;
mod happening;
mod job_io;
mod ledger_thread;
mod notices;
mod queue;
mod reception;
mod recipe_data;
mod records;
mod rpc;
mod server;
mod shared_ledger;
mod term;
mod view;

pub use blocking::Blocking;
pub use config::{BindError, CoordinatorConfig, JobSpec, SubmitError, WorkersBefore};
pub use data_source::{DataSource, PreparedData};
pub use engine::{
    EpochReport, FailReason, Incident, JobOutcome, Limits, Needs, Notice, OnNonFinite, StepReport,
    StepTiming, SubmitRefusal, WaitReason, WorkerName,
};
pub use handle::{CoordinatorHandle, JobHandle, RunningCoordinator};
pub use happening::{Happening, Level};
pub use notices::Notices;
pub use queue::{Attend, Attendant, Preflight, Queue, StartFrom, Unfit};
pub use recipe_data::RecipeData;
pub use records::RecordsError;
pub use server::Coordinator;
pub use view::{JobPhase, JobView, WorkerView};
