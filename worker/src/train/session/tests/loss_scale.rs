//! The loss scale: no bit of the adapter depends on it, and it is part of the state.

use super::steps::SickPeer;
use super::*;
use crate::train::LossScale;

fn scaled_trainer(recipe: &Recipe) -> Trainer {
    trainer_on(Cpu::new().with_scaled_loss(), recipe)
}

fn loss_scale(trainer: &Trainer) -> Option<LossScale> {
    trainer.state().progress.loss_scale
}

#[test]
fn a_recipe_in_fp16_scales_the_loss_and_no_other_does() {
    for (dtype, scales) in [
        (Dtype::Auto, false),
        (Dtype::Bf16, false),
        (Dtype::Fp16, true),
        (Dtype::Fp32, false),
    ] {
        let mut recipe = recipe("adamw_torch");
        recipe.model.dtype = dtype;
        let cpu = cpu_for_job(&recipe, &toy(), &random_weights(&toy(), 5)).unwrap();
        let trainer = trainer_on(cpu, &recipe);
        let first = scales.then(LossScale::default);
        assert_eq!(
            (trainer.info().scales_loss, loss_scale(&trainer)),
            (scales, first),
            "{dtype:?}"
        );
    }
}

#[test]
fn a_scaled_loss_trains_to_the_same_bits_on_any_number_of_workers_and_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let recipe = recipe("adamw_8bit");
    let (done, half) = (folder(&root, "done"), folder(&root, "half"));
    let plain = train(&recipe, 1, 0..STEPS, None, &done);
    let scaled = |world, steps, from: Option<&Path>, to: &Path| {
        train_with(scaled_trainer, &recipe, (world, steps), from, to)
    };
    assert!(scaled(1, 0..STEPS, None, &done) == plain, "alone");
    assert!(scaled(3, 0..STEPS, None, &done) == plain, "three");
    scaled(2, 0..3, None, &half);
    assert!(scaled(1, 3..STEPS, Some(&half), &done) == plain, "resumed");
}

#[test]
fn staged_gradients_are_unscaled_too() {
    let recipe = recipe("adamw_torch");
    let planner = planner(&recipe);
    let (mut staged, mut direct) = (scaled_trainer(&recipe), trainer(&recipe));
    let plan = planner.step(Step(0));
    for slot in &plan.slots {
        let supervised = plan.supervised_tokens();
        let outcome = staged.compute_staged(plan.step, slot, supervised, &Cancel::new());
        let expected = direct.compute_slot(plan.step, slot, supervised).unwrap();
        assert_eq!(outcome.unwrap(), Some(expected));
        staged.merge_staged().unwrap();
    }
    assert_eq!(
        reduced(&mut staged, &mut Local),
        reduced(&mut direct, &mut Local)
    );
}

#[test]
fn a_skipped_step_halves_the_scale_and_an_update_counts_towards_doubling_it() {
    let recipe = recipe("adamw_8bit");
    let (mut trainer, planner) = (scaled_trainer(&recipe), planner(&recipe));
    computed(&mut trainer, &planner, 0);
    reduced(&mut trainer, &mut SickPeer);
    trainer.skip(Step(0)).unwrap();
    let halved = LossScale::default().after_overflow();
    assert_eq!(loss_scale(&trainer), Some(halved));
    computed(&mut trainer, &planner, 1);
    assert_eq!(reduced(&mut trainer, &mut Local).health, SumHealth::Finite);
    trainer.apply(Step(1)).unwrap();
    assert_eq!(loss_scale(&trainer), Some(halved.after_update()));
}

#[test]
fn a_checkpoint_keeps_the_scale_and_one_without_begins_with_the_first() {
    let root = tempfile::tempdir().unwrap();
    let recipe = recipe("adamw_8bit");
    let mut halved = scaled_trainer(&recipe);
    computed(&mut halved, &planner(&recipe), 0);
    reduced(&mut halved, &mut SickPeer);
    halved.skip(Step(0)).unwrap();
    let (with, without) = (folder(&root, "with"), folder(&root, "without"));
    save(&mut halved, 1, &with);
    let mut other = scaled_trainer(&recipe);
    other.restore(&with).unwrap();
    assert_eq!(other.info().state_digest, halved.info().state_digest);

    let mut plain = trainer(&recipe);
    save(&mut plain, 0, &without);
    other.restore(&without).unwrap();
    assert_eq!(loss_scale(&other), Some(LossScale::default()));
    plain.restore(&with).unwrap();
    assert_eq!(loss_scale(&plain), None);
}
