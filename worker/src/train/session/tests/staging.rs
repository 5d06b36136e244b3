//! A micro-batch beside the accumulator, until it is known whether it counts.

use std::sync::mpsc::sync_channel;

use super::*;

/// One step's slots; those that `staged` names go through the staging room.
fn computed_in_part_staged(
    trainer: &mut Trainer,
    planner: &StepPlanner,
    staged: impl Fn(usize) -> bool,
) -> Vec<SlotOutcome> {
    let plan = planner.step(Step(0));
    let supervised = plan.supervised_tokens();
    let compute = |(index, slot)| {
        if !staged(index) {
            return trainer.compute_slot(plan.step, slot, supervised).unwrap();
        }
        let outcome = trainer
            .compute_staged(plan.step, slot, supervised, &Cancel::new())
            .unwrap();
        trainer.merge_staged().unwrap();
        outcome.expect("nobody cancelled it")
    };
    plan.slots.iter().enumerate().map(compute).collect()
}

#[test]
fn a_staged_and_merged_slot_is_the_same_bits_as_a_direct_one() {
    let recipe = recipe("adamw_8bit");
    let (mut direct, mut mixed, planner) = (trainer(&recipe), trainer(&recipe), planner(&recipe));
    let expected = computed_in_part_staged(&mut direct, &planner, |_| false);
    let outcomes = computed_in_part_staged(&mut mixed, &planner, |index| index % 2 == 1);
    assert_eq!(outcomes, expected);
    assert_eq!(
        reduced(&mut mixed, &mut Local),
        reduced(&mut direct, &mut Local)
    );
    assert_eq!(
        mixed.apply(Step(0)).unwrap(),
        direct.apply(Step(0)).unwrap()
    );
}

#[test]
fn a_discarded_slot_leaves_no_trace() {
    let recipe = recipe("adamw_torch");
    let (mut discarded, mut plain, planner) =
        (trainer(&recipe), trainer(&recipe), planner(&recipe));
    let plan = planner.step(Step(0));
    for trainer in [&mut discarded, &mut plain] {
        computed(trainer, &planner, 0);
    }
    let before = reduced(&mut plain, &mut Local);
    discarded
        .compute_staged(plan.step, &plan.slots[0], 9, &Cancel::new())
        .unwrap();
    discarded.discard_staged();
    assert_eq!(
        discarded.merge_staged().unwrap_err().kind,
        ErrorKind::Internal
    );
    assert_eq!(reduced(&mut discarded, &mut Local), before);
    let outcome = discarded
        .compute_staged(plan.step, &plan.slots[1], 9, &Cancel::new())
        .unwrap();
    let again = plain.compute_slot(plan.step, &plan.slots[1], 9).unwrap();
    assert_eq!(outcome, Some(again), "nothing of the first one is in it");
}

#[test]
fn a_sum_outlives_what_is_only_staged() {
    let recipe = recipe("adamw_torch");
    let (mut trainer, planner) = (trainer(&recipe), planner(&recipe));
    let plan = planner.step(Step(0));
    computed(&mut trainer, &planner, 0);
    reduced(&mut trainer, &mut Local);
    trainer
        .compute_staged(plan.step, &plan.slots[0], 9, &Cancel::new())
        .unwrap();
    trainer.apply(Step(0)).unwrap();
    assert_eq!(
        trainer.merge_staged().unwrap_err().kind,
        ErrorKind::Internal,
        "the end of the step is the end of what was staged in it"
    );
}

#[test]
fn staging_takes_memory_only_once_it_is_used() {
    let recipe = recipe("adamw_torch");
    let (mut trainer, planner) = (trainer(&recipe), planner(&recipe));
    let plan = planner.step(Step(0));
    let bytes = |trainer: &Trainer| trainer.info().memory.accumulator_bytes;
    let before = bytes(&trainer);
    trainer
        .compute_staged(plan.step, &plan.slots[0], 9, &Cancel::new())
        .unwrap();
    let params = trainer.info().adapter_params;
    assert_eq!(bytes(&trainer), before + 8 * params);
}

/// Rows that take until a test lets go of them.
struct HeldRows(Vec<Row>, std::sync::mpsc::Receiver<()>);

impl RowSource for HeldRows {
    fn row(&self, index: u32) -> Row {
        let _ = self.1.recv();
        self.0[index as usize].clone()
    }
}

#[test]
fn a_slot_that_is_cancelled_while_it_is_computed_is_abandoned() {
    let recipe = recipe("adamw_torch");
    let (mut trainer, planner) = (trainer(&recipe), planner(&recipe));
    let (go, wait) = sync_channel(0);
    trainer.rows = Box::new(HeldRows(rows(), wait));
    let plan = planner.step(Step(0));
    let cancel = Cancel::new();
    let outcome = thread::scope(|scope| {
        let (held, slot) = (&cancel, &plan.slots[0]);
        let computing = scope.spawn(move || trainer.compute_staged(Step(0), slot, 9, held));
        go.send(()).unwrap();
        cancel.cancel();
        drop(go);
        computing.join().unwrap().unwrap()
    });
    assert_eq!(outcome, None);
}
