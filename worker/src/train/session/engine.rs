//! The trainer as the agent drives it.

use std::ops::Range;
use std::path::Path;

use tracing::warn;
use weft_common::data::Row;
use weft_common::id::Step;
use weft_common::plan::SlotPlan;
use weft_common::sum_digest::SumDigest;

use super::snapshot::{self, internal};
use super::{NO_STATE, Trainer};
use crate::agent::{
    Applied, Engine, EngineError, EngineInfo, ErrorKind, MemoryReport, Reduced, SlotOutcome,
    Snapshot, SnapshotMeta, StateCopy,
};
use crate::collective::{Cancel, Collective, GpuLink};
use crate::ops::DeviceError;
use crate::train::fixed_point::{Flags, MAX_TERMS};
use crate::train::{Backend, GradSink, LossScale, PackedBatch, PassError, SlotLoss, StepScalars};

impl<B: Backend> Engine for Trainer<B> {
    fn info(&self) -> EngineInfo {
        let (params, backend) = (self.params as u64, self.model.ops());
        EngineInfo {
            device: self.device.clone(),
            adapter_params: params,
            base_params: self.model.spec().parameters() as u64,
            model_digest: self.inputs.base_model,
            state_digest: backend.state_digest(self.state()),
            scales_loss: backend.scales_loss(),
            memory: MemoryReport {
                base_bytes: self.base_bytes,
                adapter_bytes: params * size_of::<f32>() as u64,
                optimizer_bytes: backend.optimizer_bytes(self.state()),
                accumulator_bytes: backend.sums_bytes(&self.sums) + self.staging.bytes(backend),
                activation_bytes: self.activation_bytes,
            },
        }
    }

    fn device_bytes(&self) -> Option<u64> {
        self.model.ops().used_bytes()
    }

    fn gpu_link(&self) -> Option<GpuLink> {
        self.model.ops().gpu_link()
    }

    fn compute_slot(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        step_supervised: u64,
    ) -> Result<SlotOutcome, EngineError> {
        let batch = self.batch(step, slot)?;
        let (scale, unscale) = self.scales(step_supervised);
        self.summed = None;
        let backend = self.model.ops();
        let mut sink = Sink {
            backend,
            sums: &mut self.sums,
            unscale,
        };
        let adapter = backend.adapter(self.state.as_ref().expect(NO_STATE));
        let loss = self
            .pass
            .forward_backward(&self.model, adapter, &batch, scale, &mut sink)
            .map_err(failed)?;
        let digest = backend.end_slot(&mut self.sums);
        backend.health()?;
        Ok(outcome(slot, loss, digest))
    }

    fn compute_staged(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        step_supervised: u64,
        cancel: &Cancel,
    ) -> Result<Option<SlotOutcome>, EngineError> {
        let batch = self.batch(step, slot)?;
        let (scale, unscale) = self.scales(step_supervised);
        let backend = self.model.ops();
        let adapter = backend.adapter(self.state.as_ref().expect(NO_STATE));
        let mut sink = self.staging.begin(backend, unscale, cancel);
        let computed = self
            .pass
            .forward_backward(&self.model, adapter, &batch, scale, &mut sink);
        match computed {
            Ok(loss) if !cancel.is_cancelled() => {
                let digest = self.staging.end(backend);
                backend.health()?;
                Ok(Some(outcome(slot, loss, digest)))
            }
            Ok(_) | Err(PassError::Abandoned) => {
                self.staging.discard(backend);
                Ok(None)
            }
            Err(
                error
                @ (PassError::Token { .. } | PassError::Context { .. } | PassError::Device(_)),
            ) => {
                self.staging.discard(backend);
                Err(failed(error))
            }
        }
    }

    fn merge_staged(&mut self) -> Result<(), EngineError> {
        self.summed = None;
        self.staging.merge_into(self.model.ops(), &mut self.sums)
    }

    fn discard_staged(&mut self) {
        self.staging.discard(self.model.ops());
    }

