//! `weft audit`: proves from the ledger what a run has done.

mod place;
mod verdict;

use std::path::PathBuf;

use weft_common::id::Digest;
use weft_common::ledger::audit::{Audit, Evidence, Finding, Planned, audit};
use weft_common::ledger::{self, LedgerError};
use weft_common::plan::{LrSchedule, StepPlanner};
use weft_common::recipe::Recipe;

use self::place::Place;
use self::verdict::Verdict;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::preflight::prepare_data;
use crate::recipe::CacheArgs;

/// Arguments of `weft audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The output folder of a run, or a ledger's folder alone
    path: PathBuf,
    /// The recipe, where the one in the output folder no longer leads to the data
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Changes a key of the recipe, as for the run; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Prints the loss of every step as well
    #[arg(long)]
    losses: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Ends with success where nothing is wrong, although something could not be proven
    #[arg(long)]
    allow_unproven: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Looks at everything that the run left, and prints what it proves.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let place = Place::find(&args.path)?;
    let audit = examine(args, &place)?;
    let verdict = Verdict::new(&args.path, audit, args.losses);
    if args.json {
        let text = serde_json::to_string_pretty(&verdict)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        let _ = print::line(text)?;
    } else {
        let _ = print::line(&verdict)?;
    }
    verdict.judge(args.allow_unproven)
}

fn examine(args: &Args, place: &Place) -> Result<Audit, Failure> {
    let ledger = match ledger::read(&place.ledger) {
        Ok(ledger) => ledger,
        Err(LedgerError::Storage(error)) => return Err(Failure::new(Exit::Environment, error)),
        Err(error) => return Ok(Audit::unreadable(Finding::from(&error))),
    };
    let mut unproven = Vec::new();
    let plan = Plan::of(args, place);
    let plan = plan
        .map_err(|why| unproven.push(format!("the plan: {why}")))
        .ok();
    let logged = place.logged(&mut unproven)?;
    let saved = place.saved()?;
    let adapter = place.adapter()?;
    let mut audit = audit(Evidence {
        planned: plan.as_ref().map(Plan::planned),
        logged: &logged,
        saved: &saved,
        adapter: adapter.as_ref(),
        ..Evidence::of(&ledger)
    });
    audit.unproven.splice(0..0, unproven);
    Ok(audit)
}

/// What recipe and dataset ask for.
struct Plan {
    planner: StepPlanner,
    schedule: LrSchedule,
    recipe: Digest,
    dataset: Digest,
}

impl Plan {
    /// Made anew; else why not.
    fn of(args: &Args, place: &Place) -> Result<Self, String> {
        let path = args.recipe.clone().or_else(|| place.recipe());
        let path =
            path.ok_or("there is no recipe.json beside the ledger; give one with --recipe")?;
        let loaded = Recipe::load(&path, &args.sets).map_err(|error| error.to_string())?;
        let recipe = loaded.recipe;
        let (prepared, planner) = prepare_data(&recipe, &args.cache.folder())
            .map_err(|failure| failure.problems().join("; "))?;
        Ok(Self {
            schedule: LrSchedule::new(&recipe.training, planner.total_steps()),
            planner,
            recipe: recipe.digest(),
            dataset: prepared.digest(),
        })
    }

    fn planned(&self) -> Planned<'_> {
        Planned {
            planner: &self.planner,
            schedule: self.schedule.clone(),
            recipe: self.recipe,
            dataset: self.dataset,
        }
    }
}
