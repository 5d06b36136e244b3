//! `weft bench step`: training steps as a job runs them.

use std::num::NonZeroUsize;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use weft_common::byte_size::ByteSize;
use weft_common::recipe::{Dtype, GradientCheckpointing};
use weft_worker::bench::{StepSettings, measure_step};

use super::model::{ModelArgs, exit_of};
use super::report::Text;
use crate::device::DeviceArgs;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::recipe::CacheArgs;

/// Arguments of `weft bench step`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Rows of a micro-batch
    #[arg(long, value_name = "ROWS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096))]
    micro_batch: u32,
    /// Micro-batches of a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    accum: u32,
    /// Tokens of a row, all supervised
    #[arg(long, value_name = "TOKENS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    seq: u32,
    /// Steps that count
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    steps: u32,
    /// Steps before those
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    warmup: u32,
    /// The adapter's rank, on all seven linears
    #[arg(long, value_name = "R", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    rank: u32,
    /// What is kept from the forward pass, as the recipe's lora.use_gradient_checkpointing
    #[arg(long, default_value = "auto", value_parser = checkpointing())]
    checkpointing: GradientCheckpointing,
    /// Number format of activations on a GPU, as the recipe's model.dtype
    #[arg(long, default_value = "auto", value_parser = dtype())]
    dtype: Dtype,
    /// The most that may be taken of the device's memory, as in 6.2GiB
    #[arg(long, value_name = "BYTES")]
    memory_limit: Option<ByteSize>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Compute threads on a CPU [default: all cores]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let model = args.model.model()?;
    let threads = crate::worker::compute_threads(args.threads)?;
    let device = args.device.first(threads, &args.cache)?;
    let settings = args.settings();
    let total = settings.total_steps();
    let report = measure_step(&model, &settings, &device, &|step, seconds, loss| {
        let part = if step < u64::from(args.warmup) {
            ", warm-up"
        } else {
            ""
        };
        print::error(format_args!(
            "step {} of {total}{part}: {seconds:.3} s, loss {loss:.4}",
            step + 1
        ));
    })
    .map_err(|error| Failure::new(exit_of(&error), error))?;
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        print::line(text).map(drop)
    } else {
        print::line(Text(&report)).map(drop)
    }
}

impl Args {
    fn settings(&self) -> StepSettings {
        StepSettings {
            micro_batch: self.micro_batch,
            accumulation: self.accum,
            sequence_length: self.seq,
            steps: self.steps,
            warmup: self.warmup,
            rank: self.rank,
            checkpointing: self.checkpointing,
            dtype: self.dtype,
            memory_limit_bytes: self.memory_limit.map(|limit| limit.0),
        }
    }
}

fn checkpointing() -> impl TypedValueParser<Value = GradientCheckpointing> {
    PossibleValuesParser::new(["auto", "unsloth", "true", "false"]).map(|word| {
        match word.as_str() {
            "unsloth" => GradientCheckpointing::Unsloth,
            "true" => GradientCheckpointing::True,
            "false" => GradientCheckpointing::False,
            _ => GradientCheckpointing::Auto,
        }
    })
}

fn dtype() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(["auto", "bf16", "fp16"]).map(|word| match word.as_str() {
        "bf16" => Dtype::Bf16,
        "fp16" => Dtype::Fp16,
        _ => Dtype::Auto,
    })
}
