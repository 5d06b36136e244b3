//! Ledgers that are whole by their chain, and what is wrong with them all the same.

use std::path::PathBuf;

use super::super::{CommitRecord, LedgerWriter, SlotRecord, Update, read};
use super::*;
use crate::checkpoint::{CheckpointMeta, InputDigests, Manifest};
use crate::data::RowStat;
use crate::id::{Digest, Epoch, Step, Term, WorkerId};
use crate::ledger::LedgerPlace;
use crate::plan::{LrSchedule, PlanSpec, StepPlanner};
use crate::recipe::TrainingSection;
use crate::storage::FileEntry;
use crate::sum_digest::{Flags, SumDigest};

/// A run of 20 rows in steps of eight: three steps a pass, the last of them short.
struct Run {
    planner: StepPlanner,
    schedule: LrSchedule,
}

const STEPS: u64 = 7;

impl Run {
    fn new() -> Self {
        let spec = PlanSpec {
            data_seed: 3407,
            rows_per_step: 8,
            epochs: 1.0,
            max_steps: Some(STEPS),
            slot_tokens: 256,
            min_slots: 3,
        };
        let stats = (0..20).map(|row| RowStat {
            tokens: 10 + row,
            supervised: 5 + row,
        });
        Self {
            planner: StepPlanner::new(spec, stats.collect()).unwrap(),
            schedule: LrSchedule::new(&TrainingSection::default(), STEPS),
        }
    }

    fn record(&self, term: u64, step: u64) -> CommitRecord {
        let step = Step(step);
        let plan = self.planner.step(step);
        let slots = plan.slots.iter().map(|slot| {
            let worker = WorkerId::from_number(u128::from(slot.slot.0 % 2));
            let loss_sum = slot.supervised_tokens as f64 * 2.5;
            let digest = SumDigest::of(&[i64::from(slot.slot.0) - 7, 3], 0);
            SlotRecord::new(slot, worker, loss_sum, digest.into())
        });
        let slots: Vec<SlotRecord> = slots.collect();
        CommitRecord {
            step,
            data_epoch: plan.data_epoch,
            term: Term(term),
            epoch: Epoch(1),
            gradient_digest: sum_of(&slots).into(),
            slots,
            state_digest: state(step),
            update: Update::Apply,
            learning_rate: self.schedule.at(step),
            previous_grad_norm: 0.5,
        }
    }

    fn planned(&self) -> Planned<'_> {
        Planned {
            planner: &self.planner,
            schedule: self.schedule.clone(),
            recipe: Digest::of(b"recipe"),
            dataset: Digest::of(b"dataset"),
        }
    }

    /// The audit of a ledger of these records, with the plan.
    fn audit(&self, records: &[CommitRecord]) -> Audit {
        self.audit_with(records, &[], &[])
    }

    fn audit_with(
        &self,
        records: &[CommitRecord],
        logged: &[LoggedStep],
        saved: &[SavedState],
    ) -> Audit {
        let folder = tempfile::tempdir().unwrap();
        let job = "job-1".parse().unwrap();
        let mut writer = LedgerWriter::open(folder.path(), job, Term(1), records[0].step).unwrap();
        records
            .iter()
            .for_each(|record| writer.append(record).unwrap());
        audit(Evidence {
            planned: Some(self.planned()),
            logged,
            saved,
            ..Evidence::of(&read(folder.path()).unwrap())
        })
    }

    fn records(&self) -> Vec<CommitRecord> {
        (0..STEPS).map(|step| self.record(1, step)).collect()
    }
}

/// What the digests of some slots come to.
fn sum_of(slots: &[SlotRecord]) -> SumDigest {
    slots.iter().map(|slot| SumDigest::from(slot.digest)).sum()
}

/// Gives a record's first slot another digest, and the step the sum of all.
fn recompute(record: &mut CommitRecord, first: SumDigest) {
    record.slots[0].digest = first.into();
    record.gradient_digest = sum_of(&record.slots).into();
}

fn state(step: Step) -> Digest {
    Digest::of(&step.0.to_le_bytes())
}

