//! Runs whose checkpoints go to a shared store: they go on without the machine that they were started on.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use http::Method;
use weft_common::ledger::{fetch_ledger, read};
use weft_common::store::{Store, StoreLimits};
use weft_tests::process::{Finished, Weft};
use weft_tests::quickstart::Quickstart;
use weft_tests::s3::{BUCKET, Fault, Rule, S3Server};

/// The quickstart with checkpoints in the server's bucket.
struct Shared {
    server: S3Server,
    quickstart: Quickstart,
}

impl Shared {
    fn new() -> Self {
        let storage = format!("training.storage=s3://{BUCKET}/runs");
        Self {
            server: S3Server::start(),
            quickstart: Quickstart::new().set(storage),
        }
    }

    fn run(&self, name: &str, workers: u32) -> Weft {
        let run = self.quickstart.run(name, workers);
        let environment = self.server.environment();
        environment
            .into_iter()
            .fold(run, |run, (key, value)| run.env(&key, value))
    }

    /// The machine that ran `name` is gone, with its disk.
    fn lose(&self, name: &str) {
        fs::remove_dir_all(self.quickstart.output(name)).unwrap();
    }

    /// As this process sees it.
    fn store(&self) -> Store {
        let url = format!("s3://{BUCKET}/runs").parse().unwrap();
        Store::open_with(&url, StoreLimits::default(), &self.server.environment()).unwrap()
    }

    fn audit(&self, name: &str) -> Finished {
        let cache = self.quickstart.folder().join("cache");
        let audit = Weft::new(&cache, ["audit"]);
        audit.args([self.quickstart.output(name)]).finish()
    }

    /// What each step of the run took.
    fn step_seconds(&self, name: &str) -> Vec<f64> {
        let path = self.quickstart.output(name).join("metrics.jsonl");
        let text = fs::read_to_string(path).unwrap();
        let records = text.lines().map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["step_seconds"].as_f64().unwrap()
        });
        records.collect()
    }

    /// Names of the jobs in the store.
    fn jobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.server.file("runs")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// The only job's checkpoints in the store that have a manifest.
    fn stored(&self) -> Vec<String> {
        let jobs = self.jobs();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        let job = self.server.file("runs").join(&jobs[0]);
        let checkpoints = fs::read_dir(job.join("checkpoints")).unwrap();
        let complete = checkpoints
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().join("MANIFEST.json").exists());
        let mut names: Vec<String> = complete
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The adapter of a run that nothing happened to.
fn undisturbed() -> &'static str {
    static ADAPTER: OnceLock<String> = OnceLock::new();
    ADAPTER.get_or_init(|| {
        let quickstart = Quickstart::new();
        quickstart.run("whole", 1).finish().succeeded();
        quickstart.adapter("whole")
    })
}

#[test]
fn a_run_whose_machine_is_gone_goes_on_elsewhere_with_other_workers_to_the_same_bits() {
    let shared = Shared::new();
    let mut first = shared.run("first", 2).start();
    first.wait_for("step 3/6");
    first.interrupt();
    first.finish().ended_with(30, &["--resume"]);
    shared.lose("first");

    let second = shared.run("second", 3).args(["--resume"]).finish();
    second.ended_with(
        0,
        &[
            "going on from s3://weft-test/runs/job-",
            "Resuming after step",
        ],
    );
    assert_eq!(shared.quickstart.adapter("second"), undisturbed());
    assert_eq!(shared.stored().last().unwrap(), "0000000006");
}

#[test]
fn a_run_killed_during_an_upload_goes_on_from_the_checkpoint_before() {
    let shared = Shared::new();
    let hang = Rule::all(Fault::Hang)
        .method(Method::PUT)
        .path("0000000004/optimizer");
    shared.server.inject(hang);
    let first = shared.run("first", 1).start();
    shared.server.wait_for(&Method::PUT, "0000000004/optimizer");
    first.kill();
    let _ = first.finish();
    assert_eq!(shared.stored(), ["0000000002"]);
    shared.server.heal();
    shared.lose("first");

    let second = shared.run("second", 2).args(["--resume"]).finish();
    second.ended_with(0, &["0000000004 is passed over", "checkpoints/0000000002"]);
    assert_eq!(shared.quickstart.adapter("second"), undisturbed());
    assert_eq!(shared.stored(), ["0000000002", "0000000004", "0000000006"]);
}

