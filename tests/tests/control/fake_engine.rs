//! An engine with trivial arithmetic: what is under test is who computes what, and when.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use weft_common::id::{Digest, Step};
use weft_common::plan::SlotPlan;
use weft_common::sum_digest::{Flags, SumDigest};
use weft_worker::agent::{
    Applied, Engine, EngineError, EngineFactory, EngineInfo, ErrorKind, MemoryReport, Reduced,
    SlotOutcome, Snapshot, SnapshotFiles, SnapshotMeta, StateCopy,
};
use weft_worker::collective::{Cancel, Collective};

/// Parameters of the fake adapter.
const PARAMS: usize = 256;

/// What an engine does wrong, and how long it takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// Time that a micro-batch takes.
    pub(crate) slot_takes: Duration,
    /// Flips a bit of this step's sum.
    pub(crate) corrupt_sum_at: Option<u64>,
    /// Its gradients of these steps are not finite.
    pub(crate) non_finite_at: Range<u64>,
    /// Says that it scales the loss.
    pub(crate) scales_loss: bool,
    /// Cannot be made.
    pub(crate) fails_to_load: bool,
    /// Cannot write checkpoints.
    pub(crate) fails_to_save: bool,
}

/// Makes fake engines.
pub(crate) fn factory(behaviour: Behaviour) -> EngineFactory {
    Box::new(move |_| {
        if behaviour.fails_to_load {
            return Err(EngineError {
                kind: ErrorKind::Model,
                message: "model.safetensors is cut short".to_owned(),
            });
        }
        Ok(Box::new(FakeEngine {
            behaviour: behaviour.clone(),
            state: vec![0; PARAMS],
            accumulator: vec![0; PARAMS + 1],
            staged: None,
            sum: vec![0; PARAMS + 1],
        }))
    })
}

struct FakeEngine {
    behaviour: Behaviour,
    state: Vec<i64>,
    /// The gradients' sum, then the number of micro-batches that were not finite.
    accumulator: Vec<i64>,
    staged: Option<Vec<i64>>,
    sum: Vec<i64>,
}

struct FakeSnapshot {
    bytes: Vec<u8>,
    fails: bool,
}

