//! Positions, plans, engines and kinds.

use std::time::Duration;

use weft_proto::v1;

use super::{WireError, required};
use crate::id::{Digest, Epoch, SlotId, Step, Term, WorkerId};
use crate::plan::SlotPlan;
use crate::wire::{
    CheckpointRef, EngineInfo, ErrorKind, Membership, MemoryReport, Round, SumHealth,
};

pub(super) fn nanos(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, WireError> {
    Digest::try_from(bytes).map_err(|error| WireError::invalid(field, error))
}

pub(super) fn digest_bytes(digest: Digest) -> Vec<u8> {
    digest.0.to_vec()
}

pub(super) fn worker(text: &str, field: &'static str) -> Result<WorkerId, WireError> {
    text.parse()
        .map_err(|error| WireError::invalid(field, error))
}

impl From<Membership> for v1::Membership {
    fn from(from: Membership) -> Self {
        Self {
            job: from.job.to_string(),
            term: from.term.0,
            epoch: from.epoch.0,
        }
    }
}

impl TryFrom<v1::Membership> for Membership {
    type Error = WireError;

    fn try_from(from: v1::Membership) -> Result<Self, WireError> {
        let job = from.job.parse();
        Ok(Self {
            job: job.map_err(|error| WireError::invalid("membership.job", error))?,
            term: Term(from.term),
            epoch: Epoch(from.epoch),
        })
    }
}

pub(super) fn membership(from: Option<v1::Membership>) -> Result<Membership, WireError> {
    required(from, "membership")?.try_into()
}

impl From<Round> for v1::Round {
    fn from(from: Round) -> Self {
        Self {
            membership: Some(from.membership.into()),
            step: from.step.0,
        }
    }
}

pub(super) fn round(from: Option<v1::Round>) -> Result<Round, WireError> {
    let from = required(from, "round")?;
    Ok(Round {
        membership: membership(from.membership)?,
        step: Step(from.step),
    })
}

impl From<SlotPlan> for v1::Slot {
    fn from(from: SlotPlan) -> Self {
        Self {
            slot: from.slot.0,
            rows: from.rows,
            tokens: from.tokens,
            supervised_tokens: from.supervised_tokens,
        }
    }
}

impl From<v1::Slot> for SlotPlan {
    fn from(from: v1::Slot) -> Self {
        Self {
            slot: SlotId(from.slot),
            rows: from.rows,
            tokens: from.tokens,
            supervised_tokens: from.supervised_tokens,
        }
    }
}

impl From<CheckpointRef> for v1::Checkpoint {
    fn from(from: CheckpointRef) -> Self {
        Self {
            dir: from.dir.to_string_lossy().into_owned(),
            next_step: from.next_step.0,
        }
    }
}

impl From<v1::Checkpoint> for CheckpointRef {
    fn from(from: v1::Checkpoint) -> Self {
        Self {
            dir: from.dir.into(),
            next_step: Step(from.next_step),
        }
    }
}

pub(super) fn checkpoint(from: Option<v1::Checkpoint>) -> Result<CheckpointRef, WireError> {
    required(from, "checkpoint").map(Into::into)
}

impl From<EngineInfo> for v1::EngineInfo {
    fn from(from: EngineInfo) -> Self {
        Self {
            device: from.device,
            adapter_params: from.adapter_params,
            base_params: from.base_params,
            model_digest: digest_bytes(from.model_digest).into(),
            state_digest: digest_bytes(from.state_digest).into(),
            memory: Some(from.memory.into()),
            scales_loss: from.scales_loss,
        }
    }
}

impl TryFrom<v1::EngineInfo> for EngineInfo {
    type Error = WireError;

    fn try_from(from: v1::EngineInfo) -> Result<Self, WireError> {
        Ok(Self {
            device: from.device,
            adapter_params: from.adapter_params,
            base_params: from.base_params,
            model_digest: digest(&from.model_digest, "model_digest")?,
            state_digest: digest(&from.state_digest, "state_digest")?,
            memory: required(from.memory, "memory")?.into(),
            scales_loss: from.scales_loss,
        })
    }
}

impl From<MemoryReport> for v1::Memory {
    fn from(from: MemoryReport) -> Self {
        Self {
            base_bytes: from.base_bytes,
            adapter_bytes: from.adapter_bytes,
            optimizer_bytes: from.optimizer_bytes,
            accumulator_bytes: from.accumulator_bytes,
            activation_bytes: from.activation_bytes,
        }
    }
}

impl From<v1::Memory> for MemoryReport {
    fn from(from: v1::Memory) -> Self {
        Self {
            base_bytes: from.base_bytes,
            adapter_bytes: from.adapter_bytes,
            optimizer_bytes: from.optimizer_bytes,
            accumulator_bytes: from.accumulator_bytes,
            activation_bytes: from.activation_bytes,
        }
    }
}

pub(super) fn health_code(health: SumHealth) -> i32 {
    (match health {
        SumHealth::Finite => v1::SumHealth::Finite,
        SumHealth::NonFinite => v1::SumHealth::NonFinite,
        SumHealth::Overflow => v1::SumHealth::Overflow,
    })
    .into()
}

pub(super) fn health(code: i32) -> Result<SumHealth, WireError> {
    match v1::SumHealth::try_from(code) {
        Ok(v1::SumHealth::Finite) => Ok(SumHealth::Finite),
        Ok(v1::SumHealth::NonFinite) => Ok(SumHealth::NonFinite),
        Ok(v1::SumHealth::Overflow) => Ok(SumHealth::Overflow),
        Ok(v1::SumHealth::Unspecified) | Err(_) => Err(WireError::invalid("health", code)),
    }
}

pub(super) fn kind_code(kind: ErrorKind) -> i32 {
    (match kind {
        ErrorKind::Recipe => v1::ErrorKind::Recipe,
        ErrorKind::Model => v1::ErrorKind::Model,
        ErrorKind::Data => v1::ErrorKind::Data,
        ErrorKind::Memory => v1::ErrorKind::Memory,
        ErrorKind::Storage => v1::ErrorKind::Storage,
        ErrorKind::Checkpoint => v1::ErrorKind::Checkpoint,
        ErrorKind::Collective => v1::ErrorKind::Collective,
        ErrorKind::Internal => v1::ErrorKind::Internal,
    })
    .into()
}

pub(super) fn kind(code: i32) -> Result<ErrorKind, WireError> {
    match v1::ErrorKind::try_from(code) {
        Ok(v1::ErrorKind::Recipe) => Ok(ErrorKind::Recipe),
        Ok(v1::ErrorKind::Model) => Ok(ErrorKind::Model),
        Ok(v1::ErrorKind::Data) => Ok(ErrorKind::Data),
        Ok(v1::ErrorKind::Memory) => Ok(ErrorKind::Memory),
        Ok(v1::ErrorKind::Storage) => Ok(ErrorKind::Storage),
        Ok(v1::ErrorKind::Checkpoint) => Ok(ErrorKind::Checkpoint),
        Ok(v1::ErrorKind::Collective) => Ok(ErrorKind::Collective),
        Ok(v1::ErrorKind::Internal) => Ok(ErrorKind::Internal),
        Ok(v1::ErrorKind::Unspecified) | Err(_) => Err(WireError::invalid("kind", code)),
    }
}
