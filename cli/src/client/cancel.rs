//! `weft cancel`: ends a job without losing what it learned.

use weft_proto::v1::{Job, JobPhase};

use super::connect::{About, ConnectArgs, job_ref};
use super::job::{JobDocument, title};
use crate::exit::Failure;
use crate::output::print;

/// Arguments of `weft cancel`.
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

/// Asks for a job's end. One that is cancelled already is as it should be.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let job = super::block_on(cancel(args))?;
    if args.json {
        return super::print_json(&JobDocument::from(&job));
    }
    let title = title(&job);
    let text = match job.phase() {
        JobPhase::Cancelled => format!("{title} is cancelled"),
        JobPhase::Queued => format!("{title} leaves the queue"),
        JobPhase::Unspecified
        | JobPhase::Preparing
        | JobPhase::Forming
        | JobPhase::Running
        | JobPhase::Draining
        | JobPhase::Succeeded
        | JobPhase::Failed => format!(
            "{title} finishes its step, writes a checkpoint and ends; `weft submit --resume` goes on from there"
        ),
    };
    print::line(text).map(drop)
}

async fn cancel(args: &Args) -> Result<Job, Failure> {
    let connection = args.connect.open().await?;
    let mut client = connection.client.clone();
    let call = client.cancel_job(job_ref(&args.job));
    let job = connection.answer(About::Job(&args.job), call).await?;
    if job.phase() != JobPhase::Cancelled {
        super::refuse_over(&job, "cancel")?;
    }
    Ok(job)
}