fn logged(step: u64, loss: f64) -> LoggedStep {
    let plan = Run::new().planner.step(Step(step));
    LoggedStep {
        place: LedgerPlace {
            segment: PathBuf::from("metrics.jsonl"),
            line: 1,
        },
        step: Step(step),
        loss,
        rows: plan.rows() as u64,
        tokens: plan.tokens(),
        supervised_tokens: plan.supervised_tokens(),
    }
}

fn saved(step: u64, state_digest: Digest) -> SavedState {
    let digest = Digest::of(b"other");
    let inputs = InputDigests {
        recipe: Digest::of(b"recipe"),
        base_model: digest,
        dataset: Digest::of(b"dataset"),
        tokenizer: digest,
        template: digest,
    };
    let meta = CheckpointMeta {
        job: "job-1".parse().unwrap(),
        step: Step(step),
        epoch: Epoch(1),
        term: Term(1),
        inputs,
        fixed_point_bits: 40,
        seed: 1,
        world_size: 2,
    };
    SavedState {
        folder: PathBuf::from(format!("checkpoints/{step}")),
        manifest: Manifest::new(meta, state_digest, vec![]),
    }
}

#[track_caller]
fn found(audit: &Audit, count: usize, text: &str) {
    let findings = &audit.findings;
    assert_eq!(findings.count, count, "{findings:?}");
    let texts: Vec<String> = findings.first.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|found| found.contains(text)), "{texts:?}");
}

#[test]
fn a_clean_run_is_told_in_figures() {
    let run = Run::new();
    let logged: Vec<_> = (0..STEPS).map(|step| logged(step, 2.5)).collect();
    let saved = [saved(3, state(Step(3))), saved(7, state(Step(7)))];
    let audit = run.audit_with(&run.records(), &logged, &saved);
    assert_eq!(audit.findings, Findings::default());
    assert_eq!(
        (audit.steps, audit.planned_steps, audit.rows),
        (7, Some(7), Some(20))
    );
    assert_eq!(audit.proven_sums, 7);
    assert_eq!((audit.terms, audit.membership_epochs), (1, 1));
    assert_eq!((audit.logged_steps, audit.compared_checkpoints), (7, 1));
    let epochs: Vec<_> = audit
        .data_epochs
        .iter()
        .map(|epoch| (epoch.data_epoch, epoch.steps, epoch.rows, epoch.complete))
        .collect();
    assert_eq!(
        epochs,
        [(0, 3, 20, true), (1, 3, 20, true), (2, 1, 8, false)]
    );
    assert_eq!(
        audit.workers.iter().map(|share| share.slots).sum::<u64>(),
        audit.slots
    );
    assert!(audit.losses.iter().all(|point| point.loss == 2.5));
}

#[test]
fn a_row_that_counts_twice_and_one_that_never_does_are_named() {
    let run = Run::new();
    let mut records = run.records();
    let (taken, given) = (records[0].slots[0].rows[0], records[1].slots[0].rows[0]);
    records[1].slots[0].rows[0] = taken;
    let audit = run.audit(&records);
    found(
        &audit,
        3,
        &format!("line 3: row {taken} counts in step 2 and counted in step 1"),
    );
    found(
        &audit,
        3,
        &format!("1 of its 20 rows never counted, the first of them row {given}"),
    );
    found(&audit, 3, "slot 0 of step 2 has rows [");
}

#[test]
fn rows_are_counted_without_a_plan_as_well() {
    let run = Run::new();
    let mut records = run.records();
    let (taken, given) = (records[3].slots[0].rows[0], records[4].slots[0].rows[0]);
    records[4].slots[0].rows[0] = taken;
    let folder = tempfile::tempdir().unwrap();
    let job = "job-1".parse().unwrap();
    let mut writer = LedgerWriter::open(folder.path(), job, Term(1), Step(0)).unwrap();
    records
        .iter()
        .for_each(|record| writer.append(record).unwrap());
    let audit = audit(Evidence::of(&read(folder.path()).unwrap()));
    found(&audit, 2, &format!("the first of them row {given}"));
    assert_eq!((audit.rows, audit.plan_compared), (Some(20), false));
}

