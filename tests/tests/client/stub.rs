//! A coordinator that only plays one: it says of jobs, workers, events and steps what a test wrote down, and goes away
//! and comes back as the test says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::stream::{Stream, unfold};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use weft_proto::v1::control_server::{Control, ControlServer};
use weft_proto::v1::{self, Job, JobEvent, JobPhase, StepFigures, WorkerInfo};
use weft_tests::process::DEADLINE;

/// A port that was just let go of is free again within this.
const PORT_WITHIN: Duration = Duration::from_secs(20);

/// What the stub says.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) jobs: Vec<Job>,
    pub(crate) left_out: u64,
    pub(crate) workers: Vec<WorkerInfo>,
    /// Of every job.
    pub(crate) events: Vec<JobEvent>,
    /// Of every job.
    pub(crate) steps: Vec<StepFigures>,
    /// What was handed in, drained, scaled to.
    pub(crate) submitted: Vec<v1::SubmitJobRequest>,
    pub(crate) drained: Vec<String>,
    /// Answers nothing.
    pub(crate) hangs: bool,
    /// Refuses every job: with these words, as a problem of that kind.
    pub(crate) refuses: Option<(String, &'static str)>,
    /// Knows nothing of events and steps.
    pub(crate) keeps_no_records: bool,
}

/// A stub that can be talked to.
pub(crate) struct Stub {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    changes: watch::Sender<u64>,
    /// One for each who begins to watch a job.
    watchers: (mpsc::Sender<()>, mpsc::Receiver<()>),
    runtime: Option<Runtime>,
}

impl Stub {
    /// Starts on a free port.
    pub(crate) fn start(world: World) -> Self {
        let mut stub = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            world: Arc::new(Mutex::new(world)),
            changes: watch::Sender::new(0),
            watchers: mpsc::channel(),
            runtime: None,
        };
        stub.come();
        stub
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it says, and tells those who follow.
    pub(crate) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
        self.changes.send_modify(|version| *version += 1);
    }

    pub(crate) fn world(&self) -> World {
        self.world.lock().unwrap().clone()
    }

    /// Waits until someone watches a job.
    pub(crate) fn wait_for_watcher(&self) {
        self.watchers.1.recv_timeout(DEADLINE).unwrap();
    }

    /// Goes away as a process does that is killed: all connections end.
    pub(crate) fn go(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Listens, where it has listened before.
    pub(crate) fn come(&mut self) {
        if self.runtime.is_some() {
            return;
        }
        let runtime = Runtime::new().unwrap();
        let end = Instant::now() + PORT_WITHIN;
        let listener = loop {
            match runtime.block_on(TcpListener::bind(self.address)) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < end, "{}: {error}", self.address),
            }
        };
        self.address = listener.local_addr().unwrap();
        let service = Service {
            world: self.world.clone(),
            changes: self.changes.subscribe(),
            watchers: self.watchers.0.clone(),
        };
        let server = Server::builder().add_service(ControlServer::new(service));
        runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        self.runtime = Some(runtime);
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.go();
    }
}

struct Service {
    world: Arc<Mutex<World>>,
    changes: watch::Receiver<u64>,
    watchers: mpsc::Sender<()>,
}

impl Service {
    async fn world(&self) -> World {
        let world = self.world.lock().unwrap().clone();
        if world.hangs {
            std::future::pending::<()>().await;
        }
        world
    }

    async fn job(&self, named: &str) -> Result<Job, Status> {
        let jobs = self.world().await.jobs;
        if let Some(job) = jobs.iter().find(|job| job.id == named) {
            return Ok(job.clone());
        }
        let begin = |job: &&Job| job.id.starts_with(named);
        let meant: Vec<&Job> = jobs.iter().filter(begin).collect();
        if let [_, _, ..] = meant.as_slice() {
            let ids: Vec<&str> = meant.iter().map(|job| job.id.as_str()).collect();
            let text = format!(
                "{named} may mean any of {}; give more of the id",
                ids.join(", ")
            );
            return Err(Status::invalid_argument(text));
        }
        let newest = jobs.iter().rev().find(|job| job.name == named);
        let job = meant.first().copied().or(newest);
        job.cloned().ok_or_else(|| Status::not_found("no such job"))
    }

    /// Those after number `after`, then those to come until the job is over.
    fn tell<T: Clone + Send + 'static>(
        &self,
        job: String,
        select: impl Fn(&World) -> Vec<T> + Send + 'static,
        (number, asked): (fn(&T) -> u64, Asked),
    ) -> Tale<T> {
        let state = (
            VecDeque::new(),
            asked,
            self.changes.clone(),
            self.world.clone(),
        );
        Box::pin(unfold(
            (state, select, job),
            move |(state, select, job)| async move {
                let (mut pending, mut asked, mut changes, world): (
                    VecDeque<T>,
                    _,
                    _,
                    Arc<Mutex<World>>,
                ) = state;
                loop {
                    if let Some(item) = pending.pop_front() {
                        asked.after = number(&item);
                        let state = (pending, asked, changes, world);
                        return Some((Ok(item), (state, select, job)));
                    }
                    let (over, mut fresh) = {
                        changes.mark_unchanged();
                        let world = world.lock().unwrap();
                        let over = world
                            .jobs
                            .iter()
                            .any(|known| known.id == job && is_over(known));
                        (over, select(&world))
                    };
                    fresh.retain(|item| number(item) > asked.after);
                    let skipped = match std::mem::take(&mut asked.last) {
                        0 => 0,
                        last => fresh.len().saturating_sub(last as usize),
                    };
                    pending.extend(fresh.into_iter().skip(skipped));
                    let nothing_to_come = over || !asked.follow || changes.has_changed().is_err();
                    if pending.is_empty() && nothing_to_come {
                        return None;
                    }
                    if pending.is_empty() {
                        let _ = changes.changed().await;
                    }
                }
            },
        ))
    }
}

