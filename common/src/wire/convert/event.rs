//! From worker to coordinator.

use std::time::Duration;

use weft_proto::v1::{self, worker_event::Event as Wire};

use super::shared::{
    checkpoint, digest, digest_bytes, health, health_code, kind, kind_code, membership, nanos,
    round, worker,
};
use super::{WireError, required};
use crate::id::{LeaseId, SlotId};
use crate::wire::{
    AppliedReport, CheckpointFailed, CheckpointWritten, Event, Heartbeat, ReducedReport, SlotDone,
    SlotOutcome, SyncFailed, WorkerFailed,
};

impl From<Event> for v1::WorkerEvent {
    fn from(from: Event) -> Self {
        let event = match from {
            Event::Heartbeat(event) => Wire::Heartbeat(event.into()),
            Event::Prepared(event) => Wire::Prepared(event.into()),
            Event::SyncFailed(event) => Wire::SyncFailed(event.into()),
            Event::SlotDone(event) => Wire::SlotDone(event.into()),
            Event::Reduced(event) => Wire::Reduced(event.into()),
            Event::Applied(event) => Wire::Applied(event.into()),
            Event::CheckpointWritten(event) => Wire::CheckpointWritten(event.into()),
            Event::CheckpointFailed(event) => Wire::CheckpointFailed(event.into()),
            Event::Failed(event) => Wire::Failed(event.into()),
            Event::Leave { reason } => Wire::Leave(v1::Leave { reason }),
        };
        Self { event: Some(event) }
    }
}

impl TryFrom<v1::WorkerEvent> for Event {
    type Error = WireError;

    fn try_from(from: v1::WorkerEvent) -> Result<Self, WireError> {
        Ok(match required(from.event, "event")? {
            Wire::Attach(_) => {
                return Err(WireError::invalid("event", "attach after the first event"));
            }
            Wire::Heartbeat(event) => Self::Heartbeat(event.into()),
            Wire::Prepared(event) => Self::Prepared(event.try_into()?),
            Wire::SyncFailed(event) => Self::SyncFailed(event.try_into()?),
            Wire::SlotDone(event) => Self::SlotDone(event.try_into()?),
            Wire::Reduced(event) => Self::Reduced(event.try_into()?),
            Wire::Applied(event) => Self::Applied(event.try_into()?),
            Wire::CheckpointWritten(event) => Self::CheckpointWritten(event.try_into()?),
            Wire::CheckpointFailed(event) => Self::CheckpointFailed(event.try_into()?),
            Wire::Failed(event) => Self::Failed(event.try_into()?),
            Wire::Leave(v1::Leave { reason }) => Self::Leave { reason },
        })
    }
}

impl From<Heartbeat> for v1::Heartbeat {
    fn from(from: Heartbeat) -> Self {
        Self {
            slots_computed: from.slots_computed,
            peak_resident_bytes: from.peak_resident_bytes,
            device_bytes: from.device_bytes,
            gpu: from.gpu.map(Into::into),
        }
    }
}

impl From<v1::Heartbeat> for Heartbeat {
    fn from(from: v1::Heartbeat) -> Self {
        Self {
            slots_computed: from.slots_computed,
            peak_resident_bytes: from.peak_resident_bytes,
            device_bytes: from.device_bytes,
            gpu: from.gpu.map(Into::into),
        }
    }
}

impl From<SlotDone> for v1::SlotDone {
    fn from(from: SlotDone) -> Self {
        Self {
            round: Some(from.round.into()),
            slot: from.slot.0,
            lease: from.lease.0,
            loss_sum: from.outcome.loss_sum,
            supervised_tokens: from.outcome.supervised,
            tokens: from.outcome.tokens,
            digest: digest_bytes(from.outcome.digest).into(),
            elapsed_nanos: nanos(from.elapsed),
        }
    }
}

impl TryFrom<v1::SlotDone> for SlotDone {
    type Error = WireError;

    fn try_from(from: v1::SlotDone) -> Result<Self, WireError> {
        Ok(Self {
            round: round(from.round)?,
            slot: SlotId(from.slot),
            lease: LeaseId(from.lease),
            outcome: SlotOutcome {
                loss_sum: from.loss_sum,
                supervised: from.supervised_tokens,
                tokens: from.tokens,
                digest: digest(&from.digest, "digest")?,
            },
            elapsed: Duration::from_nanos(from.elapsed_nanos),
        })
    }
}

