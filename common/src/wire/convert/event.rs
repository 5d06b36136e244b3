//! From worker to coordinator.

use std::time::Duration;

use weft_proto::v1::{self, worker_event::Event as Wire};

use super::shared::{
    checkpoint, digest, digest_bytes, health, health_code, kind, kind_code, membership, nanos,
    round,
};
use super::{WireError, required};
use crate::id::{LeaseId, SlotId, Step};
use crate::wire::{
    AppliedReport, CheckpointFailed, CheckpointWritten, Event, Heartbeat, Prepared, ReducedReport,
    SlotDone, SlotOutcome, WorkerFailed,
};

impl From<Event> for v1::WorkerEvent {
    fn from(from: Event) -> Self {
        let event = match from {
            Event::Heartbeat(event) => Wire::Heartbeat(event.into()),
            Event::Prepared(event) => Wire::Prepared(event.into()),
            Event::EpochReady(membership) => Wire::EpochReady(v1::EpochReady {
                membership: Some(membership.into()),
            }),
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
            Wire::EpochReady(event) => Self::EpochReady(membership(event.membership)?),
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
        }
    }
}

impl From<v1::Heartbeat> for Heartbeat {
    fn from(from: v1::Heartbeat) -> Self {
        Self {
            slots_computed: from.slots_computed,
            peak_resident_bytes: from.peak_resident_bytes,
        }
    }
}

impl From<Prepared> for v1::Prepared {
    fn from(from: Prepared) -> Self {
        Self {
            membership: Some(from.membership.into()),
            next_step: from.next_step.0,
            engine: Some(from.engine.into()),
            ring_port: from.ring_port.into(),
        }
    }
}

impl TryFrom<v1::Prepared> for Prepared {
    type Error = WireError;

    fn try_from(from: v1::Prepared) -> Result<Self, WireError> {
        let ring_port = u16::try_from(from.ring_port);
        Ok(Self {
            membership: membership(from.membership)?,
            next_step: Step(from.next_step),
            engine: required(from.engine, "engine")?.try_into()?,
            ring_port: ring_port.map_err(|error| WireError::invalid("ring_port", error))?,
        })
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
        Self {
            membership: Some(from.membership.into()),
            kind: kind_code(from.kind),
            message: from.message,
        }
    }
}

impl TryFrom<v1::WorkerFailed> for WorkerFailed {
    type Error = WireError;

    fn try_from(from: v1::WorkerFailed) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            kind: kind(from.kind)?,
            message: from.message,
        })
    }
}