/// What of a stream.
struct Asked {
    after: u64,
    last: u32,
    follow: bool,
}

fn is_over(job: &Job) -> bool {
    [JobPhase::Succeeded, JobPhase::Failed, JobPhase::Cancelled].contains(&job.phase())
}

type Tale<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Service {
    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<Job>, Status> {
        if let Some((words, kind)) = self.world().await.refuses {
            let mut status = Status::invalid_argument(words);
            let kind = MetadataValue::from_static(kind);
            status.metadata_mut().insert("weft-problem", kind);
            return Err(status);
        }
        let mut world = self.world.lock().unwrap();
        let request = request.into_inner();
        let job = Job {
            id: format!("job-{:032}", world.jobs.len()),
            name: request.name.clone(),
            phase: JobPhase::Queued.into(),
            output_dir: request.output_dir.clone(),
            ..Job::default()
        };
        world.submitted.push(request);
        world.jobs.push(job.clone());
        Ok(Response::new(job))
    }

    async fn get_job(&self, request: Request<v1::JobRef>) -> Result<Response<Job>, Status> {
        let job = self.job(&request.into_inner().id).await?;
        Ok(Response::new(job))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsReply>, Status> {
        let World {
            mut jobs, left_out, ..
        } = self.world().await;
        jobs.retain(|job| request.get_ref().ended || !is_over(job));
        Ok(Response::new(v1::ListJobsReply { jobs, left_out }))
    }

    async fn scale_job(
        &self,
        request: Request<v1::ScaleJobRequest>,
    ) -> Result<Response<Job>, Status> {
        let request = request.into_inner();
        let job = self.job(&request.job.unwrap_or_default().id).await?;
        let (workers, min, max) = (request.workers, job.min_workers, job.max_workers);
        if !(min..=max).contains(&workers) {
            return Err(Status::invalid_argument(format!(
                "{workers} workers asked for, but the recipe allows {min} to {max}; change resources.workers"
            )));
        }
        Ok(Response::new(Job { workers, ..job }))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        let workers = self.world().await.workers;
        Ok(Response::new(v1::ListWorkersReply {
            workers,
            weft_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerReply>, Status> {
        let worker = request.into_inner().worker;
        self.world.lock().unwrap().drained.push(worker);
        Ok(Response::new(v1::DrainWorkerReply {}))
    }

    type WatchJobStream = Tale<Job>;

    async fn watch_job(&self, request: Request<v1::JobRef>) -> Result<Response<Tale<Job>>, Status> {
        let job = self.job(&request.into_inner().id).await?;
        let (world, changes) = (self.world.clone(), self.changes.clone());
        self.watchers.send(()).unwrap();
        let id = job.id;
        let tale = unfold((changes, None), move |(mut changes, last)| {
            let (world, id) = (world.clone(), id.clone());
            async move {
                if last == Some(true) {
                    return None;
                }
                if last.is_some() && changes.changed().await.is_err() {
                    return None;
                }
                changes.mark_unchanged();
                let jobs = world.lock().unwrap().jobs.clone();
                let told = jobs.into_iter().find(|job| job.id == id)?;
                let over = is_over(&told);
                Some((Ok(told), (changes, Some(over))))
            }
        });
        Ok(Response::new(Box::pin(tale)))
    }

    type JobEventsStream = Tale<JobEvent>;

    async fn job_events(
        &self,
        request: Request<v1::JobEventsRequest>,
    ) -> Result<Response<Tale<JobEvent>>, Status> {
        let request = request.into_inner();
        if self.world().await.keeps_no_records {
            return Err(Status::failed_precondition(
                "this coordinator keeps no records",
            ));
        }
        let job = self.job(&request.job.unwrap_or_default().id).await?;
        let asked = Asked {
            after: request.after,
            last: request.last,
            follow: request.follow,
        };
        let tale = self.tell(
            job.id,
            |world| world.events.clone(),
            (|e: &JobEvent| e.number, asked),
        );
        Ok(Response::new(tale))
    }

    type JobStepsStream = Tale<StepFigures>;

    async fn job_steps(
        &self,
        request: Request<v1::JobStepsRequest>,
    ) -> Result<Response<Tale<StepFigures>>, Status> {
        let request = request.into_inner();
        if self.world().await.keeps_no_records {
            return Err(Status::failed_precondition(
                "this coordinator keeps no records",
            ));
        }
        let job = self.job(&request.job.unwrap_or_default().id).await?;
        let asked = Asked {
            after: request.after,
            last: request.last,
            follow: request.follow,
        };
        let tale = self.tell(
            job.id,
            |world| world.steps.clone(),
            (|s: &StepFigures| s.step, asked),
        );
        Ok(Response::new(tale))
    }

    async fn cancel_job(&self, request: Request<v1::JobRef>) -> Result<Response<Job>, Status> {
        let job = self.job(&request.into_inner().id).await?;
        if is_over(&job) && job.phase() != JobPhase::Cancelled {
            let words = format!("{} is over: {}", job.id, job.detail);
            return Err(Status::failed_precondition(words));
        }
        Ok(Response::new(job))
    }

    async fn shutdown(
        &self,
        _: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownReply>, Status> {
        Err(Status::unimplemented("nobody asks for it"))
    }
}
