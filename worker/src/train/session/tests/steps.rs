//! What may follow what within a step.

use super::*;
use crate::collective::CollectiveError;

#[test]
fn a_failed_reduction_can_be_repeated() {
    let recipe = recipe("adamw_torch");
    let (mut once, mut twice, planner) = (trainer(&recipe), trainer(&recipe), planner(&recipe));
    for trainer in [&mut once, &mut twice] {
        computed(trainer, &planner, 0);
    }
    let cancelled = Cancel::new();
    cancelled.cancel();
    let error = twice.reduce(&mut Local, &cancelled).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Collective);
    assert_eq!(twice.apply(Step(0)).unwrap_err().kind, ErrorKind::Internal);
    assert_eq!(
        reduced(&mut twice, &mut Local),
        reduced(&mut once, &mut Local)
    );
    assert_eq!(twice.apply(Step(0)).unwrap(), once.apply(Step(0)).unwrap());
}

#[test]
fn a_dropped_accumulator_leaves_nothing_behind() {
    let recipe = recipe("adamw_torch");
    let (mut dropped, mut plain, planner) = (trainer(&recipe), trainer(&recipe), planner(&recipe));
    computed(&mut dropped, &planner, 0);
    dropped.drop_accumulator();
    for trainer in [&mut dropped, &mut plain] {
        computed(trainer, &planner, 0);
    }
    assert_eq!(
        reduced(&mut dropped, &mut Local),
        reduced(&mut plain, &mut Local)
    );
}

/// A peer whose gradient is not a number.
pub(super) struct SickPeer;

impl Collective for SickPeer {
    fn world(&self) -> u32 {
        2
    }

    fn rank(&self) -> Rank {
        Rank(0)
    }

    fn all_reduce_sum(&mut self, buf: &mut [i64], _cancel: &Cancel) -> Result<(), CollectiveError> {
        if let [non_finite, _] = buf {
            *non_finite += 1;
        }
        Ok(())
    }
}

#[test]
fn a_step_with_a_non_finite_sum_is_skipped_and_counted() {
    let recipe = recipe("adamw_8bit");
    let (mut trainer, planner) = (trainer(&recipe), planner(&recipe));
    let before = trainer.adapter().clone();
    computed(&mut trainer, &planner, 0);
    assert_eq!(
        reduced(&mut trainer, &mut SickPeer).health,
        SumHealth::NonFinite
    );
    assert_eq!(
        trainer.apply(Step(0)).unwrap_err().kind,
        ErrorKind::Internal
    );

    let applied = trainer.skip(Step(0)).unwrap();
    assert_eq!(applied.grad_norm, 0.0);
    assert_eq!(trainer.adapter(), &before);
    let progress = Progress {
        next_step: 1,
        updates: 0,
        skipped_steps: 1,
        loss_scale: None,
    };
    assert_eq!(trainer.state().progress, progress);

    computed(&mut trainer, &planner, 1);
    assert_eq!(reduced(&mut trainer, &mut Local).health, SumHealth::Finite);
    trainer.apply(Step(1)).unwrap();
    assert_ne!(trainer.adapter(), &before);
}

#[test]
fn a_step_out_of_turn_is_refused() {
    let recipe = recipe("adamw_torch");
    let (mut trainer, planner) = (trainer(&recipe), planner(&recipe));
    let plan = planner.step(Step(1));
    let error = trainer
        .compute_slot(Step(1), &plan.slots[0], 1)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert_eq!(trainer.skip(Step(1)).unwrap_err().kind, ErrorKind::Internal);
}

#[test]
fn rows_that_differ_from_the_plan_are_refused() {
    let recipe = recipe("adamw_torch");
    let (mut trainer, planner) = (trainer(&recipe), planner(&recipe));
    let mut slot = planner.step(Step(0)).slots[0].clone();
    slot.supervised_tokens += 1;
    assert_eq!(
        trainer.compute_slot(Step(0), &slot, 9).unwrap_err().kind,
        ErrorKind::Data
    );
}
