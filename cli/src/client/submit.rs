//! `weft submit`: hands a job to a coordinator's queue.

use std::path::PathBuf;
use std::time::Duration;

use weft_common::recipe::Recipe;
use weft_proto::v1::{Job, JobPhase, SubmitJobRequest};

use super::connect::{About, ConnectArgs, Connection};
use super::job::{JobDocument, title};
use super::watch::{Manner, watch};
use crate::exit::{Exit, Failure, Problems};
use crate::output::folder::{Existing, OutputFolder};
use crate::output::print;
use crate::output::progress::Audience;
use crate::preflight;
use crate::recipe::{RecipeArgs, worker_count};

/// The coordinator looks at recipe, model and data before it answers, and new data take their time.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);
/// After this long people want to know what they wait for.
const PATIENT: Duration = Duration::from_secs(2);
const LONGEST_NAME: usize = 100;

/// Arguments of `weft submit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// What to call the job; several may have the same name
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// How many workers compute; never changes the result [default: the recipe's resources.workers.min]
    #[arg(long)]
    workers: Option<u32>,
    /// Jobs of a higher priority come first
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    priority: i32,
    /// Where the results go, on the coordinator's machine [default: the recipe's training.output_dir]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What a worker must be called by, as with `weft worker --label`; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::worker::label)]
    label: Vec<(String, String)>,
    /// Memory that the device of a worker must have
    #[arg(long, value_name = "GIB", value_parser = memory)]
    memory: Option<u64>,
    /// Goes on from the newest complete checkpoint in the output folder or the recipe's training.storage; starts anew where
    /// there is none
    #[arg(long)]
    resume: bool,
    /// Watches the job to its end, as `weft watch` does
    #[arg(long)]
    watch: bool,
    /// Seconds to look for a coordinator that goes away while the job is watched
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        requires = "watch"
    )]
    reconnect_within: u64,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Hands a job in. Its id, alone, is what standard output gets.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let asked = check(args)?;
    super::block_on(async {
        let connection = args.connect.open_patiently(ANSWER_WITHIN).await?;
        let job = submit(&connection, asked).await?;
        print::error(welcome(&job, args.watch));
        let unread = if args.json && args.watch {
            false
        } else if args.json {
            return super::print_json(&JobDocument::from(&job));
        } else {
            print::line(&job.id)?.is_break()
        };
        if !args.watch || unread {
            return Ok(());
        }
        let audience = if args.json {
            Audience::Programs
        } else {
            Audience::People
        };
        let reconnect_within = Duration::from_secs(args.reconnect_within);
        let manner = Manner {
            audience,
            reconnect_within,
        };
        watch(connection, job, manner).await
    })
}

/// Everything that can be found wrong without the coordinator.
fn check(args: &Args) -> Result<SubmitJobRequest, Failure> {
    let recipe = args.recipe.load()?.recipe;
    let mut problems = Problems::default();
    problems.keep(Exit::Recipe, worker_count(&recipe, args.workers, 0));
    preflight::glance(&recipe, &mut problems);
    let output = args.output.clone();
    let output = output.unwrap_or_else(|| PathBuf::from(&recipe.training.output_dir));
    let output = std::path::absolute(&output).unwrap_or(output);
    // Elsewhere the same path is another folder.
    if args.connect.url().is_here() {
        let existing = if args.resume {
            Existing::Resume
        } else {
            Existing::Refuse
        };
        let folder = OutputFolder::at(output.clone());
        problems.keep(Exit::Environment, folder.check(existing, &recipe));
    }
    let output_dir = output.into_os_string().into_string().map_err(|output| {
        let output = PathBuf::from(output);
        format!(
            "output folder {} is not UTF-8; choose another with --output",
            output.display()
        )
    });
    let output_dir = problems.keep(Exit::Environment, output_dir);
    problems.finish()?;
    Ok(asked(args, &recipe, output_dir.unwrap_or_default()))
}

fn asked(args: &Args, recipe: &Recipe, output_dir: String) -> SubmitJobRequest {
    SubmitJobRequest {
        recipe_json: recipe.to_json(),
        workers: args.workers.unwrap_or(0),
        output_dir,
        resume: None,
        priority: args.priority,
        worker_memory_bytes: args.memory.unwrap_or(0),
        worker_labels: args.label.iter().cloned().collect(),
        name: args.name.clone().unwrap_or_default(),
        resume_newest: args.resume,
    }
}

async fn submit(connection: &Connection, asked: SubmitJobRequest) -> Result<Job, Failure> {
    let mut client = connection.client.clone();
    let call = client.submit_job(asked);
    let answer = connection.answer(About::Submission, call);
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => return answer,
        () = tokio::time::sleep(PATIENT) => {}
    }
    print::error(
        "the coordinator looks at recipe, model and data; where they are new, that takes a while",
    );
    answer.await
}

/// What people are told of a job that was taken.
fn welcome(job: &Job, watched: bool) -> String {
    let stands = match job.phase() {
        JobPhase::Unspecified | JobPhase::Queued => "it waits for its turn",
        JobPhase::Preparing => "its data are being prepared",
        JobPhase::Forming => "it waits for its workers",
        JobPhase::Running => "it runs",
        JobPhase::Draining | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled => {
            job.detail.as_str()
        }
    };
    let title = title(job);
    if watched {
        return format!("submitted {title}: {stands}");
    }
    let id = &job.id;
    format!("submitted {title}: {stands}; `weft watch {id}` follows it")
}

/// A name that fits a line.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > LONGEST_NAME || text.chars().any(char::is_control)
    {
        return Err(format!(
            "a name has 1 to {LONGEST_NAME} printable characters"
        ));
    }
    Ok(text.to_owned())
}

/// GiB as bytes.
fn memory(text: &str) -> Result<u64, String> {
    let gib: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number of GiB"))?;
    let bytes = gib * (1u64 << 30) as f64;
    if (1.0..=1e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(format!(
            "{text} GiB is no amount of memory; give it as in --memory 40"
        ))
    }
}
