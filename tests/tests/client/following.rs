//! `watch` and `logs`: streams that end, break and go on.

use weft_proto::v1::JobPhase;

use crate::fixture::{LOST, RUNNING, THEN, event, printed, running, step, weft, world};
use crate::stub::{Stub, World};

const SUCCEEDED: &str = "succeeded after 122 steps";

/// A job that is about to begin.
fn fresh() -> World {
    let mut job = running();
    job.committed_steps = 0;
    job.total_steps = 4;
    World {
        jobs: vec![job],
        events: vec![event(1, THEN, "submitted", "submitted")],
        ..World::default()
    }
}

fn end(world: &mut World, phase: JobPhase, detail: &str) {
    world.jobs[0].phase = phase.into();
    world.jobs[0].detail = detail.to_owned();
}

/// Commits the next step.
fn commit(world: &mut World) {
    let next = world.steps.len() as u64 + 1;
    world.steps.push(step(next));
    world.jobs[0].committed_steps = next;
}

#[test]
fn watching_shows_the_lines_of_a_run_and_ends_with_the_job() {
    let stub = Stub::start(fresh());
    let mut watch = weft(&stub, &["watch", "medical"]).start();
    watch.wait_for("2026-11-21 16:33:03Z  submitted");
    stub.change(commit);
    let line = watch.wait_for("step 1/4");
    assert!(
        line.starts_with(
            "step 1/4  epoch 0.04  loss 6.9900  grad_norm 1.0685  lr 4.000e-4  10000 tok/s  eta "
        ),
        "{line}"
    );
    stub.change(|world| {
        world
            .events
            .push(event(4, THEN + 3_000, "member_lost", LOST))
    });
    let line = watch.wait_for("lost worker");
    assert_eq!(line, format!("2026-11-21 16:33:06Z  {LOST}"));
    stub.change(|world| {
        (0..3).for_each(|_| commit(world));
        end(world, JobPhase::Succeeded, SUCCEEDED);
    });
    let finished = watch.finish();
    finished.ended_with(0, &["step 4/4", SUCCEEDED, "results in /data/medical"]);
    let lines: Vec<&str> = finished.printed.lines().collect();
    assert_eq!(lines.len(), 4, "only steps are printed: {lines:?}");
}

#[test]
fn watching_ends_as_the_job_does() {
    for (phase, detail, code) in [
        (JobPhase::Failed, "failed: no data", 20),
        (
            JobPhase::Cancelled,
            "cancelled; no checkpoint was saved",
            30,
        ),
    ] {
        let stub = Stub::start(fresh());
        let mut watch = weft(&stub, &["watch", RUNNING]).start();
        watch.wait_for("submitted");
        stub.change(|world| end(world, phase, detail));
        watch.finish().ended_with(code, &[detail, "error: "]);
        weft(&stub, &["watch", RUNNING])
            .finish()
            .ended_with(code, &[detail]);
    }
}

#[test]
fn watching_survives_a_coordinator_that_is_killed_and_misses_and_repeats_nothing() {
    let mut stub = Stub::start(fresh());
    let mut watch = weft(&stub, &["watch", "medical"]).start();
    watch.wait_for("submitted");
    stub.change(commit);
    watch.wait_for("step 1/4");
    stub.go();
    watch.wait_for("went away");
    stub.change(|world| {
        commit(world);
        world.events.push(event(
            2,
            THEN + 5_000,
            "waiting",
            "waiting: nobody is there",
        ));
    });
    stub.come();
    // Steps and what happens are told on two streams, which have no order among them.
    watch.wait_for("step 2/4");
    stub.change(|world| {
        (0..2).for_each(|_| commit(world));
        end(world, JobPhase::Succeeded, SUCCEEDED);
    });
    let finished = watch.finish();
    finished.ended_with(0, &["answers again", "nobody is there"]);
    let steps: Vec<&str> = finished
        .printed
        .lines()
        .filter_map(|line| line.get(..8))
        .collect();
    assert_eq!(steps, ["step 1/4", "step 2/4", "step 3/4", "step 4/4"]);
    assert_eq!(
        finished.text.matches("submitted").count(),
        1,
        "{}",
        finished.text
    );
}

#[test]
fn a_coordinator_that_stays_away_is_given_up_after_the_deadline() {
    let mut stub = Stub::start(fresh());
    for command in [&["watch", "medical"][..], &["logs", "medical", "--follow"]] {
        stub.come();
        let mut follow = weft(&stub, command)
            .args(["--reconnect-within", "1"])
            .start();
        follow.wait_for("submitted");
        stub.go();
        follow.finish().ended_with(
            13,
            &[
                "looking for it for 1 s",
                "did not come back",
                "--reconnect-within",
            ],
        );
    }
}

