//! A worker that is much slower than the others, but not so slow that it counts as gone.

use std::collections::BTreeMap;

use weft_common::id::WorkerId;
use weft_common::ledger::{CommitRecord, read};
use weft_tests::cluster::{Cluster, Start, Undisturbed, eight_steps};

/// How many micro-batches of a step each worker computed.
fn shares(record: &CommitRecord) -> BTreeMap<WorkerId, usize> {
    let mut shares = BTreeMap::new();
    for slot in &record.slots {
        *shares.entry(slot.worker).or_default() += 1;
    }
    shares
}

#[test]
fn a_worker_that_is_slow_costs_one_micro_batch_a_step_at_most() {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::plain());
    // Some twenty times as slow as the other one; it does not stop sending signs of life.
    let slow = cluster.join(&Start::failing("leased:delay-1000"));
    cluster.join(&Start::plain());
    let ledger = cluster.output().join("ledger");
    let attached = cluster.worker(slow).said().join(" ");
    let said = cluster.comes_to(Undisturbed::eight_steps());
    assert!(!said.contains("member lost"), "{said}");

    let ledger = read(&ledger).unwrap();
    assert_eq!(ledger.records.len(), 8);
    // Its pace is known once it has computed one.
    for record in &ledger.records[1..] {
        let shares = shares(record);
        let of_slow = shares
            .iter()
            .find(|(worker, _)| attached.contains(&worker.to_string()));
        let of_slow = of_slow.map_or(0, |(_, share)| *share);
        assert!(of_slow <= 1, "step {}: {shares:?}", record.step);
    }
}
