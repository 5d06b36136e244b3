//! `weft doctor`: what of CUDA is on this machine, its kernels compiled ahead of time, and whether its GPUs and other
//! machines can be reached.

mod network;
mod reach;
mod report;
mod shared_memory;
mod topology;

use weft_worker::cuda::library::Environment;
use weft_worker::cuda::{Arch, Compiler, Inventory, KernelCache};

use crate::client::CoordinatorUrl;
use crate::exit::{Exit, Failure, Problems};
use crate::output::print;
use crate::recipe::CacheArgs;

use reach::Reached;
use report::{KernelsReport, Report};

/// Arguments of `weft doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    cache: CacheArgs,
    /// Prints what was found as JSON
    #[arg(long)]
    json: bool,
    /// Compiles the kernels for these GPU generations into the cache, as in `--compile-kernels sm_80,sm_90a`; needs no GPU
    #[arg(long, value_name = "SM", value_delimiter = ',')]
    compile_kernels: Vec<Arch>,
    /// Asks the coordinator there for its version, as a worker of this machine would have to reach it
    #[arg(long, value_name = "URL")]
    coordinator: Option<CoordinatorUrl>,
    /// Makes a TCP connection to `HOST:PORT`; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    reach: Vec<String>,
}

/// Looks, compiles where asked to, and prints. Fails where someone who was asked for cannot be reached.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let inventory = Inventory::take(&Environment::of_process());
    let mut report = Report::new(&inventory);
    let coordinator = args.coordinator.iter().map(Reached::coordinator);
    let peers = args.reach.iter().map(|who| Reached::peer(who));
    report.reached = coordinator.chain(peers).collect();
    let unreached = report.unreached();
    if !args.compile_kernels.is_empty() {
        let cache = KernelCache::new(args.cache.kernels());
        report.kernels = compile(inventory, cache, &args.compile_kernels)?;
    }
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        print::line(text).map(drop)?;
    } else {
        print::line(report).map(drop)?;
    }
    let mut problems = Problems::default();
    for error in unreached {
        problems.push(Exit::Environment, error);
    }
    problems.finish()
}

fn compile(
    inventory: Inventory,
    cache: KernelCache,
    archs: &[Arch],
) -> Result<Vec<KernelsReport>, Failure> {
    let environment = |problem: String| Failure::new(Exit::Environment, problem);
    let nvrtc = inventory
        .nvrtc
        .map_err(|missing| environment(missing.to_string()))?;
    let compiler = Compiler::new(nvrtc, cache);
    archs
        .iter()
        .map(|&arch| {
            let prepared = compiler
                .prepare(arch)
                .map_err(|error| environment(error.to_string()))?;
            Ok(KernelsReport::new(arch, &prepared, compiler.cache()))
        })
        .collect()
}
