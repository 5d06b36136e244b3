//! `weft status`: how a job stands, why it waits, and what happened to it.

mod incidents;
mod queue;
mod text;

use serde::Serialize;
use tonic::{Response, Status, Streaming};
use weft_proto::v1::{
    Job, JobEvent, JobEventsRequest, JobPhase, JobStepsRequest, ListJobsRequest, StepFigures,
};

use self::incidents::{Incidents, is_incident};
use self::queue::Queue;
use super::clock::{between, now};
use super::connect::{About, ConnectArgs, Connection, job_ref, keeps_no_records};
use super::job::{JobDocument, is_over};
use super::workers;
use crate::exit::Failure;
use crate::output::print;

/// Events among which incidents are looked for.
const SEARCHED_EVENTS: u32 = 10_000;
/// Steps that the time left is reckoned from.
const RECENT_STEPS: u32 = 20;
/// Steps among which the one after an incident is looked for.
const SEARCHED_STEPS: u32 = 5_000;

/// Arguments of `weft status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The job: its id, the beginning of it, or its name
    job: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// All that is known of a job.
#[derive(Debug)]
struct Facts {
    job: Job,
    /// Of a job that waits.
    queue: Option<Queue>,
    incidents: Incidents,
    seconds_left: Option<f64>,
    /// Where the coordinator is.
    url: String,
    /// When this was asked for.
    now: i64,
}

/// The same for programs.
#[derive(Debug, Serialize)]
struct Document<'a> {
    job: JobDocument,
    seconds_left: Option<f64>,
    queue: Option<&'a Queue>,
    incidents: &'a Incidents,
}

/// Prints what is known of a job.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let facts = super::block_on(ask(args))?;
    if args.json {
        return super::print_json(&Document {
            job: JobDocument::from(&facts.job),
            seconds_left: facts.seconds_left,
            queue: facts.queue.as_ref(),
            incidents: &facts.incidents,
        });
    }
    print::line(facts).map(drop)
}

async fn ask(args: &Args) -> Result<Facts, Failure> {
    let connection = args.connect.open().await?;
    let job = super::find(&connection, &args.job).await?;
    let events = events(&connection, &job).await?;
    let searched = if events.iter().any(is_incident) {
        SEARCHED_STEPS
    } else {
        RECENT_STEPS
    };
    let steps = steps(&connection, &job, searched).await?;
    let queue = match waits(&job) {
        true => Some(queue(&connection, &job).await?),
        false => None,
    };
    let now = now();
    Ok(Facts {
        queue,
        incidents: Incidents::of(&events, &steps),
        seconds_left: seconds_left(&job, &steps),
        url: connection.url.to_string(),
        now,
        job,
    })
}

fn waits(job: &Job) -> bool {
    job.phase() == JobPhase::Queued || (!is_over(job) && !job.waits.is_empty())
}

async fn queue(connection: &Connection, job: &Job) -> Result<Queue, Failure> {
    let mut client = connection.client.clone();
    let asked = ListJobsRequest {
        ended: false,
        last: 0,
    };
    let call = client.list_jobs(asked);
    let jobs = connection.answer(About::Everything, call).await?.jobs;
    let workers = workers::list(connection).await?;
    Ok(Queue::of(job, &jobs, &workers))
}

async fn events(connection: &Connection, job: &Job) -> Result<Vec<JobEvent>, Failure> {
    let asked = JobEventsRequest {
        job: Some(job_ref(&job.id)),
        last: SEARCHED_EVENTS,
        ..JobEventsRequest::default()
    };
    let mut client = connection.client.clone();
    collect(connection, job, client.job_events(asked)).await
}

async fn steps(connection: &Connection, job: &Job, last: u32) -> Result<Vec<StepFigures>, Failure> {
    let asked = JobStepsRequest {
        job: Some(job_ref(&job.id)),
        last,
        ..JobStepsRequest::default()
    };
    let mut client = connection.client.clone();
    collect(connection, job, client.job_steps(asked)).await
}

/// All of a stream; nothing from a coordinator that keeps no records.
async fn collect<T>(
    connection: &Connection,
    job: &Job,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<Vec<T>, Failure> {
    let about = About::Job(&job.id);
    let recorded = async {
        match call.await {
            Ok(response) => Ok(response.map(Some)),
            Err(status) if keeps_no_records(&status) => Ok(Response::new(None)),
            Err(status) => Err(status),
        }
    };
    let Some(mut stream) = connection.answer(about, recorded).await? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    while let Some(message) = connection.next(about, &mut stream).await? {
        all.push(message);
    }
    Ok(all)
}

/// What the remaining steps take at the pace of the last ones.
fn seconds_left(job: &Job, steps: &[StepFigures]) -> Option<f64> {
    let runs = job.phase() == JobPhase::Running && job.total_steps > 0;
    let recent = &steps[steps.len().saturating_sub(RECENT_STEPS as usize)..];
    let (first, last) = (recent.first()?, recent.last()?);
    let taken = between(first.unix_ms, last.unix_ms).as_secs_f64();
    let pace = taken / last.step.checked_sub(first.step).filter(|done| *done > 0)? as f64;
    let left = job.total_steps.saturating_sub(job.committed_steps) as f64;
    runs.then_some(pace * left)
}
