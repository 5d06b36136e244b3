//! `weft jobs`: the queue.

use serde::Serialize;
use weft_proto::v1::{Job, ListJobsReply, ListJobsRequest};

use super::clock::{ago, known, now};
use super::connect::{About, ConnectArgs};
use super::job::{JobDocument, is_over, short_ids, state};
use super::table::{Side, Table, shortened};
use crate::exit::Failure;
use crate::output::figures::grouped;
use crate::output::print;

/// More of a reason is in `weft status`.
const REASON_CHARACTERS: usize = 72;

/// Arguments of `weft jobs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shows jobs that are over as well
    #[arg(long, short)]
    all: bool,
    /// Shows the newest so many only
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// All jobs, for programs.
#[derive(Debug, Serialize)]
struct Document {
    jobs: Vec<JobDocument>,
    left_out: u64,
}

/// Prints the queue.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let reply = super::block_on(list(args))?;
    if args.json {
        return super::print_json(&Document {
            jobs: reply.jobs.iter().map(JobDocument::from).collect(),
            left_out: reply.left_out,
        });
    }
    if reply.jobs.is_empty() {
        print::error(if args.all {
            "no job was ever submitted; `weft submit RECIPE` does"
        } else {
            "no job waits or runs; `weft jobs --all` shows those that are over"
        });
        return Ok(());
    }
    if print::line(table(&reply.jobs, now()))?.is_continue() && reply.left_out > 0 {
        let more = grouped(reply.left_out);
        print::error(format_args!("{more} older ones are not shown; see --last"));
    }
    Ok(())
}

async fn list(args: &Args) -> Result<ListJobsReply, Failure> {
    let connection = args.connect.open().await?;
    let asked = ListJobsRequest {
        ended: args.all,
        last: args.last.unwrap_or(0),
    };
    let mut client = connection.client.clone();
    let call = client.list_jobs(asked);
    connection.answer(About::Everything, call).await
}

fn table(jobs: &[Job], now: i64) -> Table<9> {
    let mut table = Table::new([
        ("JOB", Side::Left),
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("STEP", Side::Right),
        ("LOSS", Side::Right),
        ("WORKERS", Side::Right),
        ("PRIORITY", Side::Right),
        ("SUBMITTED", Side::Left),
        ("WHY", Side::Left),
    ]);
    for (job, short) in jobs
        .iter()
        .zip(short_ids(jobs.iter().map(|job| job.id.as_str())))
    {
        table.push([
            short,
            shortened(&job.name, 32),
            state(job).to_owned(),
            steps(job),
            job.loss
                .map(|loss| format!("{loss:.4}"))
                .unwrap_or_default(),
            if is_over(job) {
                String::new()
            } else {
                format!("{}/{}", job.members, job.workers)
            },
            job.priority.to_string(),
            known(job.submitted_unix_ms).map_or_else(String::new, |at| ago(at, now)),
            shortened(reason(job), REASON_CHARACTERS),
        ]);
    }
    table
}

fn steps(job: &Job) -> String {
    match job.total_steps {
        0 => String::new(),
        total => format!("{}/{total}", job.committed_steps),
    }
}

/// Why a job waits or failed.
fn reason(job: &Job) -> &str {
    let failed = job.detail.strip_prefix("failed: ");
    failed.unwrap_or(job.waits.as_str())
}
