//! Introductions.

use std::time::Duration;

use weft_proto::v1;

use super::{WireError, required};
use crate::id::Term;
use crate::wire::{Hello, Refusal, Welcome, WorkerFacts};

impl From<Hello> for v1::Hello {
    fn from(from: Hello) -> Self {
        Self {
            incarnation: from.worker.to_string(),
            weft_version: from.weft_version,
            protocol_version: from.protocol_version,
            host: from.facts.host,
            device: from.facts.device,
            memory_bytes: from.facts.memory_bytes,
            labels: from.facts.labels.into_iter().collect(),
            session: from.session,
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = WireError;

    fn try_from(from: v1::Hello) -> Result<Self, WireError> {
        let worker = from.incarnation.parse();
        Ok(Self {
            worker: worker.map_err(|error| WireError::invalid("incarnation", error))?,
            weft_version: from.weft_version,
            protocol_version: from.protocol_version,
            session: from.session,
            facts: WorkerFacts {
                host: from.host,
                device: from.device,
                memory_bytes: from.memory_bytes,
                labels: from.labels.into_iter().collect(),
            },
        })
    }
}

/// The answer to a hello.
#[must_use]
pub fn register_reply(answer: Result<Welcome, Refusal>) -> v1::RegisterReply {
    let reply = match answer {
        Ok(welcome) => v1::register_reply::Reply::Welcome(welcome.into()),
        Err(refusal) => v1::register_reply::Reply::Refusal(refusal.into()),
    };
    v1::RegisterReply { reply: Some(reply) }
}

impl From<Welcome> for v1::Welcome {
    fn from(from: Welcome) -> Self {
        Self {
            term: from.term.0,
            heartbeat_millis: u32::try_from(from.heartbeat_every.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

impl From<v1::Welcome> for Welcome {
    fn from(from: v1::Welcome) -> Self {
        Self {
            term: Term(from.term),
            heartbeat_every: Duration::from_millis(from.heartbeat_millis.into()),
        }
    }
}

impl From<Refusal> for v1::Refusal {
    fn from(from: Refusal) -> Self {
        let reason = match &from {
            Refusal::WeftVersion { .. } => v1::RefusalReason::WeftVersion,
            Refusal::ProtocolVersion { .. } => v1::RefusalReason::ProtocolVersion,
            Refusal::Duplicate { .. } => v1::RefusalReason::Duplicate,
            Refusal::Full { .. } => v1::RefusalReason::Full,
            Refusal::ShuttingDown => v1::RefusalReason::ShuttingDown,
            Refusal::Malformed(_) => v1::RefusalReason::Malformed,
        };
        Self {
            reason: reason.into(),
            message: from.to_string(),
        }
    }
}

/// What a coordinator answered to a hello; a refusal keeps its words.
///
/// # Errors
/// The answer is empty.
pub fn registered(reply: v1::RegisterReply) -> Result<Result<Welcome, v1::Refusal>, WireError> {
    Ok(match required(reply.reply, "reply")? {
        v1::register_reply::Reply::Welcome(welcome) => Ok(welcome.into()),
        v1::register_reply::Reply::Refusal(refusal) => Err(refusal),
    })
}
