//! The trainer as the agent drives it.

use std::ops::Range;
use std::path::Path;

use tracing::warn;
use weft_common::data::Row;
use weft_common::id::Step;
use weft_common::plan::SlotPlan;
use weft_common::sum_digest::SumDigest;

use super::Trainer;
use super::snapshot::{self, internal};
use crate::agent::{
    Applied, Engine, EngineError, EngineInfo, ErrorKind, MemoryReport, Reduced, SlotOutcome,
    Snapshot, SnapshotMeta,
};
use crate::collective::{Cancel, Collective};
use crate::train::accumulator::Accumulator;
use crate::train::fixed_point::{Flags, MAX_TERMS};
use crate::train::optimizer::{UpdateScalars, clip_coefficient, global_norm};
use crate::train::{GradSink, PackedBatch, PassError, SlotLoss};

impl Engine for Trainer {
    fn info(&self) -> EngineInfo {
        let params = self.grads.len() as u64;
        EngineInfo {
            device: self.device.clone(),
            adapter_params: params,
            base_params: self.model.spec().parameters() as u64,
            model_digest: self.inputs.base_model,
            state_digest: self.state.digest(),
            memory: MemoryReport {
                base_bytes: self.base_bytes,
                adapter_bytes: params * size_of::<f32>() as u64,
                optimizer_bytes: self.state.optimizer.state_bytes(),
                accumulator_bytes: params * (size_of::<i64>() + size_of::<f32>()) as u64
                    + self.staging.bytes(),
                activation_bytes: self.activation_bytes,
            },
        }
    }

    fn compute_slot(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        step_supervised: u64,
    ) -> Result<SlotOutcome, EngineError> {
        let batch = self.batch(step, slot)?;
        self.summed = None;
        let mut sink = Sink(&mut self.accumulator);
        let loss = self
            .pass
            .forward_backward(
                &self.model,
                &self.state.adapter,
                &batch,
                scale(step_supervised),
                &mut sink,
            )
            .map_err(|error| EngineError::new(ErrorKind::Data, error))?;
        Ok(outcome(slot, loss, self.accumulator.end_slot()))
    }

    fn compute_staged(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        step_supervised: u64,
        cancel: &Cancel,
    ) -> Result<Option<SlotOutcome>, EngineError> {
        let batch = self.batch(step, slot)?;
        let mut sink = self.staging.begin(cancel);
        let computed = self.pass.forward_backward(
            &self.model,
            &self.state.adapter,
            &batch,
            scale(step_supervised),
            &mut sink,
        );
        match computed {
            Ok(loss) if !cancel.is_cancelled() => Ok(Some(outcome(slot, loss, self.staging.end()))),
            Ok(_) | Err(PassError::Abandoned) => {
                self.staging.discard();
                Ok(None)
            }
            Err(error @ (PassError::Token { .. } | PassError::Context { .. })) => {
                self.staging.discard();
                Err(EngineError::new(ErrorKind::Data, error))
            }
        }
    }

    fn merge_staged(&mut self) -> Result<(), EngineError> {
        self.summed = None;
        self.staging.merge_into(&mut self.accumulator)
    }

    fn discard_staged(&mut self) {
        self.staging.discard();
    }

