//! `weft workers`: who computes.

use std::collections::BTreeMap;

use serde::Serialize;
use weft_proto::v1::{ListWorkersRequest, WorkerInfo};

use super::connect::{About, ConnectArgs, Connection};
use super::job::short_ids;
use super::table::{Side, Table};
use crate::exit::Failure;
use crate::output::figures::{gib, grouped};
use crate::output::print;

/// Arguments of `weft workers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What programs are told of a worker. The names are promised; `docs/commands.md` lists them.
#[derive(Debug, Serialize)]
pub(super) struct WorkerDocument {
    worker: String,
    host: String,
    ip: String,
    device: String,
    memory_bytes: Option<u64>,
    labels: BTreeMap<String, String>,
    job: Option<String>,
    micro_batches: u64,
    peak_resident_bytes: u64,
    kept_out: Option<String>,
    gpu_health: Option<String>,
    gpu_celsius: Option<u32>,
}

impl From<&WorkerInfo> for WorkerDocument {
    fn from(worker: &WorkerInfo) -> Self {
        Self {
            worker: worker.worker.clone(),
            host: worker.host.clone(),
            ip: worker.ip.clone(),
            device: worker.device.clone(),
            memory_bytes: Some(worker.memory_bytes).filter(|bytes| *bytes > 0),
            labels: worker.labels.clone().into_iter().collect(),
            job: Some(worker.job.clone()).filter(|job| !job.is_empty()),
            micro_batches: worker.slots_computed,
            peak_resident_bytes: worker.peak_resident_bytes,
            kept_out: Some(worker.kept_out.clone()).filter(|why| !why.is_empty()),
            gpu_health: Some(worker.gpu_health.clone()).filter(|health| !health.is_empty()),
            gpu_celsius: worker.gpu_celsius,
        }
    }
}

/// All workers, for programs.
#[derive(Debug, Serialize)]
struct Document {
    workers: Vec<WorkerDocument>,
}

/// Prints the workers.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let workers = super::block_on(async { list(&args.connect.open().await?).await })?;
    if args.json {
        let workers = workers.iter().map(WorkerDocument::from).collect();
        return super::print_json(&Document { workers });
    }
    if workers.is_empty() {
        let url = args.connect.url();
        print::error(format_args!(
            "no worker is there; start some with `weft worker --coordinator {url}`"
        ));
        return Ok(());
    }
    print::line(table(&workers)).map(drop)
}

/// Asks for all workers.
pub(super) async fn list(connection: &Connection) -> Result<Vec<WorkerInfo>, Failure> {
    let mut client = connection.client.clone();
    let call = client.list_workers(ListWorkersRequest {});
    let reply = connection.answer(About::Everything, call).await?;
    Ok(reply.workers)
}

fn table(workers: &[WorkerInfo]) -> Table<9> {
    let mut table = Table::new([
        ("WORKER", Side::Left),
        ("HOST", Side::Left),
        ("ADDRESS", Side::Left),
        ("DEVICE", Side::Left),
        ("MEMORY", Side::Right),
        ("PEAK", Side::Right),
        ("MICRO-BATCHES", Side::Right),
        ("JOB", Side::Left),
        ("LABELS", Side::Left),
    ]);
    let ids = short_ids(workers.iter().map(|worker| worker.worker.as_str()));
    let jobs = short_ids(workers.iter().map(|worker| worker.job.as_str()));
    for ((worker, id), job) in workers.iter().zip(ids).zip(jobs) {
        table.push([
            id,
            worker.host.clone(),
            worker.ip.clone(),
            device(worker),
            memory(worker.memory_bytes),
            memory(worker.peak_resident_bytes),
            grouped(worker.slots_computed),
            match worker.kept_out.as_str() {
                "" => job,
                why => format!("none any more: {why}"),
            },
            labels(&worker.labels.clone().into_iter().collect()),
        ]);
    }
    table
}

/// `NVIDIA H200, 61 °C`, or what is wrong with it.
fn device(worker: &WorkerInfo) -> String {
    let health =
        Some(worker.gpu_health.clone()).filter(|health| !["", "ok"].contains(&health.as_str()));
    let celsius = worker.gpu_celsius.map(|celsius| format!("{celsius} °C"));
    let parts = [Some(worker.device.clone()), celsius, health];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `23.5 GiB`, or `10.3 MiB` of what is small.
pub(super) fn memory(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0 => String::new(),
        1..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / MIB as f64),
        0x4000_0000.. => format!("{:.1} GiB", gib(bytes)),
    }
}

/// `gpu=h200,zone=a`.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_says_how_it_is() {
        let said = |health: &str, celsius| {
            device(&WorkerInfo {
                device: "NVIDIA H200".to_owned(),
                gpu_health: health.to_owned(),
                gpu_celsius: celsius,
                ..WorkerInfo::default()
            })
        };
        assert_eq!(said("", None), "NVIDIA H200");
        assert_eq!(said("ok", Some(61)), "NVIDIA H200, 61 °C");
        assert_eq!(
            said("throttled: too hot", Some(92)),
            "NVIDIA H200, 92 °C, throttled: too hot"
        );
    }
}
