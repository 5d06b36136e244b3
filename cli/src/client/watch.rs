//! `weft watch`: follows a job to its end, as `weft run` follows its own.

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{SelectAll, StreamExt, select_all};
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tonic::{Status, Streaming};
use weft_proto::v1::{Job, JobEvent, JobEventsRequest, JobPhase, JobStepsRequest, StepFigures};

use super::again::{Broken, Following, Patience, ended, opened, opened_if_kept, to_the_end};
use super::connect::{About, ConnectArgs, Connection, job_ref};
use super::event::{Line, event_line, shown, step_line};
use super::job::{is_over, title};
use crate::exit::{Exit, Failure};
use crate::output::print::{self, Listening};
use crate::output::progress::{Audience, Progress};
use crate::signals::StopSignals;

/// Events that are shown of the time before.
const EVENTS_BEFORE: u32 = 10;
/// How long after a job's end its last events and steps may take to arrive.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);

/// Arguments of `weft watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The job: its id, the beginning of it, or its name
    job: String,
    /// Seconds to look for a coordinator that goes away
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    reconnect_within: u64,
    /// Prints one JSON object a line: jobs, events and steps
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How a job is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Who reads what is printed.
    pub(super) audience: Audience,
    /// How long a coordinator that goes away is looked for.
    pub(super) reconnect_within: Duration,
}

/// Watches a job; its result is the command's.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    super::block_on(async {
        let connection = args.connect.open().await?;
        let job = super::find(&connection, &args.job).await?;
        let manner = Manner {
            audience: if args.json {
                Audience::Programs
            } else {
                Audience::People
            },
            reconnect_within: Duration::from_secs(args.reconnect_within),
        };
        watch(connection, job, manner).await
    })
}

/// Watches a job from now on.
///
/// # Errors
/// It does not succeed, the coordinator stays away, or the user has seen enough.
pub(super) async fn watch(connection: Connection, job: Job, manner: Manner) -> Result<(), Failure> {
    let mut signals =
        StopSignals::listen().map_err(|error| Failure::new(Exit::Environment, error))?;
    let mut watch = Watch {
        connection,
        audience: manner.audience,
        patience: Patience::new(manner.reconnect_within),
        after_event: None,
        after_step: job.committed_steps,
        progress: None,
        has_figures: true,
        job,
    };
    let end = tokio::select! {
        end = to_the_end(&mut watch) => end?,
        signal = signals.next() => {
            let id = &watch.job.id;
            return Err(Failure::new(
                Exit::Aborted,
                format_args!("{signal}: no longer watching; the job goes on, `weft cancel {id}` ends it"),
            ));
        }
    };
    match end {
        End::Over(job) => result(&job),
        End::Unread => Ok(()),
    }
}

/// How watching ends.
enum End {
    /// The job is over.
    Over(Box<Job>),
    /// Nobody reads any more.
    Unread,
}

/// One message of the three streams.
enum Told {
    Job(Box<Job>),
    /// The coordinator says nothing more of the job's state.
    JobEnd,
    Event(JobEvent),
    Step(StepFigures),
}

type Tales = SelectAll<Pin<Box<dyn Stream<Item = Result<Told, Status>> + Send>>>;

struct Watch {
    connection: Connection,
    audience: Audience,
    patience: Patience,
    /// The job as it was last seen.
    job: Job,
    /// Number of the last event that was shown.
    after_event: Option<u64>,
    /// The last step that was shown.
    after_step: u64,
    /// Once the number of steps is known.
    progress: Option<Progress>,
    /// Whether the coordinator tells the figures of steps; one that runs a single recipe does not.
    has_figures: bool,
}

impl Following for Watch {
    type End = End;

    async fn session(&mut self) -> Result<End, Broken> {
        let mut tales = self.listen().await?;
        self.heard();
        while let Some(told) = tales.next().await {
            let told =
                told.map_err(|status| ended(&self.connection, About::Job(&self.job.id), &status))?;
            if matches!(told, Told::JobEnd) {
                break;
            }
            if self.show(told).await?.is_break() {
                return Ok(End::Unread);
            }
            if is_over(&self.job) {
                return self.last_words(tales).await;
            }
        }
        Err(Broken::Lost("it ended the stream".to_owned()))
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn patience(&mut self) -> &mut Patience {
        &mut self.patience
    }

    fn say(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.notice(text),
            None => print::error(text),
        }
    }
}

