//! What the records promise, on real files.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use weft_common::id::JobId;
use weft_common::recipe::{Format, Recipe};
use weft_proto::v1;

use super::*;
use crate::config::{JobSpec, WorkersBefore};
use crate::engine::{JobOutcome, Needs, Notice, OnNonFinite};
use crate::happening::Level;
use crate::view::JobPhase;

fn spec(id: &str, output_dir: &Path) -> JobSpec {
    let recipe = r#"{"model": {"base_model": "/m"}, "datasets": [{"path": "/d.jsonl"}]}"#;
    JobSpec {
        id: id.parse().unwrap(),
        name: format!("name of {id}"),
        recipe: Recipe::parse(recipe, Format::Json).unwrap(),
        priority: 5,
        workers: 1,
        gang: Some(1),
        needs: Needs::default(),
        form_within: Duration::from_secs(60),
        output_dir: output_dir.join(id),
        resume: None,
        workers_before: WorkersBefore::Gone,
        on_non_finite: OnNonFinite::Fail,
    }
}

/// Hands in a job.
fn submit(records: &Records, id: &str) -> JobView {
    submitted(records, id).0
}

fn submitted(records: &Records, id: &str) -> (JobView, Receipt) {
    let spec = spec(id, Path::new("/out"));
    let view = JobView::submitted(&spec, 1_000);
    let file = JobFile::of(&spec, records.next_number(), 1_000);
    let receipt = records.submitted(&file, &view).unwrap();
    (view, receipt)
}

fn cancelled(mut view: JobView) -> JobView {
    view.told(
        &Notice::Ended(JobOutcome::Cancelled { checkpoint: None }),
        9_000,
    );
    view
}

fn step(step: u64, loss: f64) -> v1::StepFigures {
    v1::StepFigures {
        step,
        unix_ms: 1,
        loss,
        workers: 2,
        ..v1::StepFigures::default()
    }
}

fn ids(jobs: &[JobView]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}

fn id(text: &str) -> JobId {
    text.parse().unwrap()
}

/// What a later start finds.
fn reopened(state: &Path) -> OpenRecords {
    OpenRecords::open(state).unwrap()
}

#[test]
fn jobs_that_wait_keep_their_order_over_a_restart_and_those_that_are_over_their_end() {
    let state = tempfile::tempdir().unwrap();
    let open = reopened(state.path());
    // Not the order of their ids.
    for job in ["job-c", "job-a", "job-b", "job-d"] {
        let view = submit(&open.records, job);
        if job == "job-d" {
            open.records.stands(&cancelled(view));
        }
    }
    drop(open);

    let open = reopened(state.path());
    let waiting = open.records.unfinished().unwrap();
    assert_eq!(ids(&waiting), ["job-c", "job-a", "job-b"]);
    assert_eq!(waiting[0].name, "name of job-c");
    let over = open.records.over(0).unwrap();
    assert_eq!(ids(&over.jobs), ["job-d"]);
    assert_eq!(over.jobs[0].phase, JobPhase::Cancelled);
    assert_eq!(open.records.next_number(), 5);
    let again = open.records.file(&id("job-a")).unwrap().spec().unwrap();
    assert_eq!(again.priority, 5);
}

#[test]
fn damaged_records_are_set_aside_and_made_anew_from_the_jobs_files() {
    let state = tempfile::tempdir().unwrap();
    let open = reopened(state.path());
    for job in ["job-c", "job-a"] {
        submit(&open.records, job);
    }
    let over = submit(&open.records, "job-b");
    open.records.stands(&cancelled(over));
    drop(open);
    let database = state.path().join("records.db");
    for damage in [b"not a database at all".to_vec(), half(&database)] {
        fs::write(&database, &damage).unwrap();

        let open = reopened(state.path());

        let waiting = open.records.unfinished().unwrap();
        assert_eq!(ids(&waiting), ["job-c", "job-a"]);
        let over = open.records.over(0).unwrap().jobs;
        assert_eq!(
            (ids(&over), over[0].phase),
            (vec!["job-b"], JobPhase::Cancelled)
        );
    }
    let kept = fs::read_dir(state.path())
        .unwrap()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.starts_with("records.db.damaged-")
        });
    assert_eq!(kept.count(), 2);
}

/// A database whose second half is overwritten.
fn half(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    bytes
}

#[test]
fn a_newer_format_and_another_programs_database_are_left_alone() {
    let state = tempfile::tempdir().unwrap();
    drop(reopened(state.path()));
    let path = state.path().join("records.db");
    let database = Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", 7).unwrap();
    let refused = OpenRecords::open(state.path()).unwrap_err().to_string();
    assert!(
        refused.contains("format 7") && refused.contains("--state"),
        "{refused}"
    );

    database.pragma_update(None, "application_id", 99).unwrap();
    let refused = OpenRecords::open(state.path()).unwrap_err();
    assert!(matches!(refused, RecordsError::Foreign { .. }), "{refused}");
}