impl From<ReducedReport> for v1::Reduced {
    fn from(from: ReducedReport) -> Self {
        Self {
            round: Some(from.round.into()),
            digest: digest_bytes(from.digest).into(),
            part: digest_bytes(from.part).into(),
            health: health_code(from.health),
            elapsed_nanos: nanos(from.elapsed),
        }
    }
}

impl TryFrom<v1::Reduced> for ReducedReport {
    type Error = WireError;

    fn try_from(from: v1::Reduced) -> Result<Self, WireError> {
        Ok(Self {
            round: round(from.round)?,
            digest: digest(&from.digest, "digest")?,
            part: digest(&from.part, "part")?,
            health: health(from.health)?,
            elapsed: Duration::from_nanos(from.elapsed_nanos),
        })
    }
}

impl From<AppliedReport> for v1::Applied {
    fn from(from: AppliedReport) -> Self {
        Self {
            round: Some(from.round.into()),
            grad_norm: from.grad_norm,
            learning_rate: from.learning_rate,
            state_digest: digest_bytes(from.state_digest).into(),
            elapsed_nanos: nanos(from.elapsed),
        }
    }
}

impl TryFrom<v1::Applied> for AppliedReport {
    type Error = WireError;

    fn try_from(from: v1::Applied) -> Result<Self, WireError> {
        Ok(Self {
            round: round(from.round)?,
            grad_norm: from.grad_norm,
            learning_rate: from.learning_rate,
            state_digest: digest(&from.state_digest, "state_digest")?,
            elapsed: Duration::from_nanos(from.elapsed_nanos),
        })
    }
}

impl From<CheckpointWritten> for v1::CheckpointWritten {
    fn from(from: CheckpointWritten) -> Self {
        Self {
            membership: Some(from.membership.into()),
            checkpoint: Some(from.checkpoint.into()),
            bytes: from.bytes,
            elapsed_nanos: nanos(from.elapsed),
        }
    }
}

impl TryFrom<v1::CheckpointWritten> for CheckpointWritten {
    type Error = WireError;

    fn try_from(from: v1::CheckpointWritten) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            checkpoint: checkpoint(from.checkpoint)?,
            bytes: from.bytes,
            elapsed: Duration::from_nanos(from.elapsed_nanos),
        })
    }
}

impl From<CheckpointFailed> for v1::CheckpointFailed {
    fn from(from: CheckpointFailed) -> Self {
        Self {
            membership: Some(from.membership.into()),
            checkpoint: Some(from.checkpoint.into()),
            kind: kind_code(from.kind),
            message: from.message,
        }
    }
}

impl TryFrom<v1::CheckpointFailed> for CheckpointFailed {
    type Error = WireError;

    fn try_from(from: v1::CheckpointFailed) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            checkpoint: checkpoint(from.checkpoint)?,
            kind: kind(from.kind)?,
            message: from.message,
        })
    }
}

impl From<WorkerFailed> for v1::WorkerFailed {
    fn from(from: WorkerFailed) -> Self {
        let suspect = from.suspect.map(|suspect| suspect.to_string());
        Self {
            membership: Some(from.membership.into()),
            kind: kind_code(from.kind),
            message: from.message,
            suspect: suspect.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::WorkerFailed> for WorkerFailed {
    type Error = WireError;

    fn try_from(from: v1::WorkerFailed) -> Result<Self, WireError> {
        let suspect = Some(from.suspect).filter(|suspect| !suspect.is_empty());
        let suspect = suspect.map(|suspect| worker(&suspect, "failed.suspect"));
        Ok(Self {
            membership: membership(from.membership)?,
            kind: kind(from.kind)?,
            message: from.message,
            suspect: suspect.transpose()?,
        })
    }
}

impl From<SyncFailed> for v1::SyncFailed {
    fn from(from: SyncFailed) -> Self {
        Self {
            membership: Some(from.membership.into()),
            source: from.source.to_string(),
            message: from.message,
        }
    }
}

impl TryFrom<v1::SyncFailed> for SyncFailed {
    type Error = WireError;

    fn try_from(from: v1::SyncFailed) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            source: worker(&from.source, "sync_failed.source")?,
            message: from.message,
        })
    }
}
