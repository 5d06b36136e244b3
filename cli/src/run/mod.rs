//! `weft run`: the whole product on one machine. An embedded coordinator on a loopback port, worker processes of this
//! same binary, and everything that a run shows and leaves.

mod advice;
mod finish;
mod fleet;
mod follow;
mod job;
mod observer;
mod ready;
mod request;
mod shared;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use tracing_subscriber::filter::LevelFilter;
use weft_common::id::Step;

pub(crate) use finish::leave;
pub(crate) use job::{Embedded, Job, Manner, Place};
pub(crate) use observer::Observer;
pub(crate) use ready::Ready;
pub(crate) use request::{RunArgs, RunOptions, check_disk};
pub(crate) use shared::{newest as newest_shared, open as open_store};

use advice::Numbers;

use crate::device::{DeviceArgs, Devices};
use crate::exit::Failure;
use crate::output::print;

/// Arguments of `weft run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Compute threads of each worker [default: the cores, divided among the workers]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

/// Trains.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    crate::logging::start(LevelFilter::WARN);
    let devices = args.device.all()?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let ready = args.run.preflight(listen, devices.gpus())?;
    for advice in advice::advice(numbers(&ready, &devices)) {
        print::error(format_args!("warning: {advice}"));
    }
    let shared = crate::worker::cores() / ready.workers as usize;
    let threads = args.threads.map_or(shared.max(1), NonZeroUsize::get);
    let place = Place {
        listen,
        embedded: Some(Embedded { threads, devices }),
        manner: Manner::Command,
    };
    Job::new(ready, place).run()
}

fn numbers(ready: &Ready, devices: &Devices) -> Numbers {
    let preflight = &ready.preflight;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Numbers {
        workers: ready.workers,
        gpus: number(devices.gpus().len()),
        most_workers: *preflight.recipe.worker_bounds().end(),
        slots: number(preflight.planner.step(Step(0)).slots.len()),
    }
}
