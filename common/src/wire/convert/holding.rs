//! What a worker holds, and the first event of its session.

use weft_proto::v1;

use super::shared::{digest, digest_bytes, health, health_code, membership, worker};
use super::{WireError, required};
use crate::id::{SlotId, Step, Term};
use crate::wire::{Attach, HeldSlot, HeldSum, Holding, SlotOutcome};

impl From<Attach> for v1::Attach {
    fn from(from: Attach) -> Self {
        Self {
            incarnation: from.worker.to_string(),
            term: from.term.0,
            session: from.session,
            holding: from.holding.map(Into::into),
        }
    }
}

impl TryFrom<v1::Attach> for Attach {
    type Error = WireError;

    fn try_from(from: v1::Attach) -> Result<Self, WireError> {
        Ok(Self {
            worker: worker(&from.incarnation, "attach.incarnation")?,
            term: Term(from.term),
            session: from.session,
            holding: from.holding.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<Holding> for v1::Holding {
    fn from(from: Holding) -> Self {
        Self {
            membership: Some(from.membership.into()),
            next_step: from.next_step.0,
            engine: Some(from.engine.into()),
            ring_port: from.ring_port.into(),
            peer_port: from.peer_port.into(),
            slots: from.slots.into_iter().map(Into::into).collect(),
            sum: from.sum.map(Into::into),
        }
    }
}

impl TryFrom<v1::Holding> for Holding {
    type Error = WireError;

    fn try_from(from: v1::Holding) -> Result<Self, WireError> {
        let slots = from.slots.into_iter().map(TryInto::try_into);
        Ok(Self {
            membership: membership(from.membership)?,
            next_step: Step(from.next_step),
            engine: required(from.engine, "engine")?.try_into()?,
            ring_port: port(from.ring_port, "ring_port")?,
            peer_port: port(from.peer_port, "peer_port")?,
            slots: slots.collect::<Result<_, _>>()?,
            sum: from.sum.map(TryInto::try_into).transpose()?,
        })
    }
}

fn port(number: u32, field: &'static str) -> Result<u16, WireError> {
    u16::try_from(number).map_err(|error| WireError::invalid(field, error))
}

impl From<HeldSlot> for v1::HeldSlot {
    fn from(from: HeldSlot) -> Self {
        Self {
            slot: from.slot.0,
            loss_sum: from.outcome.loss_sum,
            supervised_tokens: from.outcome.supervised,
            tokens: from.outcome.tokens,
            digest: digest_bytes(from.outcome.digest).into(),
        }
    }
}

impl TryFrom<v1::HeldSlot> for HeldSlot {
    type Error = WireError;

    fn try_from(from: v1::HeldSlot) -> Result<Self, WireError> {
        Ok(Self {
            slot: SlotId(from.slot),
            outcome: SlotOutcome {
                loss_sum: from.loss_sum,
                supervised: from.supervised_tokens,
                tokens: from.tokens,
                digest: digest(&from.digest, "held_slot.digest")?,
            },
        })
    }
}

impl From<HeldSum> for v1::HeldSum {
    fn from(from: HeldSum) -> Self {
        Self {
            digest: digest_bytes(from.digest).into(),
            health: health_code(from.health),
        }
    }
}

impl TryFrom<v1::HeldSum> for HeldSum {
    type Error = WireError;

    fn try_from(from: v1::HeldSum) -> Result<Self, WireError> {
        Ok(Self {
            digest: digest(&from.digest, "held_sum.digest")?,
            health: health(from.health)?,
        })
    }
}
