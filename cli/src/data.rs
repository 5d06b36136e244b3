//! `weft data`: the dataset as the model will see it.

use std::io::{self, IsTerminal};

use weft_common::data::{Marking, preview};

use crate::exit::{Failure, Problems};
use crate::output::figures::grouped;
use crate::output::print;
use crate::preflight::Preflight;
use crate::recipe::{CacheArgs, RecipeArgs};

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Prints rows as tokens, the supervised ones marked
    Preview(PreviewArgs),
    /// Prepares the dataset and says where it lies
    Prepare(PrepareArgs),
}

/// Arguments of `weft data preview`.
#[derive(Debug, clap::Args)]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// How many rows
    #[arg(long, default_value_t = 3)]
    rows: u32,
    /// The first row, from 0
    #[arg(long, default_value_t = 0)]
    from: u32,
}

/// Arguments of `weft data prepare`.
#[derive(Debug, clap::Args)]
pub(crate) struct PrepareArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Runs a subcommand.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Preview(args) => show(args),
        Command::Prepare(args) => prepare(args),
    }
}

fn prepare(args: &PrepareArgs) -> Result<(), Failure> {
    let loaded = args.recipe.load()?;
    let preflight = Preflight::inspect(loaded.recipe, &args.cache.folder(), Problems::default())?;
    let report = preflight.prepared.report();
    for warning in &report.warnings {
        print::error(format_args!("warning: {warning}"));
    }
    let mut text = format!(
        "digest {}\nfolder {}\nrows   {} of {} read",
        preflight.prepared.digest(),
        preflight.prepared.dir().display(),
        grouped(report.rows),
        grouped(report.rows_read)
    );
    for (dropped, rows) in report.dropped() {
        text.push_str(&format!("\n       {} dropped: {dropped}", grouped(rows)));
    }
    print::line(text).map(drop)
}

fn show(args: &PreviewArgs) -> Result<(), Failure> {
    let loaded = args.recipe.load()?;
    let preflight = Preflight::inspect(loaded.recipe, &args.cache.folder(), Problems::default())?;
    let (marking, legend) = if io::stdout().is_terminal() {
        (Marking::Colour, "green")
    } else {
        (Marking::Brackets, "between ⟦ and ⟧")
    };
    let range = args.from..args.from.saturating_add(args.rows);
    for row in preview(&preflight.prepared, &preflight.tokenizer, range) {
        let supervised = row.tokens.iter().filter(|token| token.supervised).count();
        let text = format!(
            "row {}: {} tokens, {supervised} supervised\n{}\n",
            row.index,
            row.tokens.len(),
            row.format(marking)
        );
        if print::line(text)?.is_break() {
            return Ok(());
        }
    }
    print::line(format_args!(
        "{} rows in all; the loss counts the tokens {legend}",
        grouped(preflight.prepared.report().rows)
    ))
    .map(drop)
}
