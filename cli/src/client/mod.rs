//! The commands that talk to a coordinator and its queue: one thin file each. How the coordinator is reached is in
//! `connect`, what is done when it goes away for a while in `again`, how things are shown in `table`, `clock` and `job`.

pub(crate) mod cancel;
pub(crate) mod drain;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod probe;
pub(crate) mod scale;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod watch;
pub(crate) mod workers;

mod again;
mod clock;
mod connect;
mod event;
mod job;
mod table;

pub(crate) use self::connect::{CoordinatorUrl, DEFAULT_URL};

use serde::Serialize;
use weft_proto::v1::Job;

use self::connect::{About, Connection, job_ref};
use crate::exit::{Exit, Failure};
use crate::output::print;

/// Talks to the coordinator to the end; one thread is enough for that.
fn block_on<T>(talk: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, error))?;
    runtime.block_on(talk)
}

/// The job that is meant by an id, the beginning of one, or a name.
async fn find(connection: &Connection, named: &str) -> Result<Job, Failure> {
    let mut client = connection.client.clone();
    let call = client.get_job(job_ref(named));
    connection.answer(About::Job(named), call).await
}

/// Prints one document.
fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document);
    print::line(text.map_err(|error| Failure::new(Exit::Internal, error))?).map(drop)
}

/// What `verb` would do to a job that is over.
fn refuse_over(job: &Job, verb: &str) -> Result<(), Failure> {
    if !job::is_over(job) {
        return Ok(());
    }
    let title = job::title(job);
    Err(Failure::new(
        Exit::Refused,
        format_args!("cannot {verb} {title}: it is over, {}", job.detail),
    ))
}