#[test]
fn who_stops_watching_does_not_stop_the_job() {
    let stub = Stub::start(fresh());
    let mut watch = weft(&stub, &["watch", "medical"]).start();
    watch.wait_for("submitted");
    watch.interrupt();
    watch
        .finish()
        .ended_with(130, &["the job goes on", "weft cancel"]);
}

#[test]
fn watching_in_json_is_a_line_for_everything() {
    let stub = Stub::start(fresh());
    let mut watch = weft(&stub, &["watch", "medical", "--json"]).start();
    watch.wait_for("submitted");
    stub.change(commit);
    watch.wait_for("\"step\"");
    stub.change(|world| end(world, JobPhase::Succeeded, SUCCEEDED));
    let finished = watch.finish();
    let lines = finished.printed.lines();
    let lines: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("event"), of("step")), (1, 1), "{}", finished.printed);
    let last = lines.iter().rfind(|line| line["type"] == "job").unwrap();
    assert_eq!(last["state"], "succeeded");
}

#[test]
fn logs_are_what_happened_or_the_steps() {
    let mut world = fresh();
    world
        .events
        .push(event(5, THEN + 3_000, "member_lost", LOST));
    (0..3).for_each(|_| commit(&mut world));
    let stub = Stub::start(world);
    let events = format!("2026-11-21 16:33:03Z  submitted\n2026-11-21 16:33:06Z  {LOST}");
    assert_eq!(printed(&stub, &["logs", "medical"]), events);
    let steps = printed(&stub, &["logs", "medical", "--steps", "--last", "1"]);
    assert_eq!(
        steps,
        "2026-11-21 16:33:09Z  step 3  epoch 0.12  loss 6.9700  grad_norm 1.0685  lr 4.000e-4  10000 tok/s  2 workers"
    );
    let line: serde_json::Value = serde_json::from_str(&printed(
        &stub,
        &["logs", "medical", "--last", "1", "--json"],
    ))
    .unwrap();
    let expected = serde_json::json!({
        "type": "event", "number": 5, "unix_ms": THEN + 3_000, "level": "warning", "kind": "member_lost", "text": LOST,
    });
    assert_eq!(line, expected);
    let line: serde_json::Value = serde_json::from_str(&printed(
        &stub,
        &["logs", "medical", "--steps", "--last", "1", "--json"],
    ))
    .unwrap();
    let expected = serde_json::json!({
        "type": "step", "step": 3, "unix_ms": THEN + 6_000, "epoch": 0.125, "loss": 6.97, "grad_norm": 1.0685,
        "learning_rate": 4e-4, "tokens": 1000, "supervised_tokens": 400, "step_seconds": 0.1,
        "tokens_per_second": 10_000.0, "workers": 2,
    });
    assert_eq!(line, expected);
}

#[test]
fn followed_logs_go_on_after_the_last_number_when_the_coordinator_is_back() {
    let mut stub = Stub::start(fresh());
    let mut logs = weft(&stub, &["logs", "medical", "--follow"]).start();
    logs.wait_for("submitted");
    stub.go();
    logs.wait_for("went away");
    stub.change(|world| {
        world
            .events
            .push(event(3, THEN, "planned", "4 steps are planned"))
    });
    stub.come();
    logs.wait_for("4 steps are planned");
    stub.change(|world| {
        world.events.push(event(9, THEN, "ended", SUCCEEDED));
        end(world, JobPhase::Succeeded, SUCCEEDED);
    });
    let finished = logs.finish();
    finished.succeeded();
    assert_eq!(finished.printed.lines().count(), 3, "{}", finished.printed);
}

#[test]
fn a_coordinator_of_a_single_recipe_tells_how_far_it_is() {
    let stub = Stub::start(World {
        keeps_no_records: true,
        ..fresh()
    });
    let mut watch = weft(&stub, &["watch", "medical"]).start();
    stub.wait_for_watcher();
    stub.change(|world| world.jobs[0].committed_steps = 3);
    let line = watch.wait_for("step 3/4");
    assert!(
        line.starts_with("step 3/4  loss 2.1460  12345 tok/s  eta "),
        "{line}"
    );
    stub.change(|world| end(world, JobPhase::Succeeded, SUCCEEDED));
    let finished = watch.finish();
    finished.succeeded();
    assert_eq!(finished.printed.lines().count(), 1);
}

#[test]
fn a_queue_of_others_is_not_waited_for() {
    let stub = Stub::start(world());
    let finished = weft(&stub, &["watch", "first"]).finish();
    finished.ended_with(0, &["succeeded after 10 steps"]);
}