#[test]
fn a_checkpoint_that_the_store_refuses_is_told_and_training_goes_on() {
    let shared = Shared::new();
    let refuse = Rule::all(Fault::Status(403))
        .method(Method::PUT)
        .path("0000000002/");
    shared.server.inject(refuse);
    let run = shared.run("run", 1).finish();
    run.ended_with(0, &["permission denied", "training goes on"]);
    // Which ones come between depends on the disk: the next is taken when the one before is done.
    let stored = shared.stored();
    assert!(!stored.contains(&"0000000002".to_owned()), "{stored:?}");
    assert_eq!(stored.last().unwrap(), "0000000006");
    assert_eq!(shared.quickstart.adapter("run"), undisturbed());
}

#[test]
fn the_store_keeps_as_many_checkpoints_as_the_recipe_says() {
    let mut shared = Shared::new();
    shared.quickstart = shared.quickstart.set("training.save_total_limit=1");
    shared.run("run", 1).finish().succeeded();
    assert_eq!(shared.stored(), ["0000000006"]);
}

#[test]
fn a_store_that_cannot_be_written_to_is_noticed_before_the_first_step() {
    let shared = Shared::new();
    shared
        .server
        .inject(Rule::all(Fault::Status(403)).method(Method::PUT));
    let run = shared.run("run", 1).finish();
    run.ended_with(
        13,
        &["cannot create s3://weft-test/runs/", "permission denied"],
    );
    assert!(!shared.quickstart.output("run").exists());
}

#[test]
fn a_resume_without_anything_to_go_on_from_starts_at_the_beginning() {
    let shared = Shared::new();
    let run = shared.run("run", 1).args(["--resume"]).finish();
    run.succeeded();
    let stored = shared.stored();
    assert_eq!(stored.first().unwrap(), "0000000002");
    assert_eq!(stored.last().unwrap(), "0000000006");
}

/// The store fails for as long as the run takes, but for its beginning and its end.
#[test]
fn a_storage_that_fails_for_a_while_has_all_of_the_ledger_in_the_end() {
    let mut shared = Shared::new();
    shared.quickstart = shared.quickstart.set("training.save_steps=6");
    let mut run = shared.run("run", 1).start();
    run.wait_for("step 1/6");
    let ledger = Rule::all(Fault::Status(500)).path("/ledger/");
    shared.server.inject(ledger);
    run.wait_for("step 6/6");
    shared.server.heal();
    run.finish().succeeded();
    assert_eq!(shared.quickstart.adapter("run"), undisturbed());

    let [job] = &shared.jobs()[..] else {
        panic!("not one job: {:?}", shared.jobs());
    };
    let store = shared.store();
    let folder = tempfile::tempdir().unwrap();
    let ledger = fetch_ledger(&store, &job.parse().unwrap(), folder.path()).unwrap();
    let own = read(&shared.quickstart.output("run").join("ledger")).unwrap();
    assert_eq!(ledger.records.len(), 6);
    assert_eq!(ledger.records, own.records);
}

/// Each request takes longer than a step, even on a busy machine.
#[test]
fn a_storage_that_is_slow_slows_nobody_down() {
    const REQUEST: Duration = Duration::from_secs(3);
    let mut shared = Shared::new();
    shared.quickstart = shared.quickstart.set("training.save_steps=6");
    let slow = Rule::all(Fault::Slow(REQUEST)).path("/runs/job-");
    shared.server.inject(slow);
    shared.run("run", 1).finish().succeeded();
    assert_eq!(shared.quickstart.adapter("run"), undisturbed());
    assert_eq!(shared.stored(), ["0000000006"]);
    let seconds = shared.step_seconds("run");
    let quick = |seconds: &f64| *seconds < REQUEST.as_secs_f64();
    assert!(
        seconds.len() == 6 && seconds.iter().all(quick),
        "{seconds:?}"
    );
}

#[test]
fn a_storage_whose_answers_break_off_does_no_harm() {
    let shared = Shared::new();
    for fault in [Fault::BrokenBody, Fault::ShortBody] {
        shared
            .server
            .inject(Rule::all(fault).method(Method::GET).times(3));
    }
    let mut first = shared.run("first", 1).start();
    first.wait_for("step 4/6");
    first.interrupt();
    first.finish().ended_with(30, &["--resume"]);
    shared.lose("first");
    for fault in [Fault::BrokenBody, Fault::ShortBody, Fault::LostAnswer(500)] {
        shared.server.inject(Rule::all(fault).times(2));
    }
    shared
        .run("second", 1)
        .args(["--resume"])
        .finish()
        .succeeded();
    assert_eq!(shared.quickstart.adapter("second"), undisturbed());
    shared.audit("second").succeeded();
}
