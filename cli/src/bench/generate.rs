//! `weft bench generate`: tokens a second, of the prompt and after it.

use std::fmt;
use std::num::NonZeroUsize;

use weft_worker::bench::{GenerateReport, GenerateSettings, measure_generation};

use super::model::{ModelArgs, exit_of};
use crate::device::DeviceArgs;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::recipe::CacheArgs;

/// Arguments of `weft bench generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompt_tokens: u32,
    /// Tokens that are generated after it
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    new_tokens: u32,
    /// The adapter's rank, on all seven linears; 0 without one
    #[arg(long, value_name = "R", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1024))]
    rank: u32,
    /// How often, beside once to warm up; the fastest counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
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
    let settings = GenerateSettings {
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        rank: args.rank,
        repeats: args.repeats,
    };
    let report = measure_generation(&model, &settings, &device)
        .map_err(|error| Failure::new(exit_of(&error), error))?;
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        return print::line(text).map(drop);
    }
    print::line(Text(&report)).map(drop)
}

/// For people.
struct Text<'a>(&'a GenerateReport);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        let GenerateSettings {
            prompt_tokens,
            new_tokens,
            rank,
            ..
        } = report.settings;
        writeln!(
            f,
            "{} on {}, adapter rank {rank}",
            report.model, report.device
        )?;
        writeln!(
            f,
            "prefill  {prompt_tokens} tokens in {:.3} s, {:.1} tokens/s",
            report.prefill_seconds, report.prefill_tokens_per_second
        )?;
        writeln!(
            f,
            "decode   {new_tokens} tokens, {:.3} ms each, {:.1} tokens/s",
            1e3 * report.decode_seconds_per_token,
            report.decode_tokens_per_second
        )?;
        write!(
            f,
            "floor    {:.3} ms to read {:.3} GB of weights at the {:.1} GB/s of a copy: {:.1} % of a token's time",
            1e3 * report.floor_seconds_per_token,
            report.weight_bytes as f64 / 1e9,
            report.copy_bytes_per_second / 1e9,
            100.0 * report.floor_share
        )?;
        for (class, seconds) in &report.device_seconds {
            write!(f, "\n  {class:<14} {:.3} ms a token", 1e3 * seconds)?;
        }
        Ok(())
    }
}
