//! `weft bench scale`: what steps would cost on many GPUs, computed from what was measured on few.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use weft_worker::bench::ReduceReport;
use weft_worker::bench::scaling::{CommitCost, Link, StepCost, Topology, Work, step_cost};

use crate::exit::{Exit, Failure};
use crate::output::print;

/// What a coordinator's round takes: with two workers on one machine, and by how much 512 sessions make it longer
/// (`cargo bench --workspace --bench sessions`).
const COMMIT: CommitCost = CommitCost {
    base_seconds: 2e-3,
    worker_seconds: 32e-6,
};

/// Clipping and AdamW over an adapter of 42 million parameters on one H200.
const UPDATE_SECONDS: f64 = 1e-3;

/// Bytes of a summed integer.
const INTEGER: f64 = 8.0;

/// Arguments of `weft bench scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How machines reach each other; each has NVLink within
    #[arg(long, value_name = "LINK", default_value = "infiniband-400g")]
    link: Network,
    /// Instead: the link that `weft bench reduce --json` measured, between all members
    #[arg(long, value_name = "FILE", conflicts_with = "link")]
    measured: Option<PathBuf>,
    /// GPUs of a machine
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    gpus_per_node: u32,
    /// Numbers of workers
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 64, 256, 1024],
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    workers: Vec<u32>,
    #[command(flatten)]
    work: WorkArgs,
    /// Prints one JSON object a line
    #[arg(long)]
    json: bool,
}

/// What a step consists of.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WorkArgs {
    /// Parameters of the adapter, whose gradient is summed; without it Llama-3-8B's at rank 16
    #[arg(long, value_name = "N", default_value_t = 41_943_040, value_parser = parameters)]
    parameters: usize,
    /// Seconds of a micro-batch: those of a step by `weft bench step` over its micro-batches
    #[arg(long, value_name = "SECONDS", default_value_t = 0.25, value_parser = positive)]
    slot_seconds: f64,
    /// Standard deviation of a micro-batch's time, in percent of it
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    slot_deviation: f64,
    /// Micro-batches of a step, however many workers there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    slots: Option<u32>,
    /// Instead: micro-batches for each worker, so that the batch grows with them
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "slots",
          value_parser = clap::value_parser!(u32).range(1..=1 << 10))]
    slots_per_worker: u32,
}

/// Ways between machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Network {
    /// An adapter of 400 Gb/s for each of eight GPUs
    #[value(name = "infiniband-400g")]
    InfiniBand400,
    /// One adapter of 100 Gb/s
    #[value(name = "ethernet-100g")]
    Ethernet100,
    /// One adapter of 25 Gb/s
    #[value(name = "ethernet-25g")]
    Ethernet25,
}

impl Network {
    /// Nine tenths of the nominal rate, and a usual latency: assumed, not measured.
    fn link(self) -> Link {
        let (latency_seconds, gigabits) = match self {
            Self::InfiniBand400 => (20e-6, 8.0 * 400.0),
            Self::Ethernet100 => (40e-6, 100.0),
            Self::Ethernet25 => (40e-6, 25.0),
        };
        Link {
            latency_seconds,
            bytes_per_second: 0.9 * gigabits * 1e9 / 8.0,
        }
    }
}

/// NVLink between two and four H200, as NCCL 2.28.9 sums 168 and 336 MB over it: within 12 %.
const NVLINK: Link = Link {
    latency_seconds: 10e-6,
    bytes_per_second: 340e9,
};

/// Computes and prints.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let topology = match &args.measured {
        Some(path) => Topology::flat(measured(path)?),
        None => Topology {
            gpus_per_node: args.gpus_per_node,
            within: NVLINK,
            between: args.link.link(),
        },
    };
    let costs = args.work.costs(&topology, &args.workers);
    if !args.json {
        return print::line(table(&costs).trim_end()).map(drop);
    }
    let objects = costs.iter().map(serde_json::to_string);
    let objects: Vec<String> = objects
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    print::line(objects.join("\n")).map(drop)
}

fn measured(path: &Path) -> Result<Link, Failure> {
    let refused = |why: String| {
        Failure::new(
            Exit::Environment,
            format_args!(
                "--measured {}: {why}; it takes what `weft bench reduce --json` printed",
                path.display()
            ),
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let report: ReduceReport =
        serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    report
        .link
        .ok_or_else(|| refused("its sums did not tell latency from bandwidth".to_owned()))
}

impl WorkArgs {
    pub(super) fn parameters(&self) -> usize {
        self.parameters
    }

    /// What a step costs with each number of workers.
    pub(super) fn costs(&self, topology: &Topology, workers: &[u32]) -> Vec<StepCost> {
        let work = Work {
            slot_seconds: self.slot_seconds,
            slot_deviation: self.slot_deviation / 100.0,
            update_seconds: UPDATE_SECONDS,
            reduced_bytes: self.parameters as f64 * INTEGER,
        };
        let cost = |&workers: &u32| {
            let each = self.slots_per_worker.saturating_mul(workers);
            let slots = self.slots.unwrap_or(each);
            step_cost(&work, topology, COMMIT, workers, slots)
        };
        workers.iter().map(cost).collect()
    }
}

/// Costs as a table.
pub(super) fn table(costs: &[StepCost]) -> String {
    let mut text =
        "WORKERS   SLOTS   COMPUTE      TAIL    REDUCE    COMMIT      STEP   EFFICIENCY\n"
            .to_owned();
    for cost in costs {
        let milliseconds = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10.1} %",
            cost.workers,
            cost.slots,
            milliseconds(cost.compute_seconds),
            milliseconds(cost.tail_seconds),
            milliseconds(cost.reduce_seconds),
            milliseconds(cost.commit_seconds),
            milliseconds(cost.seconds),
            cost.efficiency * 100.0
        );
    }
    text
}

fn parameters(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    // Half a trillion bytes: beyond any adapter.
    if (1..=1 << 36).contains(&number) {
        Ok(number)
    } else {
        Err("an adapter has between 1 and 68 billion parameters".to_owned())
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number <= 86_400.0)
        .ok_or_else(|| "write seconds above 0 and up to 86400, as in 0.25".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=100.0).contains(&number))
        .ok_or_else(|| "write percent between 0 and 100, as in 1.5".to_owned())
}

fn number(text: &str, is_legal: impl Fn(f64) -> bool) -> Option<f64> {
    text.parse().ok().filter(|number| is_legal(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_an_example() {
        assert_eq!(positive("0.25"), Ok(0.25));
        for text in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(positive(text).unwrap_err().contains("0.25"), "{text}");
        }
        assert_eq!(percent("0"), Ok(0.0));
        for text in ["-0.1", "101", "1%"] {
            assert!(percent(text).unwrap_err().contains("1.5"), "{text}");
        }
        assert_eq!(parameters("41943040"), Ok(41_943_040));
        for text in ["0", "99999999999999", "4e7"] {
            assert!(parameters(text).is_err(), "{text}");
        }
    }
}