fn bytes_of(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn storage(error: std::io::Error) -> EngineError {
    EngineError::new(ErrorKind::Storage, error)
}

fn digest(values: &[i64]) -> SumDigest {
    SumDigest::of(&values[..PARAMS], 0).with_flags(Flags {
        non_finite: values[PARAMS].cast_unsigned(),
        overflow: 0,
    })
}

fn outcome(step: Step, slot: &SlotPlan, gradient: &[i64]) -> SlotOutcome {
    SlotOutcome {
        loss_sum: slot.supervised_tokens as f64 / (step.0 + 1) as f64,
        supervised: slot.supervised_tokens,
        tokens: slot.tokens,
        digest: digest(gradient).into(),
    }
}

impl FakeEngine {
    fn state_digest(&self) -> Digest {
        Digest::of(&bytes_of(&self.state))
    }

    /// Takes its time, unless it is cancelled. The gradient depends on the rows and on the state, as a real one does.
    fn gradient(&self, step: Step, slot: &SlotPlan, cancel: &Cancel) -> Option<Vec<i64>> {
        let start = Instant::now();
        while start.elapsed() < self.behaviour.slot_takes {
            if cancel.is_cancelled() {
                return None;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let of_row = |index: usize, row: &u32| {
            (i64::from(*row) + 1) * (index as i64 + 1) + self.state[index] % 1000 * step.0 as i64
        };
        let value = |index: usize| slot.rows.iter().map(|row| of_row(index, row)).sum();
        let sick = self.behaviour.non_finite_at.contains(&step.0);
        let values = (0..PARAMS).map(value);
        Some(values.chain([i64::from(sick)]).collect())
    }

    fn add(&mut self, gradient: &[i64]) {
        for (sum, term) in self.accumulator.iter_mut().zip(gradient) {
            *sum += term;
        }
    }

    fn applied(&mut self) -> Applied {
        self.accumulator.fill(0);
        self.staged = None;
        Applied {
            grad_norm: 1.0,
            learning_rate: 1e-4,
            state_digest: self.state_digest(),
        }
    }
}

impl Engine for FakeEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            device: "fake".to_owned(),
            adapter_params: PARAMS as u64,
            base_params: 0,
            model_digest: Digest::of(b"fake model"),
            state_digest: self.state_digest(),
            scales_loss: self.behaviour.scales_loss,
            memory: MemoryReport::default(),
        }
    }

    fn compute_slot(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        _: u64,
    ) -> Result<SlotOutcome, EngineError> {
        let gradient = self.gradient(step, slot, &Cancel::new());
        let gradient = gradient.expect("nobody cancels it");
        self.add(&gradient);
        Ok(outcome(step, slot, &gradient))
    }

    fn compute_staged(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        _: u64,
        cancel: &Cancel,
    ) -> Result<Option<SlotOutcome>, EngineError> {
        self.staged = self.gradient(step, slot, cancel);
        let staged = self.staged.as_ref();
        Ok(staged.map(|gradient| outcome(step, slot, gradient)))
    }

    fn merge_staged(&mut self) -> Result<(), EngineError> {
        let staged = self.staged.take().ok_or_else(|| EngineError {
            kind: ErrorKind::Internal,
            message: "nothing is staged".to_owned(),
        })?;
        self.add(&staged);
        Ok(())
    }

    fn discard_staged(&mut self) {
        self.staged = None;
    }

    fn reduce(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<Reduced, EngineError> {
        self.sum.copy_from_slice(&self.accumulator);
        collective.all_reduce_sum(&mut self.sum, cancel)?;
        let step = self.state[PARAMS - 1] as u64;
        if self.behaviour.corrupt_sum_at == Some(step) {
            self.sum[0] ^= 1;
        }
        let sum = digest(&self.sum);
        Ok(Reduced {
            digest: sum.into(),
            part: digest(&self.accumulator).into(),
            health: sum.flags().health(),
        })
    }

    fn apply(&mut self, step: Step) -> Result<Applied, EngineError> {
        for (state, sum) in self.state.iter_mut().zip(&self.sum) {
            *state = state.wrapping_mul(31).wrapping_add(*sum);
        }
        // The last one counts the steps.
        self.state[PARAMS - 1] = step.next().0 as i64;
        Ok(self.applied())
    }

    fn skip(&mut self, step: Step) -> Result<Applied, EngineError> {
        self.state[PARAMS - 1] = step.next().0 as i64;
        Ok(self.applied())
    }

    fn drop_accumulator(&mut self) {
        self.accumulator.fill(0);
    }

    fn snapshot(&mut self, _: &SnapshotMeta) -> Result<Box<dyn Snapshot>, EngineError> {
        Ok(Box::new(FakeSnapshot {
            bytes: bytes_of(&self.state),
            fails: self.behaviour.fails_to_save,
        }))
    }

    fn restore(&mut self, dir: &Path) -> Result<Step, EngineError> {
        let bytes = fs::read(dir.join("state")).map_err(storage)?;
        Ok(self.take(&bytes))
    }

    fn adopt(&mut self, copy: &StateCopy) -> Result<Step, EngineError> {
        Ok(self.take(copy.arrays()))
    }
}

impl FakeEngine {
    fn take(&mut self, bytes: &[u8]) -> Step {
        let values = bytes.chunks_exact(8);
        self.state = values
            .map(|value| i64::from_le_bytes(value.try_into().unwrap()))
            .collect();
        self.accumulator.fill(0);
        self.staged = None;
        Step(self.state[PARAMS - 1] as u64)
    }
}

impl Snapshot for FakeSnapshot {
    fn header(&self) -> Result<Vec<u8>, EngineError> {
        Ok(Vec::new())
    }

    fn arrays(&self) -> Vec<&[u8]> {
        vec![&self.bytes]
    }

    fn write(self: Box<Self>, dir: &Path) -> Result<SnapshotFiles, EngineError> {
        if self.fails {
            return Err(EngineError {
                kind: ErrorKind::Storage,
                message: format!("cannot write {}: no space left on device", dir.display()),
            });
        }
        fs::create_dir_all(dir).map_err(storage)?;
        fs::write(dir.join("state"), &self.bytes).map_err(storage)?;
        fs::write(dir.join("MANIFEST.json"), "{}").map_err(storage)?;
        Ok(SnapshotFiles {
            bytes: self.bytes.len() as u64,
        })
    }
}
