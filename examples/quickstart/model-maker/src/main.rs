//! `cargo run --release -p weft-quickstart-model -- --out examples/quickstart/model`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use weft_quickstart_model::config::{ModelConfig, Schedule};
use weft_quickstart_model::{Plan, make};

/// Makes the tiny model of the quickstart, from a fixed seed.
#[derive(Parser)]
struct Arguments {
    /// Folder that receives the model.
    #[arg(long)]
    out: PathBuf,
    /// Folder of the texts and grammars that the model reads.
    #[arg(long, default_value = "examples/quickstart/corpus")]
    corpus: PathBuf,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Optimizer steps.
    #[arg(long, default_value_t = Schedule::default().steps)]
    steps: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let plan = Plan {
        seed: arguments.seed,
        model: ModelConfig::default(),
        schedule: Schedule {
            steps: arguments.steps,
            ..Schedule::default()
        },
    };
    let start = Instant::now();
    let log = |line: &str| println!("[{:6.1} s] {line}", start.elapsed().as_secs_f64());
    make(&plan, &arguments.corpus, &arguments.out, &log)?;
    log(&format!("model written to {}", arguments.out.display()));
    Ok(())
}
