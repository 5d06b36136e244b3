use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use weft_common::data::{Row, RowStat};
use weft_common::id::{Digest, Epoch, Rank, Step, Term};
use weft_common::plan::{PlanSpec, StepPlanner};
use weft_common::recipe::{Dtype, Format};
use weft_common::wire::Membership;

use super::*;
use crate::agent::{Engine, ErrorKind, Reduced, SlotOutcome, SnapshotMeta, SumHealth};
use crate::checkpoint::adapter_model;
use crate::collective::{Cancel, Collective, Local, Ring, RingKey, RingListener, RingPlan};
use crate::model::tests_support::{random_weights, toy};
use crate::train::cpu_for_job;

mod checkpoints;
mod golden;
mod loss_scale;
mod staging;
mod steps;

const STEPS: u64 = 6;

fn recipe(optim: &str) -> Recipe {
    let text = format!(
        "model: {{base_model: toy, max_seq_length: 32}}\n\
         datasets: [{{path: rows.csv}}]\n\
         lora: {{r: 48, lora_alpha: 16, target_modules: [q_proj, down_proj]}}\n\
         training: {{optim: {optim}, learning_rate: 0.01, warmup_steps: 2, weight_decay: 0.1, max_grad_norm: 0.5, \
         per_device_train_batch_size: 2, gradient_accumulation_steps: 4}}\n"
    );
    Recipe::parse(&text, Format::Yaml).unwrap()
}

fn rows() -> Vec<Row> {
    let row = |seed: usize| {
        let len = 5 + seed * 7 % 23;
        Row {
            tokens: (0..len)
                .map(|i| ((i * 31 + seed * 17) % 97) as u32)
                .collect(),
            supervised: (0..len).map(|i| i > 2).collect(),
        }
    };
    (0..48).map(row).collect()
}

fn planner(recipe: &Recipe) -> StepPlanner {
    let stat = |row: &Row| RowStat {
        tokens: row.tokens.len() as u32,
        supervised: row
            .supervised
            .iter()
            .filter(|&&supervised| supervised)
            .count() as u32,
    };
    let stats: Arc<[RowStat]> = rows().iter().map(stat).collect();
    StepPlanner::new(PlanSpec::from_recipe(recipe), stats).unwrap()
}

fn inputs(recipe: &Recipe) -> InputDigests {
    let digest = |text: &str| Digest::of(text.as_bytes());
    InputDigests {
        recipe: recipe.digest(),
        base_model: digest("toy"),
        dataset: digest("rows"),
        tokenizer: digest("tokenizer"),
        template: digest("template"),
    }
}

fn trainer(recipe: &Recipe) -> Trainer {
    trainer_on(Cpu::new(), recipe)
}

fn trainer_on(cpu: Cpu, recipe: &Recipe) -> Trainer {
    let parts = TrainerParts {
        recipe: recipe.clone(),
        total_steps: STEPS,
        largest_slot_tokens: 64,
        inputs: inputs(recipe),
        rows: Box::new(rows()),
        device: "cpu".to_owned(),
    };
    Trainer::new(cpu, (toy(), random_weights(&toy(), 5)), parts).unwrap()
}

fn ring(listener: &RingListener, members: &[std::net::SocketAddr], rank: usize) -> Ring {
    let plan = RingPlan {
        key: RingKey {
            job: "job-1".parse().unwrap(),
            term: Term(1),
            epoch: Epoch(1),
        },
        members: members.to_vec(),
        rank: Rank(rank as u32),
        form_within: Duration::from_secs(20),
        hop_within: Duration::from_secs(20),
    };
    Ring::form(listener, &plan, &Cancel::new()).unwrap()
}

fn reduced(trainer: &mut Trainer, collective: &mut dyn Collective) -> Reduced {
    trainer.reduce(collective, &Cancel::new()).unwrap()
}