impl Watch {
    async fn listen(&mut self) -> Result<Tales, Broken> {
        let about = About::Job(&self.job.id);
        let job = || job_ref(&self.job.id);
        let events = JobEventsRequest {
            job: Some(job()),
            after: self.after_event.unwrap_or(0),
            last: self.after_event.map_or(EVENTS_BEFORE, |_| 0),
            follow: true,
        };
        let steps = JobStepsRequest {
            job: Some(job()),
            after: self.after_step,
            last: 0,
            follow: true,
        };
        let mut client = self.connection.client.clone();
        let events = client.job_events(events);
        let events = opened_if_kept(&self.connection, about, events).await?;
        let steps = client.job_steps(steps);
        let steps = opened_if_kept(&self.connection, about, steps).await?;
        let jobs = opened(&self.connection, about, client.watch_job(job())).await?;
        self.has_figures = steps.is_some();
        let end = tokio_stream::once(Ok(Told::JobEnd));
        let jobs = told(jobs, |job| Told::Job(Box::new(job)))
            .chain(end)
            .boxed();
        let events = events.map(|events| told(events, Told::Event).boxed());
        let steps = steps.map(|steps| told(steps, Told::Step).boxed());
        Ok(select_all(
            [Some(jobs), events, steps].into_iter().flatten(),
        ))
    }

    /// What is still on its way when the job is over already.
    async fn last_words(&mut self, mut tales: Tales) -> Result<End, Broken> {
        let end = Instant::now() + LAST_WORDS_WITHIN;
        while let Ok(Some(Ok(told))) = timeout_at(end, tales.next()).await {
            if self.show(told).await?.is_break() {
                return Ok(End::Unread);
            }
        }
        if let Some(progress) = &self.progress {
            progress.finish();
        }
        Ok(End::Over(Box::new(self.job.clone())))
    }

    async fn show(&mut self, told: Told) -> Result<Listening, Failure> {
        match told {
            Told::JobEnd => Ok(Listening::Continue(())),
            Told::Job(job) => {
                self.job = *job;
                self.begin();
                let shown = self.line(|watch| Line::Job((&watch.job).into()), Self::advance);
                self.after_step = self.after_step.max(self.unfigured());
                shown
            }
            Told::Event(event) => {
                self.after_event = Some(event.number);
                self.line(
                    |_| Line::Event((&event).into()),
                    |watch| {
                        // How the job ended is the last word anyway.
                        if event.kind != "ended" {
                            watch.say(&event_line(&event));
                        }
                        Ok(Listening::Continue(()))
                    },
                )
            }
            Told::Step(step) => {
                if self.progress.is_none() {
                    // The news of how many steps there are is still on its way.
                    self.job = super::find(&self.connection, &self.job.id).await?;
                    self.begin();
                }
                self.after_step = step.step;
                self.line(
                    |_| Line::Step((&step).into()),
                    |watch| match &watch.progress {
                        Some(progress) => progress.show(&shown(&step)),
                        None => print::line(step_line(&step)),
                    },
                )
            }
        }
    }

    fn line(
        &self,
        for_programs: impl FnOnce(&Self) -> Line,
        for_people: impl FnOnce(&Self) -> Result<Listening, Failure>,
    ) -> Result<Listening, Failure> {
        match self.audience {
            Audience::Programs => for_programs(self).print(),
            Audience::People => for_people(self),
        }
    }

    /// Steps of which nobody tells the figures.
    fn unfigured(&self) -> u64 {
        if self.has_figures {
            0
        } else {
            self.job.committed_steps
        }
    }

    /// Shows how far the job is, where nobody tells the figures of its steps.
    fn advance(&self) -> Result<Listening, Failure> {
        let Some(progress) = &self.progress else {
            return Ok(Listening::Continue(()));
        };
        if self.unfigured() <= self.after_step {
            return Ok(Listening::Continue(()));
        }
        let loss = self.job.loss.unwrap_or(f64::NAN);
        let words = format!("loss {loss:.4}  {:.0} tok/s", self.job.tokens_per_second);
        progress.advance(self.job.committed_steps, &words, &words)
    }

    /// Starts the bar, or the lines, once it is known how many steps there are.
    fn begin(&mut self) {
        if self.progress.is_none() && self.job.total_steps > 0 {
            let every = self.job.logging_steps;
            let (total, done) = (self.job.total_steps, self.after_step);
            self.progress = Some(Progress::new(self.audience, total, done, every));
        }
    }
}

fn told<T: Send + 'static>(
    stream: Streaming<T>,
    make: impl Fn(T) -> Told + Send + 'static,
) -> impl Stream<Item = Result<Told, Status>> + Send {
    stream.map(move |message| message.map(&make))
}

/// A job's end as a command's.
fn result(job: &Job) -> Result<(), Failure> {
    let title = title(job);
    let words = format!("{title} {}", job.detail);
    match job.phase() {
        JobPhase::Failed => Err(Failure::new(Exit::Job, words)),
        JobPhase::Cancelled => Err(Failure::new(Exit::Interrupted, words)),
        JobPhase::Unspecified
        | JobPhase::Queued
        | JobPhase::Preparing
        | JobPhase::Forming
        | JobPhase::Running
        | JobPhase::Draining
        | JobPhase::Succeeded => {
            print::error(format_args!("{words}; results in {}", job.output_dir));
            Ok(())
        }
    }
}
