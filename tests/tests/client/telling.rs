//! `scale`, `cancel` and `drain`.

use serde_json::json;

use crate::fixture::{DONE, RUNNING, json, printed, weft, world};
use crate::stub::Stub;

#[test]
fn scaling_says_what_was_asked_for_and_what_there_is() {
    let stub = Stub::start(world());
    let said = printed(&stub, &["scale", "medical", "3"]);
    assert_eq!(
        said,
        format!("{RUNNING} (medical) is to have 3 workers; it has 2 now")
    );
    let document = json(&stub, &["scale", "medical", "3", "--json"]);
    assert_eq!(
        (&document["id"], &document["workers"]),
        (&json!(RUNNING), &json!(3))
    );
    weft(&stub, &["scale", "medical", "5"])
        .finish()
        .ended_with(21, &["5 workers asked for, but the recipe allows 1 to 4"]);
    weft(&stub, &["scale", "medical", "0"])
        .finish()
        .ended_with(2, &["0 is not in"]);
}

#[test]
fn a_job_that_is_over_cannot_be_scaled_or_cancelled() {
    let stub = Stub::start(world());
    weft(&stub, &["scale", "first", "1"])
        .finish()
        .ended_with(21, &["cannot scale", DONE, "succeeded after 10 steps"]);
    weft(&stub, &["cancel", "first"])
        .finish()
        .ended_with(21, &["is over", "succeeded after 10 steps"]);
}

#[test]
fn cancelling_says_what_happens_next() {
    let stub = Stub::start(world());
    let said = printed(&stub, &["cancel", "medical"]);
    assert!(
        said.contains("finishes its step, writes a checkpoint and ends"),
        "{said}"
    );
    let said = printed(&stub, &["cancel", "job-019aa2b4d"]);
    assert!(said.ends_with("leaves the queue"), "{said}");
}

#[test]
fn a_worker_is_drained_by_the_beginning_of_its_id_or_by_its_host() {
    let stub = Stub::start(world());
    let said = printed(&stub, &["drain", "grace"]);
    let id = "019aa2b4-0002-7000-8000-000000000002";
    assert_eq!(
        said,
        format!("worker {id} on host grace ends after its step of {RUNNING}")
    );
    let document = json(&stub, &["drain", "019aa2b4-0002", "--json"]);
    assert_eq!(
        (&document["worker"], &document["draining"]),
        (&json!(id), &json!(true))
    );
    assert_eq!(stub.world().drained, [id, id]);
    weft(&stub, &["drain", "019aa2b4"])
        .finish()
        .ended_with(21, &["may mean any of", id]);
    assert_eq!(stub.world().drained.len(), 2, "nobody is guessed");
}
