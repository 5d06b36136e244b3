//! A long queue is a usable one.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tonic::transport::Channel;
use weft_common::id::Term;
use weft_common::recipe::Recipe;
use weft_coordinator::{
    Attend, Attendant, Coordinator, CoordinatorConfig, JobSpec, Limits, Preflight, Queue,
    RecipeData, RunningCoordinator, StartFrom, Unfit,
};
use weft_proto::v1;
use weft_proto::v1::control_client::ControlClient;
use weft_tests::quickstart::Quickstart;

const JOBS: usize = 10_000;

/// What people do not notice.
const WITHIN: Duration = Duration::from_millis(100);

/// On a machine that does other things as well, the quickest says what it takes.
const TRIES: usize = 10;

/// Finds nothing wrong with any job.
struct Trusting;

impl Preflight for Trusting {
    fn inspect(&self, job: JobSpec, _: StartFrom) -> Result<JobSpec, Unfit> {
        Ok(job)
    }

    fn go_on(&self, job: JobSpec) -> Result<JobSpec, String> {
        Ok(job)
    }
}

impl Attend for Trusting {
    fn open(&self, _: &JobSpec) -> Result<Box<dyn Attendant>, String> {
        // The first job has its turn, and must not make room for the second.
        loop {
            std::thread::park();
        }
    }
}

async fn coordinator(state: &Path) -> RunningCoordinator {
    let config = CoordinatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        state_dir: state.to_owned(),
        after: Term(0),
        data: Arc::new(RecipeData {
            cache_dir: state.join("cache"),
        }),
        queue: Some(Queue {
            preflight: Arc::new(Trusting),
            attend: Arc::new(Trusting),
        }),
        limits: Limits::default(),
    };
    Coordinator::bind(config).await.unwrap()
}

async fn client(coordinator: &RunningCoordinator) -> ControlClient<Channel> {
    let client = ControlClient::connect(format!("http://{}", coordinator.addr)).await;
    client.unwrap().max_decoding_message_size(64 << 20)
}

/// A state folder with so many jobs that wait: copies of one that was handed in.
async fn many_jobs(state: &Path) {
    let coordinator = coordinator(state).await;
    let recipe = Recipe::load(&Quickstart::recipe(), &[]).unwrap().recipe;
    let request = v1::SubmitJobRequest {
        recipe_json: recipe.to_json(),
        output_dir: "/nowhere".to_owned(),
        name: "one of many".to_owned(),
        // Nobody has that, so that all wait.
        worker_memory_bytes: u64::MAX / 4,
        ..v1::SubmitJobRequest::default()
    };
    let mut client = client(&coordinator).await;
    let first = client.submit_job(request).await.unwrap().into_inner();
    coordinator.leave().await;
    let file = |id: &str| state.join("jobs").join(format!("{id}.json"));
    let text = fs::read(file(&first.id)).unwrap();
    let mut job: Value = serde_json::from_slice(&text).unwrap();
    job["started_unix_ms"] = Value::Null;
    job["ended"] = Value::Null;
    fs::remove_file(file(&first.id)).unwrap();
    for number in 0..JOBS {
        let id = format!("job-{number:032x}");
        job["id"] = Value::from(id.as_str());
        job["number"] = Value::from(number);
        job["output_dir"] = Value::from(format!("/nowhere/{number}"));
        fs::write(file(&id), job.to_string()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_queued_jobs_are_listed_within_a_tenth_of_a_second() {
    let state = tempfile::tempdir().unwrap();
    many_jobs(state.path()).await;
    let start = Instant::now();
    let coordinator = coordinator(state.path()).await;
    println!("{JOBS} jobs handed in again in {:.2?}", start.elapsed());
    let mut client = client(&coordinator).await;
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let start = Instant::now();
        let asked = client.list_jobs(v1::ListJobsRequest::default());
        let reply = asked.await.unwrap().into_inner();
        took.push(start.elapsed());
        let queued = reply.jobs.iter();
        let queued = queued.filter(|job| job.phase() == v1::JobPhase::Queued);
        assert!(queued.count() >= JOBS - 1, "one may have had its turn");
    }
    took.sort();
    println!("{JOBS} jobs listed and decoded in {took:.1?}");
    assert!(took[0] <= WITHIN, "{took:?}");
    coordinator.leave().await;
}
