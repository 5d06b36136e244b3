//! A worker as people see it from outside.

use std::net::IpAddr;

use weft_common::gpu_health::judge;
use weft_common::id::{JobId, WorkerId};
use weft_common::wire::{Heartbeat, WorkerFacts};
use weft_proto::v1;

use crate::engine::WorkerRecord;

/// A worker as people see it from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    /// Which.
    pub worker: WorkerId,
    /// What it said of itself.
    pub facts: WorkerFacts,
    /// Where it was seen to come from.
    pub ip: IpAddr,
    /// The job it works for.
    pub job: Option<JobId>,
    /// Its last sign of life.
    pub heartbeat: Heartbeat,
    /// Why it is given no job until it is started again.
    pub kept_out: Option<String>,
}

impl WorkerView {
    pub(crate) fn of((worker, record): (WorkerId, &WorkerRecord)) -> Self {
        Self {
            worker,
            facts: record.facts.clone(),
            ip: record.ip,
            job: record.job.clone(),
            heartbeat: record.heartbeat.clone(),
            kept_out: record.kept_out.clone(),
        }
    }
}

impl From<WorkerView> for v1::WorkerInfo {
    fn from(view: WorkerView) -> Self {
        let gpu = view.heartbeat.gpu.as_ref();
        Self {
            worker: view.worker.to_string(),
            host: view.facts.host,
            device: view.facts.device,
            memory_bytes: view.facts.memory_bytes,
            labels: view.facts.labels.into_iter().collect(),
            ip: view.ip.to_string(),
            job: view.job.map(|job| job.to_string()).unwrap_or_default(),
            slots_computed: view.heartbeat.slots_computed,
            peak_resident_bytes: view.heartbeat.peak_resident_bytes,
            kept_out: view.kept_out.unwrap_or_default(),
            gpu_health: gpu.map(|gpu| judge(gpu).to_string()).unwrap_or_default(),
            gpu_celsius: gpu.and_then(|gpu| gpu.celsius),
        }
    }
}
