//! `weft run`: the whole product on one machine. An embedded coordinator on a loopback port, worker processes of this
//! same binary, and everything that a run shows and leaves.

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

pub(crate) use finish::leave;
pub(crate) use job::{Job, Place};
pub(crate) use observer::Observer;
pub(crate) use ready::Ready;
pub(crate) use request::{RunArgs, RunOptions, check_disk};
pub(crate) use shared::{newest as newest_shared, open as open_store};

use crate::exit::Failure;

/// Where workers compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Device {
    /// The best that this machine has and this build knows: the CPU
    Auto,
    /// The CPU
    Cpu,
}

/// Arguments of `weft run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Where workers compute
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    device: Device,
    /// Compute threads of each worker [default: the cores, divided among the workers]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

/// Trains.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    crate::logging::start(LevelFilter::WARN);
    // Both name the CPU: this build has no other device.
    let (Device::Auto | Device::Cpu) = args.device;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let ready = args.run.preflight(listen)?;
    let shared = crate::worker::cores() / ready.workers as usize;
    let threads = args.threads.map_or(shared.max(1), NonZeroUsize::get);
    let place = Place {
        listen,
        embedded_threads: Some(threads),
    };
    Job::new(ready, place).run()
}