#[test]
fn whatever_differs_from_the_plan_is_named() {
    type Change = (&'static str, fn(&mut CommitRecord));
    let changes: [Change; 5] = [
        ("slot 1 of step 3 has tokens", |record| {
            record.slots[1].tokens += 1
        }),
        ("slot 0 of step 3 has supervised tokens", |record| {
            record.slots[0].supervised_tokens -= 1;
        }),
        ("step 3 has learning rate 1, planned is", |record| {
            record.learning_rate = 1.0
        }),
        ("step 3 has 2 slots, planned are 3", |record| {
            drop(record.slots.pop())
        }),
        ("the slots of step 3 are not 0, 1", |record| {
            record.slots.swap(0, 1)
        }),
    ];
    for (text, change) in changes {
        let run = Run::new();
        let mut records = run.records();
        change(&mut records[2]);
        let audit = run.audit(&records);
        found(&audit, audit.findings.count, text);
        assert!(
            audit
                .findings
                .first
                .iter()
                .all(|finding| finding.line.is_some())
        );
    }
}

#[test]
fn more_steps_than_planned_are_found() {
    let run = Run::new();
    let mut records = run.records();
    records.push(run.record(1, STEPS));
    found(
        &run.audit(&records),
        1,
        "step 8 was committed, but the plan ends with step 7",
    );
}

#[test]
fn a_ledger_that_begins_late_proves_nothing_of_what_came_before() {
    let run = Run::new();
    let audit = run.audit(&run.records()[2..]);
    found(&audit, 1, "begins with step 3");
    assert!(!audit.data_epochs[0].complete && audit.data_epochs[1].complete);
}

#[test]
fn a_membership_or_state_that_goes_back_is_found() {
    let run = Run::new();
    let mut records = run.records();
    records[2].epoch = Epoch(2);
    records[5].state_digest = records[4].state_digest;
    records[3..]
        .iter_mut()
        .for_each(|record| record.epoch = Epoch(1));
    let audit = run.audit(&records);
    found(&audit, 2, "step 4 was committed in term 1 by membership 1");
    found(&audit, 2, "step 6 starts from the same state as step 5");
}

#[test]
fn a_loss_that_was_changed_with_all_digests_is_given_away_by_the_metrics() {
    let run = Run::new();
    let mut records = run.records();
    records[4].slots[1].loss_sum += 1e-9;
    let logged: Vec<_> = (0..STEPS).map(|step| logged(step, 2.5)).collect();
    found(
        &run.audit_with(&records, &logged, &[]),
        1,
        "line 6: step 5 has loss",
    );
    // The ledger alone cannot know.
    assert!(run.audit(&records).is_clean());
}

#[test]
fn a_diverged_loss_is_the_same_in_ledger_and_metrics() {
    let run = Run::new();
    let mut records = run.records();
    records[6].slots[1].loss_sum = f64::NAN;
    let logged = [logged(6, f64::NAN)];
    assert!(run.audit_with(&records, &logged, &[]).is_clean());
}

#[test]
fn an_end_that_was_cut_off_is_given_away_by_metrics_and_checkpoint() {
    let run = Run::new();
    let kept = &run.records()[..5];
    let audit = run.audit_with(kept, &[logged(5, 2.5)], &[saved(6, state(Step(6)))]);
    found(
        &audit,
        2,
        "metrics.jsonl, line 1: step 6 was reported, but is not in the ledger",
    );
    found(
        &audit,
        2,
        "checkpoints/6: the checkpoint holds 6 steps, but the ledger has steps 1 to 5",
    );
    // A checkpoint of exactly what was committed says nothing against it.
    assert!(
        run.audit_with(kept, &[], &[saved(5, state(Step(5)))])
            .is_clean()
    );
}

#[test]
fn a_checkpoint_of_another_state_or_job_is_named() {
    let run = Run::new();
    let mut strange = saved(3, state(Step(9)));
    strange.manifest.meta.job = "job-2".parse().unwrap();
    let audit = run.audit_with(&run.records(), &[], &[strange]);
    found(
        &audit,
        2,
        "step 4 starts from another state than checkpoints/3 holds",
    );
    found(&audit, 2, "is of job job-2");
}

#[test]
fn a_plan_of_another_dataset_proves_nothing() {
    let run = Run::new();
    let mut other = saved(3, state(Step(3)));
    other.manifest.meta.inputs.dataset = Digest::of(b"fewer rows");
    let audit = run.audit_with(&run.records(), &[], &[other]);
    assert!(audit.is_clean() && !audit.plan_compared);
    assert!(audit.unproven[0].contains("the dataset at hand is not that of the run"));
}

#[test]
fn an_adapter_that_was_exchanged_is_found() {
    let run = Run::new();
    let folder = tempfile::tempdir().unwrap();
    let job = "job-1".parse().unwrap();
    let mut writer = LedgerWriter::open(folder.path(), job, Term(1), Step(0)).unwrap();
    run.records()
        .iter()
        .for_each(|record| writer.append(record).unwrap());
    let mut last = saved(STEPS, state(Step(STEPS)));
    last.manifest.files = vec![FileEntry {
        name: "adapter_model.safetensors".to_owned(),
        size: 1,
        sha256: Digest::of(b"trained"),
    }];
    let ledger = read(folder.path()).unwrap();
    let with = |content: &[u8]| {
        audit(Evidence {
            saved: std::slice::from_ref(&last),
            adapter: Some(&LeftAdapter {
                path: PathBuf::from("adapter/adapter_model.safetensors"),
                sha256: Digest::of(content),
            }),
            ..Evidence::of(&ledger)
        })
    };
    assert!(with(b"trained").is_clean());
    found(
        &with(b"exchanged"),
        1,
        "the adapter is not that of checkpoints/7",
    );
}

#[test]
fn a_digest_that_does_not_add_up_is_found_whichever_was_changed() {
    let run = Run::new();
    let another: Digest = SumDigest::of(&[41], 0).into();
    let mut slot = run.records();
    slot[2].slots[1].digest = another;
    let text = "line 4: the digests of the 3 slots of step 3 add up to";
    let audit = run.audit(&slot);
    found(&audit, 1, text);
    assert_eq!((audit.proven_sums, audit.steps), (6, 7));
    let mut gradient = run.records();
    gradient[2].gradient_digest = another;
    found(&run.audit(&gradient), 1, text);
}

#[test]
fn an_update_that_its_sum_does_not_ask_for_is_found() {
    let run = Run::new();
    let sick = SumDigest::default().with_flags(Flags {
        non_finite: 1,
        overflow: 0,
    });
    let mut records = run.records();
    recompute(&mut records[2], sick);
    found(&run.audit(&records), 1, "line 4: step 3 was applied, but");
    records[2].update = Update::Skip;
    assert!(run.audit(&records).is_clean(), "it had to be skipped");
    records[4].update = Update::Skip;
    found(&run.audit(&records), 1, "line 6: step 5 was skipped, but");
}

#[test]
fn what_was_computed_again_is_counted_once_and_compared() {
    let run = Run::new();
    let folder = tempfile::tempdir().unwrap();
    let job = "job-1".parse().unwrap();
    let mut writer = LedgerWriter::open(folder.path(), job, Term(1), Step(0)).unwrap();
    let mut records = run.records();
    records
        .iter()
        .take(5)
        .for_each(|record| writer.append(record).unwrap());
    writer.rewind(Step(2)).unwrap();
    recompute(&mut records[3], SumDigest::of(&[41], 0));
    records[4].slots[0].worker = WorkerId::from_number(9);
    records
        .iter()
        .skip(2)
        .for_each(|record| writer.append(record).unwrap());
    let audit = audit(Evidence {
        planned: Some(run.planned()),
        ..Evidence::of(&read(folder.path()).unwrap())
    });
    assert!(audit.is_clean(), "{:?}", audit.findings);
    assert_eq!(audit.steps, 7);
    let expected = Recomputed {
        records: 3,
        different: vec![Step(4)],
    };
    assert_eq!(audit.recomputed, expected);
}

#[test]
fn a_list_of_findings_has_an_end() {
    let run = Run::new();
    let records = run.records().into_iter().map(|mut record| {
        record.slots.iter_mut().for_each(|slot| slot.tokens += 1);
        record
    });
    let audit = run.audit(&records.collect::<Vec<_>>());
    assert_eq!(audit.findings.count, audit.slots as usize);
    assert_eq!(audit.findings.first.len(), 20);
}
