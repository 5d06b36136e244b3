//! `weft worker`: joins a coordinator and computes until it is dismissed.

mod interface;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;
use weft_common::gpu_health::{Verdict, judge};
use weft_worker::agent::{WorkerConfig, WorkerExit, run_worker};
use weft_worker::device::Device;
use weft_worker::health::{self, Monitor};
use weft_worker::train::session::engine_factory;

use crate::client::{CoordinatorUrl, DEFAULT_URL};
use crate::device::DeviceArgs;
use crate::exit::{Exit, Failure};
use crate::recipe::CacheArgs;
use crate::signals::StopSignals;
use interface::{Place, tell_nccl};

/// Arguments of `weft worker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The coordinator, as in `http://10.0.0.1:7117`
    #[arg(long, value_name = "URL", env = "WEFT_COORDINATOR", default_value = DEFAULT_URL)]
    coordinator: CoordinatorUrl,
    #[command(flatten)]
    device: DeviceArgs,
    /// Compute threads on a CPU [default: all cores]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    cache: CacheArgs,
    /// What this worker is called by, for jobs that ask for it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Address on which other workers reach this one [default: loopback for a coordinator there, else all]
    #[arg(long, value_name = "IP")]
    listen_ip: Option<IpAddr>,
    /// Interface over which others reach this worker and NCCL talks, as in `eth0`; sets NCCL_SOCKET_IFNAME unless it is set
    #[arg(
        long,
        value_name = "NAME",
        env = "WEFT_INTERFACE",
        conflicts_with = "listen_ip"
    )]
    interface: Option<String>,
    /// Seconds to look for the coordinator
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    connect_within: u64,
    /// Seconds to wait for a coordinator that was lost, keeping all that was computed
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    coordinator_grace: u64,
    /// Ends with code 30, not 0, when a signal made it leave, so that what counts only failures replaces it
    #[arg(long)]
    interrupted_on_stop: bool,
    /// Seconds that the training thread may take for what usually takes no time, before the worker ends as one that hangs
    #[arg(long, hide = true, default_value_t = 30)]
    hang_after: u64,
    /// Computes on a GPU that its driver reports as sick, and does not watch it
    #[arg(long, env = "WEFT_IGNORE_GPU_HEALTH", value_parser = FalseyValueParser::new())]
    ignore_gpu_health: bool,
    /// Ends as soon as standard input does, so that it cannot outlive the process that started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

impl Args {
    /// Where others reach the worker. Must come before the first thread: it may change the environment.
    fn place(&self) -> Result<Place, Failure> {
        let here = self.coordinator.is_here();
        match (&self.interface, self.listen_ip) {
            (Some(interface), _) => {
                // All workers of `weft run` are here, and find each other over loopback.
                let place = match self.until_stdin_closes {
                    true => Ok(Place::usual(here)),
                    false => Place::on(interface, here),
                };
                let place = place.map_err(|problem| Failure::new(Exit::Environment, problem))?;
                tell_nccl(interface);
                Ok(place)
            }
            (None, Some(ip)) => Ok(Place::at(ip)),
            (None, None) => Ok(Place::usual(here)),
        }
    }
}

/// Works until dismissed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let place = args.place()?;
    crate::logging::start(LevelFilter::INFO);
    if args.until_stdin_closes {
        std::thread::spawn(end_with_stdin);
    }
    let threads = compute_threads(args.threads)?;
    let device = args.device.first(threads, &args.cache)?;
    let health = match args.ignore_gpu_health {
        true => None,
        false => watch(&device)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, error))?;
    let ended = runtime.block_on(work(args, (device, health), place));
    // A training thread that hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Watches the device, if it is a GPU that can be computed with.
fn watch(device: &Device) -> Result<Option<Monitor>, Failure> {
    let monitor = health::watch(device);
    let verdict = monitor.as_ref().map(|monitor| judge(&monitor.now()));
    match verdict {
        Some(Verdict::Sick(sickness)) => Err(Failure::new(
            Exit::Sick,
            format_args!(
                "{device} cannot be relied on, {sickness}; {}; --ignore-gpu-health computes on it all the same",
                sickness.remedy()
            ),
        )),
        Some(Verdict::Well | Verdict::Watch(_)) | None => Ok(monitor),
    }
}

async fn work(
    args: &Args,
    (device, health): (Device, Option<Monitor>),
    place: Place,
) -> Result<(), Failure> {
    let mut signals =
        StopSignals::listen().map_err(|error| Failure::new(Exit::Environment, error))?;
    let stop = CancellationToken::new();
    let config = WorkerConfig {
        coordinator: args.coordinator.to_string(),
        device: device.to_string(),
        memory_bytes: device.memory_bytes(),
        labels: args.label.iter().cloned().collect(),
        cache_dir: args.cache.folder(),
        listen_ip: place.listen_ip,
        from_ip: place.from_ip,
        connect_within: Duration::from_secs(args.connect_within),
        coordinator_grace: Duration::from_secs(args.coordinator_grace),
        hang_after: Duration::from_secs(args.hang_after),
        health,
        stop: stop.clone(),
    };
    let agent = run_worker(config, engine_factory(device, args.cache.folder()));
    tokio::pin!(agent);
    loop {
        tokio::select! {
            ended = &mut agent => return result(&ended, args.interrupted_on_stop),
            _ = signals.next() => {
                if stop.is_cancelled() {
                    return Err(Failure::new(Exit::Aborted, "stopped at once by a second request"));
                }
                stop.cancel();
            }
        }
    }
}

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!(
            "{text:?} is not of the form KEY=VALUE, as in gpu=h200"
        )),
    }
}

/// A worker that was dismissed or left as told did its work, unless leaving is to count as `interrupted`.
fn result(ended: &WorkerExit, interrupted: bool) -> Result<(), Failure> {
    let exit = match ended {
        WorkerExit::Left if interrupted => Exit::Interrupted,
        WorkerExit::Dismissed { .. } | WorkerExit::Left => {
            tracing::info!("{ended}");
            return Ok(());
        }
        WorkerExit::Refused { .. } => Exit::Refused,
        WorkerExit::Unreachable { .. } => Exit::Environment,
        WorkerExit::Hung { .. } => Exit::Hung,
        WorkerExit::CoordinatorLost { .. } | WorkerExit::Broken { .. } => Exit::Job,
    };
    Err(Failure::new(exit, ended))
}

/// Starts so many compute threads, or one a core, and says how many.
pub(crate) fn compute_threads(threads: Option<NonZeroUsize>) -> Result<usize, Failure> {
    let threads = threads.map_or_else(cores, NonZeroUsize::get);
    let started = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    started.map_err(|error| {
        Failure::new(
            Exit::Environment,
            format_args!("cannot start {threads} threads: {error}"),
        )
    })?;
    Ok(threads)
}

/// The whole machine's cores.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Reads to the end of standard input, which comes when its writer is gone, and ends the process.
fn end_with_stdin() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tracing::warn!("the process that started this worker is gone");
    std::process::exit(Exit::Aborted as i32);
}
