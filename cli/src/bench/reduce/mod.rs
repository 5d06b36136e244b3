//! `weft bench reduce`: the all-reduce on the real link.

mod members;
mod report;
mod single;

use std::net::SocketAddr;
use std::time::Duration;

use weft_worker::bench::{
    GpuMemory, HostMemory, ReduceError, ReduceReport, ReduceSettings, SummedMemory, measure_reduce,
};
use weft_worker::collective::CollectiveError;

use self::members::Members;
use self::report::Text;
use super::scale::WorkArgs;
use crate::device::DeviceArgs;
use crate::exit::{Exit, Failure};
use crate::output::print;

/// How long members on other machines may take to be started.
const START_WITHIN: Duration = Duration::from_secs(120);

/// Arguments of `weft bench reduce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Members, each a process of this machine
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=1024))]
    workers: u32,
    /// Instead: all members' addresses by rank, where each machine runs this command with a rank of its own
    #[arg(
        long,
        value_name = "IP:PORT,…",
        value_delimiter = ',',
        value_parser = address,
        requires = "rank",
        conflicts_with = "workers"
    )]
    members: Vec<SocketAddr>,
    /// With --members: which of them this is, from 0; the first reports
    #[arg(long, value_name = "RANK", requires = "members")]
    rank: Option<u32>,
    /// How often each sum is repeated; the median counts
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeats: u32,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    /// Started by another: it says the members' addresses
    #[arg(long, hide = true)]
    child: bool,
}

/// Measures, and prints where this is the first member.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.child {
        return single::child(args);
    }
    let report = match (args.rank, args.members.as_slice()) {
        (Some(rank), members) => {
            let memory = args.memory()?;
            let measured = measure(Members::at(members, rank, START_WITHIN)?, memory, args)?;
            if rank > 0 {
                print::error("measured; the first member reports");
                return Ok(());
            }
            measured
        }
        (None, _) => single::measure(args)?,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        print::line(text).map(drop)
    } else {
        print::line(Text(&report, &args.work)).map(drop)
    }
}

fn measure(
    mut members: Members,
    mut memory: Box<dyn SummedMemory>,
    args: &Args,
) -> Result<ReduceReport, Failure> {
    let settings = ReduceSettings {
        elements: args.work.parameters(),
        repeats: args.repeats,
    };
    measure_reduce(&mut members, &mut *memory, &settings)
        .map_err(|error| Failure::new(exit_of(&error), error))
}

impl Args {
    /// Memory of the device that is meant.
    fn memory(&self) -> Result<Box<dyn SummedMemory>, Failure> {
        Ok(match self.device.all()?.gpus().first() {
            None => Box::new(HostMemory::default()),
            Some(gpu) => {
                let memory = GpuMemory::open(gpu);
                Box::new(memory.map_err(|error| Failure::new(Exit::Environment, error))?)
            }
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write the address that the member listens on and a free port, as in 10.0.0.1:7200; names are not looked up".to_owned()
    })
}

fn exit_of(error: &ReduceError) -> Exit {
    match error {
        ReduceError::Collective(CollectiveError::Listen { .. }) => Exit::Environment,
        ReduceError::Collective(_) | ReduceError::Wrong { .. } => Exit::Job,
    }
}
