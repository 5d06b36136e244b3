//! Coordinators that share a storage and no disk.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use weft_common::ledger::{Ledger, fetch_ledger};
use weft_common::store::Store;
use weft_tests::cluster::{Cluster, Start, Undisturbed};
use weft_tests::quickstart::Quickstart;

/// Longer than what a coordinator has seen of the storage counts.
const SLEEP: Duration = Duration::from_secs(6);

/// Twenty steps with a checkpoint after every second, in a storage that is a folder.
fn stored_in(storage: &Path) -> Quickstart {
    Quickstart::new()
        .set("training.max_steps=20")
        .set("training.save_steps=2")
        .set(format!("training.storage=file://{}", storage.display()))
}

/// The ledger in the storage.
fn stored_ledger(storage: &Path) -> Ledger {
    let url = format!("file://{}", storage.display());
    let store = Store::open(&url.parse().unwrap()).unwrap();
    let mut jobs = store.folders("").unwrap();
    // What a look at what the storage can do leaves is no job.
    jobs.retain(|name| !name.starts_with('.'));
    let [job] = &jobs[..] else {
        panic!("not one job: {jobs:?}");
    };
    let folder = tempfile::tempdir().unwrap();
    fetch_ledger(&store, &job.parse().unwrap(), folder.path()).unwrap()
}

/// The first coordinator stands still just when it has recorded a step and told nobody; meanwhile another one takes the
/// job over elsewhere, with workers of its own, and ends it. Then the first one goes on.
#[test]
fn a_coordinator_that_slept_while_another_took_the_job_over_commits_nothing_more() {
    let storage = tempfile::tempdir().unwrap();
    let start = Start::failing("recorded@7:stop");
    // Slow enough that the storage has a checkpoint by then.
    let slow = Start::failing("leased:delay-300");
    let mut older = Cluster::start(stored_in(storage.path()), 1, &start);
    older.join(&slow);
    older.coordinator().wait_for("failpoint reached");
    let asleep = Instant::now();

    let resume = ["--resume"];
    let mut newer = Cluster::start_with(stored_in(storage.path()), 1, &Start::plain(), &resume);
    newer.join(&Start::plain());
    newer.ends_like(Undisturbed::twenty_steps());
    let ledger = stored_ledger(storage.path());

    // This is the fault itself.
    thread::sleep(SLEEP.saturating_sub(asleep.elapsed()));
    let sleeper = older.coordinator();
    sleeper.go_on();
    sleeper.await_end();
    let said = sleeper.said().join("\n");
    assert_ne!(sleeper.exit_code(), Some(0), "{said}");
    assert!(said.contains("has taken the job over"), "{said}");
    let after = said.split("failpoint reached").nth(1).unwrap();
    assert!(!after.contains("step committed"), "{after}");
    assert_eq!(stored_ledger(storage.path()).records, ledger.records);
}

/// Both have workers and run at full speed.
#[test]
fn of_two_coordinators_on_one_storage_the_older_ends_and_what_it_did_late_does_not_count() {
    let storage = tempfile::tempdir().unwrap();
    // Slow enough that it is not done before the other one has come.
    let slow = Start::failing("leased:delay-500");
    let mut older = Cluster::start(stored_in(storage.path()), 1, &Start::plain());
    older.join(&slow);
    older.coordinator().wait_for("checkpoint saved");

    let resume = ["--resume"];
    let mut newer = Cluster::start_with(stored_in(storage.path()), 1, &Start::plain(), &resume);
    newer.join(&Start::plain());
    older.coordinator().await_end();
    let said = older.coordinator().said().join("\n");
    assert!(said.contains("has taken the job over"), "{said}");
    newer.ends_like(Undisturbed::twenty_steps());

    let ledger = stored_ledger(storage.path());
    let steps: Vec<u64> = ledger.records.iter().map(|record| record.step.0).collect();
    assert_eq!(
        steps,
        (0..20).collect::<Vec<u64>>(),
        "each step counts once"
    );
    let terms: Vec<u64> = ledger.records.iter().map(|record| record.term.0).collect();
    assert!(terms.is_sorted() && terms.last() == Some(&2), "{terms:?}");
}

/// Its workers keep what they hold and come back to the new one; the audit proves all steps from the ledger that came from
/// the storage.
#[test]
fn a_coordinator_without_its_disk_goes_on_with_the_ledger_from_the_storage() {
    let storage = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(stored_in(storage.path()), 2, &Start::plain());
    cluster.join(&Start::plain());
    cluster.join(&Start::plain());
    cluster.coordinator().wait_for("step committed step=5");
    cluster.restart_elsewhere();
    cluster.ends_like(Undisturbed::twenty_steps());
    let ledger = stored_ledger(storage.path());
    assert_eq!(ledger.records.len(), 20);
}
