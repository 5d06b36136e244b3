//! A job is fetched, loaded and ended.

use super::*;

fn fetch() -> Action {
    Action::Fetch {
        job: membership(1, 0).job,
        dataset: prepare(membership(1, 0)).dataset,
    }
}

fn found(machine: &mut Machine, found: Result<&str, &str>) -> Vec<Action> {
    machine.step(Input::Dataset {
        job: membership(1, 0).job,
        found: found.map(Into::into).map_err(Into::into),
    })
}

fn other_job() -> weft_common::wire::Prepare {
    prepare(Membership {
        job: "job-2".parse().unwrap(),
        ..membership(1, 0)
    })
}

#[test]
fn a_job_is_fetched_loaded_and_joined() {
    let mut machine = standby();
    let prepare = prepare(membership(1, 0));
    assert_eq!(
        command(&mut machine, Command::Prepare(prepare.clone())),
        [fetch()]
    );
    let load = Action::Train(Order::Load(Box::new(Loading {
        prepare,
        dataset_dir: "/data".into(),
    })));
    assert_eq!(found(&mut machine, Ok("/data")), [load]);
    let prepared = Event::Prepared(holding(membership(1, 0), 0));
    assert_eq!(
        done(&mut machine, prepared.clone()),
        [Action::Send(prepared)]
    );
    let join = Action::Train(Order::Join(epoch(1, 1, 0)));
    assert_eq!(
        command(&mut machine, Command::FormEpoch(epoch(1, 1, 0))),
        [Action::Cancel(Scope::Reduce), join]
    );
}

#[test]
fn a_loaded_job_is_described_and_not_loaded_again() {
    let mut machine = loaded();
    let mut again = prepare(membership(1, 3));
    again.resume = Some(weft_common::wire::CheckpointRef {
        dir: "/old".into(),
        next_step: Step(7),
    });
    assert_eq!(
        command(&mut machine, Command::Prepare(again)),
        [Action::Train(Order::Describe(membership(1, 3)))]
    );
}

#[test]
fn another_job_takes_the_place_of_the_loaded_one() {
    let mut machine = member();
    let actions = command(&mut machine, Command::Prepare(other_job()));
    assert_eq!(
        actions[..2],
        [Action::Cancel(Scope::Job), Action::Train(Order::Unload)]
    );
    assert!(matches!(actions[2..], [Action::Fetch { .. }]));
}

#[test]
fn a_dataset_that_cannot_be_fetched_fails_the_job_here_and_can_be_asked_for_again() {
    let mut machine = standby();
    command(&mut machine, Command::Prepare(prepare(membership(1, 0))));
    let failed = found(&mut machine, Err("disk full"));
    assert!(
        matches!(&failed[..], [Action::Send(Event::Failed(failed))] if failed.message == "disk full"),
        "{failed:?}"
    );
    let again = command(&mut machine, Command::Prepare(prepare(membership(1, 0))));
    assert_eq!(again, [fetch()]);
}

#[test]
fn a_dataset_that_came_through_a_lost_session_is_fetched_again() {
    let mut machine = standby();
    command(&mut machine, Command::Prepare(prepare(membership(1, 0))));
    lost(&mut machine);
    connected(&mut machine, 1);
    command(&mut machine, Command::Prepare(prepare(membership(1, 0))));
    assert_eq!(found(&mut machine, Err("reset")), [fetch()]);
    assert!(matches!(
        found(&mut machine, Ok("/data"))[..],
        [Action::Train(Order::Load(_))]
    ));
}

#[test]
fn the_end_of_a_job_unloads_it_and_its_late_answers_are_dropped() {
    let mut machine = member();
    command(&mut machine, lease(round(1, 0), vec![leased(0, false)]));
    assert_eq!(
        command(&mut machine, end(1)),
        [Action::Cancel(Scope::Job), Action::Train(Order::Unload)]
    );
    assert_eq!(done(&mut machine, slot_done(round(1, 0), 0)), []);
    let again = command(&mut machine, Command::Prepare(prepare(membership(1, 0))));
    assert_eq!(again, [fetch()]);
}

#[test]
fn commands_of_another_term_or_job_are_dropped() {
    let mut machine = back(member(), 2, holding(membership(1, 1), 0));
    let before = machine.clone();
    let foreign = other_job().membership;
    let foreign = Membership {
        term: Term(2),
        epoch: Epoch(9),
        ..foreign
    };
    let of_the_past = [
        Command::FormEpoch(epoch(1, 9, 0)),
        Command::Prepare(prepare(membership(1, 9))),
        Command::FormEpoch(form(foreign.clone(), &[(1, 1)], 0)),
        lease(foreign.round(Step(0)), vec![leased(0, false)]),
        Command::Seal(round(1, 0)),
        commit(round(1, 0)),
        end(1),
    ];
    for stale in of_the_past {
        assert_eq!(command(&mut machine, stale.clone()), [], "{stale:?}");
    }
    assert_eq!(machine, before);
}
