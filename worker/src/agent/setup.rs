//! What a worker is told when it starts, and what an engine is made from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_common::id::JobId;
use weft_common::recipe::Recipe;

use super::{Engine, EngineError};
use crate::health::Monitor;

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// `http://host:port` of the coordinator.
    pub coordinator: String,
    /// The device for people, as in `cpu (2 threads)`.
    pub device: String,
    /// Memory of the device; 0 where unknown.
    pub memory_bytes: u64,
    /// What its owner calls it by, for jobs that ask for it: `gpu=h200`.
    pub labels: BTreeMap<String, String>,
    /// Where prepared datasets are kept that the coordinator's disk does not share, and states on their way.
    pub cache_dir: PathBuf,
    /// Address that the ring and the server of the state listen on; must be reachable by the other workers.
    pub listen_ip: IpAddr,
    /// Address that the coordinator is spoken to from, and others are told to reach the worker at; the system's choice where
    /// there is none.
    pub from_ip: Option<IpAddr>,
    /// How long to look for the coordinator at first before giving up.
    pub connect_within: Duration,
    /// How long to look for it again once it was lost; what the worker holds is kept meanwhile.
    pub coordinator_grace: Duration,
    /// How long the training thread may take for what usually takes no time, before the worker ends itself.
    pub hang_after: Duration,
    /// How the GPU is; nothing on a CPU, and where no driver says it.
    pub health: Option<Monitor>,
    /// Raised when the process is told to stop; the worker then asks to be let go.
    pub stop: CancellationToken,
}

/// What an engine is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSetup {
    /// The job.
    pub job: JobId,
    /// The recipe, validated and with absolute paths.
    pub recipe: Recipe,
    /// Complete folder of the prepared dataset on this host.
    pub dataset_dir: PathBuf,
    /// Optimizer steps of the whole job.
    pub total_steps: u64,
    /// Others train already; this worker will join them.
    pub joins: bool,
}

/// Makes the engine of a job, on the training thread.
pub type EngineFactory =
    Box<dyn Fn(&JobSetup) -> Result<Box<dyn Engine>, EngineError> + Send + Sync>;