    fn reduce(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<Reduced, EngineError> {
        self.summed = None;
        let sum = self
            .accumulator
            .reduce(collective, cancel, &mut self.grads)?;
        self.summed = Some(sum);
        Ok(Reduced {
            digest: sum.digest.into(),
            part: sum.part.into(),
            health: sum.flags.health(),
        })
    }

    fn apply(&mut self, step: Step) -> Result<Applied, EngineError> {
        self.expect_step(step)?;
        if self
            .summed
            .take()
            .is_none_or(|sum| sum.flags != Flags::default())
        {
            return Err(internal(format!(
                "step {step} was to be applied, but its gradient is not there or not finite"
            )));
        }
        let grad_norm = global_norm(&self.grads);
        let learning_rate = self.schedule.at(step);
        let scalars = UpdateScalars {
            learning_rate,
            clip: clip_coefficient(grad_norm, self.recipe.training.max_grad_norm),
        };
        let state = &mut self.state;
        state
            .optimizer
            .update(state.adapter.values_mut(), &self.grads, scalars);
        state.progress.updates = state.optimizer.updates();
        Ok(self.end_step(grad_norm, learning_rate))
    }

    fn skip(&mut self, step: Step) -> Result<Applied, EngineError> {
        self.expect_step(step)?;
        let flags = self.summed.take().map(|sum| sum.flags).unwrap_or_default();
        warn!(
            %step,
            non_finite = flags.non_finite,
            overflow = flags.overflow,
            "the gradient is not finite; the step passes without an update"
        );
        self.state.progress.skipped_steps += 1;
        Ok(self.end_step(0.0, self.schedule.at(step)))
    }

    fn drop_accumulator(&mut self) {
        self.accumulator.clear();
        self.summed = None;
    }

    fn snapshot(&mut self, meta: &SnapshotMeta) -> Result<Box<dyn Snapshot>, EngineError> {
        snapshot::take(self, meta)
    }

    fn restore(&mut self, dir: &Path) -> Result<Step, EngineError> {
        let step = snapshot::restore(self, dir)?;
        self.drop_accumulator();
        self.staging.discard();
        Ok(step)
    }
}

impl Trainer {
    /// The rows of a slot of the step in hand, if they are what its plan says.
    fn batch(&self, step: Step, slot: &SlotPlan) -> Result<PackedBatch, EngineError> {
        self.expect_step(step)?;
        check_terms(slot)?;
        let rows: Vec<Row> = slot.rows.iter().map(|&row| self.rows.row(row)).collect();
        let batch = PackedBatch::from_rows(&rows);
        check_counts(slot, &batch)?;
        Ok(batch)
    }

    fn expect_step(&self, step: Step) -> Result<(), EngineError> {
        let next = Step(self.state.progress.next_step);
        if step == next {
            return Ok(());
        }
        Err(internal(format!(
            "step {step} was asked for, but the state is before step {next}"
        )))
    }

    fn end_step(&mut self, grad_norm: f64, learning_rate: f64) -> Applied {
        self.state.progress.next_step += 1;
        self.accumulator.clear();
        self.staging.discard();
        Applied {
            grad_norm,
            learning_rate,
            state_digest: self.state.digest(),
        }
    }
}

/// Hands finished gradients to the accumulator.
struct Sink<'a>(&'a mut Accumulator);

impl GradSink for Sink<'_> {
    fn accept(&mut self, range: Range<usize>, grad: &Vec<f32>) {
        self.0.add(range.start, &grad[..range.len()]);
    }
}

/// What a step's gradient is scaled by: its loss is the mean over supervised tokens.
fn scale(step_supervised: u64) -> f32 {
    (1.0 / step_supervised.max(1) as f64) as f32
}

fn outcome(slot: &SlotPlan, loss: SlotLoss, digest: SumDigest) -> SlotOutcome {
    SlotOutcome {
        loss_sum: loss.loss_sum,
        supervised: loss.supervised,
        tokens: slot.tokens,
        digest: digest.into(),
    }
}

/// More terms than the integers are sized for could wrap.
fn check_terms(slot: &SlotPlan) -> Result<(), EngineError> {
    if slot.slot.0 < MAX_TERMS {
        return Ok(());
    }
    Err(EngineError {
        kind: ErrorKind::Recipe,
        message: format!(
            "a step is cut into more than {MAX_TERMS} micro-batches, the most that exact summation holds; raise \
             training.per_device_train_batch_size or lower resources.workers.max"
        ),
    })
}

/// The plan was made from the same rows.
fn check_counts(slot: &SlotPlan, batch: &PackedBatch) -> Result<(), EngineError> {
    let (tokens, supervised) = (batch.len() as u64, batch.supervised());
    if (tokens, supervised) == (slot.tokens, slot.supervised_tokens) {
        return Ok(());
    }
    Err(EngineError {
        kind: ErrorKind::Data,
        message: format!(
            "slot {} has {tokens} tokens, {supervised} supervised, but its plan says {} and {}; the prepared dataset \
             is not the coordinator's, remove its cache folder",
            slot.slot, slot.tokens, slot.supervised_tokens
        ),
    })
}
