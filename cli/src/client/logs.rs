//! `weft logs`: what happened to a job, or the figures of its steps.

use std::time::Duration;

use tonic::Streaming;
use weft_proto::v1::{JobEvent, JobEventsRequest, JobStepsRequest, StepFigures};

use super::again::{Broken, Following, Patience, ended, opened, to_the_end};
use super::connect::{About, ConnectArgs, Connection, job_ref};
use super::event::{Line, event_line, step_line};
use super::job::is_over;
use crate::exit::Failure;
use crate::output::print::{self, Listening};

/// Arguments of `weft logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The job: its id, the beginning of it, or its name
    job: String,
    /// Goes on with what happens, until the job is over
    #[arg(long, short)]
    follow: bool,
    /// Shows the figures of its steps instead
    #[arg(long)]
    steps: bool,
    /// Starts with the newest so many only
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// Seconds to look for a coordinator that goes away
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    reconnect_within: u64,
    /// Prints one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints them.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    super::block_on(async {
        if args.steps {
            Logs::<StepFigures>::print(args).await
        } else {
            Logs::<JobEvent>::print(args).await
        }
    })
}

/// What a log is made of.
trait Entry: Sized {
    /// Asks for those after number `after`; at first for the newest `last`, where that is not 0.
    async fn open(log: &Logs<'_, Self>, last: u32) -> Result<Streaming<Self>, Broken>;

    /// The number that the next one comes after.
    fn number(&self) -> u64;

    fn for_people(&self) -> String;

    fn for_programs(&self) -> Line;
}

/// What is printed, and how far that is.
struct Logs<'a, E> {
    args: &'a Args,
    /// The full id: a name may mean another job when it is asked for again.
    job: String,
    connection: Connection,
    patience: Patience,
    last_printed: Option<E>,
}

impl<'a, E: Entry> Logs<'a, E> {
    async fn print(args: &'a Args) -> Result<(), Failure> {
        let connection = args.connect.open().await?;
        let job = super::find(&connection, &args.job).await?;
        let mut logs = Self {
            args,
            job: job.id,
            connection,
            patience: Patience::new(Duration::from_secs(args.reconnect_within)),
            last_printed: None,
        };
        to_the_end(&mut logs).await
    }

    fn after(&self) -> u64 {
        self.last_printed.as_ref().map_or(0, E::number)
    }

    /// The next entry: at once, or when there is one where it is followed.
    async fn next(&self, stream: &mut Streaming<E>) -> Result<Option<E>, Broken> {
        let about = About::Job(&self.job);
        if self.args.follow {
            let next = stream.message().await;
            return next.map_err(|status| ended(&self.connection, about, &status));
        }
        Ok(self.connection.next(about, stream).await?)
    }

    fn show(&self, entry: &E) -> Result<Listening, Failure> {
        if self.args.json {
            entry.for_programs().print()
        } else {
            print::line(entry.for_people())
        }
    }
}

impl<E: Entry> Following for Logs<'_, E> {
    type End = ();

    async fn session(&mut self) -> Result<(), Broken> {
        let last = match self.last_printed {
            Some(_) => 0,
            None => self.args.last.unwrap_or(0),
        };
        let mut stream = E::open(self, last).await?;
        self.heard();
        while let Some(entry) = self.next(&mut stream).await? {
            if self.show(&entry)?.is_break() {
                return Ok(());
            }
            self.last_printed = Some(entry);
        }
        if self.args.follow {
            let job = super::find(&self.connection, &self.job).await;
            let job = job.map_err(|failure| Broken::Lost(failure.problems().join("; ")))?;
            if !is_over(&job) {
                return Err(Broken::Lost("it ended the stream".to_owned()));
            }
        }
        Ok(())
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn patience(&mut self) -> &mut Patience {
        &mut self.patience
    }

    fn say(&self, text: &str) {
        print::error(text);
    }
}

impl Entry for JobEvent {
    async fn open(log: &Logs<'_, Self>, last: u32) -> Result<Streaming<Self>, Broken> {
        let asked = JobEventsRequest {
            job: Some(job_ref(&log.job)),
            after: log.after(),
            last,
            follow: log.args.follow,
        };
        let mut client = log.connection.client.clone();
        opened(
            &log.connection,
            About::Job(&log.job),
            client.job_events(asked),
        )
        .await
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn for_people(&self) -> String {
        event_line(self)
    }

    fn for_programs(&self) -> Line {
        Line::Event(self.into())
    }
}

impl Entry for StepFigures {
    async fn open(log: &Logs<'_, Self>, last: u32) -> Result<Streaming<Self>, Broken> {
        let asked = JobStepsRequest {
            job: Some(job_ref(&log.job)),
            after: log.after(),
            last,
            follow: log.args.follow,
        };
        let mut client = log.connection.client.clone();
        opened(
            &log.connection,
            About::Job(&log.job),
            client.job_steps(asked),
        )
        .await
    }

    fn number(&self) -> u64 {
        self.step
    }

    fn for_people(&self) -> String {
        step_line(self)
    }

    fn for_programs(&self) -> Line {
        Line::Step(self.into())
    }
}
