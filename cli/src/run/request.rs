//! What `weft run` and `weft coordinator` take alike, checked against recipe, data and machine.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use rustix::fs::statvfs;
use weft_common::checkpoint::{Checkpoint, newest_complete};
use weft_worker::cuda::GpuFacts;

use crate::exit::{Exit, Failure, Problems};
use crate::output::figures::gib;
use crate::output::folder::{Existing, OutputFolder};
use crate::output::print;
use crate::output::progress::Audience;
use crate::preflight::Preflight;
use crate::recipe::{CacheArgs, RecipeArgs, worker_count};

use super::ready::Ready;
use super::shared::{self, Earlier};

/// Bytes that a parameter takes in a checkpoint: the number itself and two moments, each of at most four bytes.
const CHECKPOINT_BYTES_PER_PARAMETER: u64 = 12;
/// Tokenizer, logs, metrics and ledger beside the checkpoints.
const OTHER_BYTES: u64 = 4 << 20;

/// What to run, where to, and with how many workers.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    options: RunOptions,
}

/// How to run a recipe.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunOptions {
    /// How many workers compute; never changes the result [default: one for each GPU, as far as the recipe's
    /// resources.workers allows; on a CPU resources.workers.min]
    #[arg(long, requires = "recipe")]
    workers: Option<u32>,
    /// Where the results go [default: the recipe's training.output_dir]
    #[arg(long, value_name = "DIR", requires = "recipe")]
    output: Option<PathBuf>,
    /// Goes on from the newest complete checkpoint in the output folder or the recipe's training.storage; starts anew where
    /// there is none
    #[arg(long, conflicts_with = "overwrite", requires = "recipe")]
    resume: bool,
    /// Removes what an earlier run left in the output folder
    #[arg(long, requires = "recipe")]
    overwrite: bool,
    /// Prints one JSON object a step instead of text
    #[arg(long, requires = "recipe")]
    json: bool,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

impl RunArgs {
    /// A recipe, run in this way.
    pub(crate) fn new(recipe: RecipeArgs, options: RunOptions) -> Self {
        Self { recipe, options }
    }

    /// Looks at everything, `listen` included; leaves no trace in the output folder. Where nothing says how many workers
    /// there are to be, each of `gpus` gets one.
    pub(crate) fn preflight(
        &self,
        listen: SocketAddr,
        gpus: &[GpuFacts],
    ) -> Result<Ready, Failure> {
        let recipe = self.recipe.load()?.recipe;
        let existing = match (self.options.resume, self.options.overwrite) {
            (true, _) => Existing::Resume,
            (false, true) => Existing::Overwrite,
            (false, false) => Existing::Refuse,
        };
        let output = self
            .options
            .output
            .clone()
            .unwrap_or_else(|| PathBuf::from(&recipe.training.output_dir));
        let folder = OutputFolder::at(std::path::absolute(&output).unwrap_or(output));
        let mut problems = Problems::default();
        let workers = problems
            .keep(
                Exit::Recipe,
                worker_count(&recipe, self.options.workers, gpus.len()),
            )
            .unwrap_or(1);
        problems.keep(Exit::Environment, folder.check(existing, &recipe));
        problems.keep(Exit::Environment, check_port(listen));
        let cache = self.options.cache.folder();
        let opened = problems.keep(Exit::Environment, shared::open(&recipe));
        let store = opened.flatten();
        let checkpoint = self.checkpoint(&folder, &mut problems);
        let Earlier {
            checkpoint,
            ledger_of,
        } = match &store {
            Some(store) if self.options.resume => {
                let newest = shared::newest(store, &recipe, checkpoint, (&folder, &cache));
                problems.keep(Exit::Environment, newest).unwrap_or_default()
            }
            Some(_) | None => Earlier {
                checkpoint,
                ledger_of: None,
            },
        };
        let preflight = Preflight::inspect(recipe, &cache, problems)?;
        check_disk(&preflight, &folder)?;
        Ok(Ready {
            preflight,
            folder,
            existing,
            checkpoint,
            ledger_of,
            store,
            workers,
            audience: Some(if self.options.json {
                Audience::Programs
            } else {
                Audience::People
            }),
            cache,
        })
    }

    /// The newest complete checkpoint of a run that is to go on; those passed over are told.
    fn checkpoint(&self, folder: &OutputFolder, problems: &mut Problems) -> Option<Checkpoint> {
        if !self.options.resume {
            return None;
        }
        let newest = problems.keep(Exit::Environment, newest_complete(&folder.checkpoints()))?;
        for skipped in &newest.skipped {
            print::error(format_args!("warning: {skipped}"));
        }
        newest.checkpoint
    }
}

/// Whether the coordinator will be able to listen.
fn check_port(listen: SocketAddr) -> Result<(), String> {
    let bound = TcpListener::bind(listen);
    bound.map(drop).map_err(|error| {
        format!("cannot listen on {listen}: {error}; choose another port with --listen, or stop what uses it")
    })
}

/// Whether the disk can take the checkpoints that will lie there at once, and the adapter.
pub(crate) fn check_disk(preflight: &Preflight, folder: &OutputFolder) -> Result<(), Failure> {
    let training = &preflight.recipe.training;
    let saved = preflight.planner.total_steps() / training.save_steps.max(1);
    // One more than stays: the new one is complete before an old one goes.
    let kept = training
        .save_total_limit
        .map_or(saved, |limit| saved.min(u64::from(limit)))
        + 1;
    let one = preflight.adapter_parameters() * CHECKPOINT_BYTES_PER_PARAMETER;
    let needed = one * kept + one + OTHER_BYTES;
    let existing = folder.root().ancestors().find(|path| path.exists());
    let Some(disk) = existing.and_then(|path| statvfs(path).ok()) else {
        return Ok(());
    };
    let free = disk.f_bavail * disk.f_frsize;
    if free >= needed {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Environment,
        format_args!(
            "output folder {} has {:.3} GiB of disk left, {kept} checkpoints and the adapter need {:.3} GiB; make room, \
             raise training.save_steps, set training.save_total_limit, or choose another with --output",
            folder.root().display(),
            gib(free),
            gib(needed)
        ),
    ))
}