/// The member of `world` that computes a slot: some arbitrary share, another one each step.
fn computes(rank: usize, world: usize, step: u64, slot: usize) -> bool {
    (slot * 5 + step as usize * 3 + slot / 2) % world == rank
}

/// Trains `steps` on `world` threads, from a checkpoint if there is one, and leaves a checkpoint in `to`.
fn train(
    recipe: &Recipe,
    world: usize,
    steps: std::ops::Range<u64>,
    from: Option<&Path>,
    to: &Path,
) -> Vec<u8> {
    train_with(trainer, recipe, (world, steps), from, to)
}

/// The same with trainers from `make`.
fn train_with(
    make: fn(&Recipe) -> Trainer,
    recipe: &Recipe,
    (world, steps): (usize, std::ops::Range<u64>),
    from: Option<&Path>,
    to: &Path,
) -> Vec<u8> {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listeners: Vec<_> = (0..world)
        .map(|_| RingListener::bind(localhost).unwrap())
        .collect();
    let members: Vec<_> = listeners.iter().map(RingListener::address).collect();
    let planner = planner(recipe);
    let member = |rank: usize| {
        let mut trainer = make(recipe);
        if let Some(from) = from {
            assert_eq!(trainer.restore(from).unwrap(), Step(steps.start));
        }
        let mut ring = ring(&listeners[rank], &members, rank);
        for step in steps.clone() {
            let plan = planner.step(Step(step));
            for (index, slot) in plan.slots.iter().enumerate() {
                if computes(rank, world, step, index) {
                    trainer
                        .compute_slot(plan.step, slot, plan.supervised_tokens())
                        .unwrap();
                }
            }
            assert_eq!(reduced(&mut trainer, &mut ring).health, SumHealth::Finite);
            trainer.apply(plan.step).unwrap();
        }
        trainer
    };
    let mut trainers: Vec<Trainer> = thread::scope(|scope| {
        let threads: Vec<_> = (0..world)
            .map(|rank| scope.spawn(move || member(rank)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let digest = trainers[0].info().state_digest;
    assert!(
        trainers
            .iter()
            .all(|trainer| trainer.info().state_digest == digest)
    );
    save(&mut trainers[0], steps.end, to);
    adapter_model(trainers[0].adapter())
}

fn save(trainer: &mut Trainer, next_step: u64, to: &Path) {
    trainer
        .snapshot(&snapshot_meta(next_step))
        .unwrap()
        .write(to)
        .unwrap();
}

fn snapshot_meta(next_step: u64) -> SnapshotMeta {
    SnapshotMeta {
        membership: Membership {
            job: "job-1".parse().unwrap(),
            term: Term(1),
            epoch: Epoch(1),
        },
        next_step: Step(next_step),
        world: 1,
    }
}

fn folder(root: &tempfile::TempDir, name: &str) -> PathBuf {
    root.path().join(name)
}

/// One step's slots, all computed here.
fn computed(trainer: &mut Trainer, planner: &StepPlanner, step: u64) {
    let plan = planner.step(Step(step));
    for slot in &plan.slots {
        trainer
            .compute_slot(plan.step, slot, plan.supervised_tokens())
            .unwrap();
    }
}

#[test]
fn workers_and_interruptions_change_no_bit() {
    let root = tempfile::tempdir().unwrap();
    for optim in ["adamw_torch", "adamw_8bit"] {
        let recipe = recipe(optim);
        let done = folder(&root, "done");
        let alone = train(&recipe, 1, 0..STEPS, None, &done);
        assert_ne!(
            alone,
            adapter_model(trainer(&recipe).adapter()),
            "training changes the adapter"
        );
        for world in [2, 3] {
            assert!(
                train(&recipe, world, 0..STEPS, None, &done) == alone,
                "{optim} on {world}"
            );
        }
        let half = folder(&root, "half");
        train(&recipe, 2, 0..3, None, &half);
        assert!(
            train(&recipe, 3, 3..STEPS, Some(&half), &done) == alone,
            "{optim} resumed"
        );
    }
}
