//! `weft scale`: another number of workers for a job.

use weft_proto::v1::{Job, ScaleJobRequest};

use super::connect::{About, ConnectArgs, job_ref};
use super::job::{JobDocument, count, title};
use crate::exit::Failure;
use crate::output::print;

/// Arguments of `weft scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The job: its id, the beginning of it, or its name
    job: String,
    /// How many workers it should have, within the recipe's resources.workers; never changes the result
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Asks for another number of workers.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let job = super::block_on(scale(args))?;
    if args.json {
        return super::print_json(&JobDocument::from(&job));
    }
    let (wanted, has) = (count(args.workers.into(), "worker"), job.members);
    print::line(format_args!(
        "{} is to have {wanted}; it has {has} now",
        title(&job)
    ))
    .map(drop)
}

async fn scale(args: &Args) -> Result<Job, Failure> {
    let connection = args.connect.open().await?;
    let asked = ScaleJobRequest {
        job: Some(job_ref(&args.job)),
        workers: args.workers,
    };
    let mut client = connection.client.clone();
    let call = client.scale_job(asked);
    let job = connection.answer(About::Job(&args.job), call).await?;
    super::refuse_over(&job, "scale")?;
    // The answer may be of the moment before.
    Ok(Job {
        workers: args.workers,
        ..job
    })
}