#[test]
fn two_coordinators_never_share_a_state_folder() {
    let state = tempfile::tempdir().unwrap();
    let first = reopened(state.path());
    let refused = OpenRecords::open(state.path()).unwrap_err();
    assert!(matches!(refused, RecordsError::Busy { .. }), "{refused}");
    drop(first);
    reopened(state.path());
}

#[test]
fn what_happened_is_there_in_order_and_ends_with_the_job() {
    let state = tempfile::tempdir().unwrap();
    let open = reopened(state.path());
    let view = submit(&open.records, "job-a");
    submit(&open.records, "job-b");
    let say = |job: &str, text: &str| {
        let happening = Happening::new(Level::Info, "test", text);
        open.records.happened(Some(&id(job)), happening);
    };
    say("job-a", "first");
    say("job-b", "not ours");
    say("job-a", "second");
    open.records.stands(&cancelled(view));
    drop(open);

    let records = &reopened(state.path()).records;
    let page = records.events(&id("job-a"), 0).unwrap();
    let texts: Vec<&str> = page
        .rows
        .iter()
        .map(|(_, event)| event.text.as_str())
        .collect();
    assert_eq!(texts, ["first", "second"]);
    assert!(page.is_last && !page.is_full);
    let after = records.events_before(&id("job-a"), 1).unwrap();
    assert_eq!(records.events(&id("job-a"), after).unwrap().rows.len(), 1);
    assert!(!records.events(&id("job-b"), 0).unwrap().is_last);
}

#[test]
fn steps_that_are_computed_again_take_the_place_of_the_former_and_no_number_is_none() {
    let state = tempfile::tempdir().unwrap();
    let open = reopened(state.path());
    submit(&open.records, "job-a");
    let job = id("job-a");
    for number in 1..=4 {
        open.records.stepped(&job, step(number, 4.0));
    }
    open.records.rolled_back(&job, 2);
    open.records.stepped(&job, step(3, f64::NAN));
    drop(open);

    let records = &reopened(state.path()).records;
    let page = records.steps(&job, 0, 1).unwrap();
    let steps: Vec<u64> = page.rows.iter().map(|(_, step)| step.step).collect();
    assert_eq!(steps, [2, 3]);
    assert!(page.rows[1].1.loss.is_nan());
}

#[test]
fn a_reference_is_an_id_or_the_beginning_of_one_or_a_name() {
    let state = tempfile::tempdir().unwrap();
    let open = reopened(state.path());
    for job in ["job-aa", "job-ab", "job-b"] {
        submit(&open.records, job);
    }
    let find = |text: &str| open.records.find(text).unwrap();
    assert_eq!(find("job-a").by_prefix, [id("job-aa"), id("job-ab")]);
    assert_eq!(find("job-b").by_prefix, [id("job-b")]);
    assert_eq!(find("name of job-ab").by_name, Some(id("job-ab")));
    assert_eq!(find("%"), Found::default());
}

#[test]
fn a_job_whose_file_is_gone_or_broken_is_over_and_says_why() {
    let state = tempfile::tempdir().unwrap();
    let open = reopened(state.path());
    for job in ["job-a", "job-b", "job-c"] {
        submit(&open.records, job);
    }
    drop(open);
    fs::remove_file(state.path().join("jobs/job-a.json")).unwrap();
    fs::write(state.path().join("jobs/job-b.json"), "{").unwrap();

    let open = reopened(state.path());

    assert_eq!(ids(&open.records.unfinished().unwrap()), ["job-c"]);
    for job in open.records.over(0).unwrap().jobs {
        assert_eq!(job.phase, JobPhase::Failed);
        assert!(
            job.detail.contains("could not be handed in again"),
            "{}",
            job.detail
        );
    }
}

#[test]
fn a_job_that_was_refused_leaves_nothing_but_what_was_there_before() {
    let state = tempfile::tempdir().unwrap();
    let open = reopened(state.path());
    let over = submit(&open.records, "job-b");
    open.records.stands(&cancelled(over));
    drop(open);
    let open = reopened(state.path());
    for job in ["job-a", "job-b"] {
        let (_, receipt) = submitted(&open.records, job);
        open.records.withdrawn(receipt);
    }
    drop(open);
    let open = reopened(state.path());
    assert!(open.records.unfinished().unwrap().is_empty());
    assert!(open.records.job(&id("job-a")).unwrap().is_none());
    let kept = open.records.job(&id("job-b")).unwrap().unwrap();
    assert_eq!(
        (kept.phase, kept.ended_unix_ms),
        (JobPhase::Cancelled, Some(9_000))
    );
}
