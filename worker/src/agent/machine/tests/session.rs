//! Sessions come and go.

use super::*;

fn connect(after: u64, session: u32, at_least: u64, holding: Option<Holding>) -> Action {
    Action::Connect(Connect {
        after: Duration::from_millis(after),
        session,
        at_least: Term(at_least),
        holding: holding.map(Box::new),
    })
}

fn failed(machine: &mut Machine, failure: ConnectFailure) -> Vec<Action> {
    machine.step(Input::ConnectFailed(failure))
}

fn unreachable() -> ConnectFailure {
    ConnectFailure::Unreachable {
        message: "refused".into(),
    }
}

fn refusals() -> [ConnectFailure; 2] {
    let message = || "not now".to_owned();
    [
        ConnectFailure::Duplicate { message: message() },
        ConnectFailure::ShuttingDown { message: message() },
    ]
}

fn exits(actions: &[Action]) -> bool {
    matches!(actions.last(), Some(Action::Exit(_)))
}

#[test]
fn attempts_are_repeated_with_growing_pauses_until_the_time_is_over() {
    let (mut machine, first) = Machine::start();
    assert_eq!(first, [connect(0, 0, 0, None)]);
    for pause in [50, 100, 200, 400, 800, 1000, 1000] {
        let again = failed(&mut machine, unreachable());
        assert_eq!(again, [connect(pause, 0, 0, None)]);
    }
    let waited = Duration::from_secs(60);
    let over = machine.step(Input::CoordinatorOverdue { waited });
    let Some(Action::Exit(WorkerExit::Unreachable { message })) = over.last() else {
        panic!("{over:?}");
    };
    assert!(
        message.contains("refused") && message.contains("60 s"),
        "{message}"
    );
}

#[test]
fn an_attempt_that_the_coordinator_heard_uses_its_number_up() {
    let (mut machine, _) = Machine::start();
    let half = ConnectFailure::Lost {
        term: Some(Term(4)),
        message: "reset".into(),
    };
    assert_eq!(failed(&mut machine, half), [connect(50, 1, 4, None)]);
}

#[test]
fn a_refusal_at_the_first_connect_ends_the_worker() {
    let final_one = ConnectFailure::Refused {
        message: "other version".into(),
    };
    for refusal in refusals().into_iter().chain([final_one]) {
        let (mut machine, _) = Machine::start();
        let actions = failed(&mut machine, refusal);
        assert!(
            matches!(
                actions.last(),
                Some(Action::Exit(WorkerExit::Refused { .. }))
            ),
            "{actions:?}"
        );
    }
}

#[test]
fn a_refusal_that_will_pass_is_waited_out_by_a_worker_that_comes_back() {
    for refusal in refusals() {
        let mut machine = standby();
        assert_eq!(lost(&mut machine), [connect(50, 1, 1, None)]);
        let again = failed(&mut machine, refusal);
        assert_eq!(again, [connect(100, 2, 1, None)]);
    }
    let mut machine = standby();
    lost(&mut machine);
    let full = ConnectFailure::Refused {
        message: "full".into(),
    };
    assert!(exits(&failed(&mut machine, full)));
}

#[test]
fn a_coordinator_of_an_older_term_is_never_attached_to() {
    let mut machine = back(loaded(), 5, holding(membership(1, 0), 0));
    lost(&mut machine);
    machine.step(Input::Answer(Answer::Settled(None)));
    // Whoever connects in spite of `at_least` is asked to try again.
    let again = connected(&mut machine, 4);
    assert!(
        matches!(
            again[..],
            [Action::Connect(Connect {
                at_least: Term(5),
                ..
            })]
        ),
        "{again:?}"
    );
    assert_eq!(command(&mut machine, end(4)), []);
    assert_eq!(connected(&mut machine, 5), []);
}

#[test]
fn a_worker_without_a_job_looks_for_the_coordinator_at_once() {
    let mut machine = standby();
    assert_eq!(lost(&mut machine), [connect(50, 1, 1, None)]);
    assert_eq!(connected(&mut machine, 1), []);
    assert_eq!(lost(&mut machine), [connect(50, 2, 1, None)]);
}

#[test]
fn a_member_settles_before_it_looks_for_the_coordinator() {
    let mut machine = member();
    command(&mut machine, lease(round(1, 0), vec![leased(0, false)]));
    assert_eq!(
        lost(&mut machine),
        [
            Action::Cancel(Scope::Reduce),
            Action::Cancel(Scope::Slots),
            Action::Cancel(Scope::Staged),
            Action::Train(Order::Settle(membership(1, 1))),
        ]
    );
    assert_eq!(
        done(&mut machine, slot_done(round(1, 0), 0)),
        [],
        "no answer of the old session is sent"
    );
    let held = holding(membership(1, 1), 0);
    let settled = Input::Answer(Answer::Settled(Some(held.clone())));
    assert_eq!(
        machine.step(settled),
        [connect(50, 1, 1, Some(held.clone()))]
    );
    let again = failed(&mut machine, unreachable());
    assert_eq!(again, [connect(100, 1, 1, Some(held))]);
}

#[test]
fn a_worker_that_is_loading_goes_on_and_attaches_with_nothing() {
    let mut machine = loading();
    assert_eq!(lost(&mut machine), [connect(50, 1, 1, None)]);
    assert_eq!(
        done(&mut machine, Event::Prepared(holding(membership(1, 0), 0))),
        []
    );
    connected(&mut machine, 2);
    let asked = command(&mut machine, Command::Prepare(prepare(membership(2, 0))));
    assert_eq!(
        asked,
        [Action::Train(Order::Describe(membership(2, 0)))],
        "what was loaded meanwhile is told when the new session asks"
    );
}

#[test]
fn a_job_that_is_still_loading_is_told_to_the_session_that_asked_last() {
    let mut machine = loading();
    lost(&mut machine);
    connected(&mut machine, 2);
    let asked = command(&mut machine, Command::Prepare(prepare(membership(2, 0))));
    assert_eq!(asked, []);
    let told = done(&mut machine, Event::Prepared(holding(membership(1, 0), 0)));
    assert_eq!(
        told,
        [Action::Send(Event::Prepared(holding(membership(2, 0), 0)))]
    );
}

#[test]
fn a_worker_whose_job_broke_comes_back_without_one() {
    let mut machine = member();
    lost(&mut machine);
    let settled = machine.step(Input::Answer(Answer::Settled(None)));
    assert_eq!(settled, [connect(50, 1, 1, None)]);
    connected(&mut machine, 1);
    let again = command(&mut machine, Command::Prepare(prepare(membership(1, 2))));
    assert!(matches!(again[..], [Action::Fetch { .. }]));
}

#[test]
fn the_grace_ends_with_the_coordinator_lost() {
    let mut machine = member();
    lost(&mut machine);
    let waited = Duration::from_secs(1800);
    let over = machine.step(Input::CoordinatorOverdue { waited });
    let Some(Action::Exit(WorkerExit::CoordinatorLost { message })) = over.last() else {
        panic!("{over:?}");
    };
    assert!(
        message.contains("reset") && message.contains("1800 s"),
        "{message}"
    );
}

#[test]
fn a_leaving_worker_does_not_come_back() {
    let left = [Action::Cancel(Scope::Job), Action::Exit(WorkerExit::Left)];
    let mut leaving = member();
    leaving.step(Input::StopRequested);
    assert_eq!(lost(&mut leaving), left);
    let mut alone = member();
    lost(&mut alone);
    assert_eq!(alone.step(Input::StopRequested), left);
}