    fn reduce(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<Reduced, EngineError> {
        self.summed = None;
        let backend = self.model.ops();
        let sum = backend.reduce(&mut self.sums, collective, cancel)?;
        backend.health()?;
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
        let learning_rate = self.schedule.at(step);
        let scalars = StepScalars {
            learning_rate,
            max_norm: self.recipe.training.max_grad_norm,
        };
        let state = self.state.as_mut().expect(NO_STATE);
        let grad_norm = self.model.ops().update(state, &mut self.sums, scalars);
        let progress = self.progress();
        progress.updates += 1;
        progress.loss_scale = progress.loss_scale.map(LossScale::after_update);
        Ok(self.end_step(grad_norm, learning_rate)?)
    }

    fn skip(&mut self, step: Step) -> Result<Applied, EngineError> {
        self.expect_step(step)?;
        let flags = self.summed.take().map(|sum| sum.flags).unwrap_or_default();
        let progress = self.progress();
        warn!(
            %step,
            non_finite = flags.non_finite,
            overflow = flags.overflow,
            loss_scale = progress.loss_scale.map(LossScale::scale),
            "the gradient is not finite; the step passes without an update"
        );
        progress.skipped_steps += 1;
        progress.loss_scale = progress.loss_scale.map(LossScale::after_overflow);
        let learning_rate = self.schedule.at(step);
        Ok(self.end_step(0.0, learning_rate)?)
    }

    fn drop_accumulator(&mut self) {
        self.model.ops().clear(&mut self.sums);
        self.summed = None;
    }

    fn snapshot(&mut self, meta: &SnapshotMeta) -> Result<Box<dyn Snapshot>, EngineError> {
        snapshot::take(self, meta)
    }

    fn restore(&mut self, dir: &Path) -> Result<Step, EngineError> {
        let step = snapshot::restore(self, dir)?;
        self.drop_accumulator();
        self.discard_staged();
        Ok(step)
    }

    fn adopt(&mut self, copy: &StateCopy) -> Result<Step, EngineError> {
        let step = snapshot::adopt(self, copy)?;
        self.drop_accumulator();
        self.discard_staged();
        Ok(step)
    }
}

impl<B: Backend> Trainer<B> {
    /// The rows of a slot of the step in hand, if they are what its plan says.
    fn batch(&mut self, step: Step, slot: &SlotPlan) -> Result<PackedBatch, EngineError> {
        self.expect_step(step)?;
        check_terms(slot)?;
        let rows: Vec<Row> = slot.rows.iter().map(|&row| self.rows.row(row)).collect();
        let batch = PackedBatch::from_rows(&rows);
        check_counts(slot, &batch)?;
        Ok(batch)
    }

    /// What a micro-batch's gradient is scaled by, and what it is multiplied with before it is summed.
    fn scales(&mut self, step_supervised: u64) -> (f32, f32) {
        let mean = mean(step_supervised);
        match self.progress().loss_scale {
            Some(scale) => (mean * scale.factor(), scale.inverse()),
            None => (mean, 1.0),
        }
    }

    fn expect_step(&mut self, step: Step) -> Result<(), EngineError> {
        let next = Step(self.progress().next_step);
        if step == next {
            return Ok(());
        }
        Err(internal(format!(
            "step {step} was asked for, but the state is before step {next}"
        )))
    }

    fn end_step(&mut self, grad_norm: f64, learning_rate: f64) -> Result<Applied, DeviceError> {
        self.progress().next_step += 1;
        self.drop_accumulator();
        self.discard_staged();
        let state_digest = self.model.ops().state_digest(self.state());
        self.model.ops().health()?;
        Ok(Applied {
            grad_norm,
            learning_rate,
            state_digest,
        })
    }
}

/// Hands finished gradients to the sums.
struct Sink<'a, B: Backend> {
    backend: &'a B,
    sums: &'a mut B::Sums,
    unscale: f32,
}

impl<B: Backend> GradSink<B::Floats> for Sink<'_, B> {
    fn accept(&mut self, range: Range<usize>, grad: &B::Floats) {
        self.backend.add(self.sums, range, grad, self.unscale);
    }
}

/// A micro-batch that did not run to its end, by kind.
fn failed(error: PassError) -> EngineError {
    match error {
        PassError::Device(error) => error.into(),
        PassError::Token { .. } | PassError::Context { .. } | PassError::Abandoned => {
            EngineError::new(ErrorKind::Data, error)
        }
    }
}

impl From<DeviceError> for EngineError {
    fn from(error: DeviceError) -> Self {
        Self::new(ErrorKind::Internal, error)
    }
}

/// What a step's loss is divided by to be the mean over supervised tokens, inverted.
fn mean(step_supervised: u64) -> f32 {
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
