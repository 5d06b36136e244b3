//! From coordinator to worker.

use weft_proto::v1::{self, command::Command as Wire};

use super::shared::{checkpoint, digest, digest_bytes, membership, round, worker};
use super::{WireError, required};
use crate::id::{LeaseId, Rank, Step};
use crate::wire::{
    Command, Commit, DatasetFile, DatasetRef, EndJob, FetchState, FormEpoch, Lease, LeasedSlot,
    Member, Prepare, Reject, RejectReason, Restore, Settle, TakeCheckpoint, Update, Verdict,
};

impl From<Command> for v1::Command {
    fn from(from: Command) -> Self {
        let command = match from {
            Command::Prepare(command) => Wire::Prepare(command.into()),
            Command::FormEpoch(command) => Wire::FormEpoch(command.into()),
            Command::Lease(command) => Wire::Lease(command.into()),
            Command::FetchState(command) => Wire::FetchState(command.into()),
            Command::Restore(command) => Wire::Restore(command.into()),
            Command::Settle(command) => Wire::Settle(command.into()),
            Command::Seal(round) => Wire::Seal(v1::Seal {
                round: Some(round.into()),
            }),
            Command::Commit(command) => Wire::Commit(command.into()),
            Command::TakeCheckpoint(command) => Wire::TakeCheckpoint(command.into()),
            Command::Reject(command) => Wire::Reject(command.into()),
            Command::EndJob(command) => Wire::EndJob(command.into()),
            Command::Shutdown { reason } => Wire::Shutdown(v1::Shutdown { reason }),
        };
        Self {
            command: Some(command),
        }
    }
}

impl TryFrom<v1::Command> for Command {
    type Error = WireError;

    fn try_from(from: v1::Command) -> Result<Self, WireError> {
        Ok(match required(from.command, "command")? {
            Wire::Prepare(command) => Self::Prepare(command.try_into()?),
            Wire::FormEpoch(command) => Self::FormEpoch(command.try_into()?),
            Wire::Lease(command) => Self::Lease(command.try_into()?),
            Wire::FetchState(command) => Self::FetchState(command.try_into()?),
            Wire::Restore(command) => Self::Restore(command.try_into()?),
            Wire::Settle(command) => Self::Settle(command.try_into()?),
            Wire::Seal(command) => Self::Seal(round(command.round)?),
            Wire::Commit(command) => Self::Commit(command.try_into()?),
            Wire::TakeCheckpoint(command) => Self::TakeCheckpoint(command.try_into()?),
            Wire::Reject(command) => Self::Reject(command.try_into()?),
            Wire::EndJob(command) => Self::EndJob(command.try_into()?),
            Wire::Shutdown(v1::Shutdown { reason }) => Self::Shutdown { reason },
        })
    }
}

impl From<Prepare> for v1::Prepare {
    fn from(from: Prepare) -> Self {
        Self {
            membership: Some(from.membership.into()),
            recipe_json: from.recipe_json,
            dataset: Some(from.dataset.into()),
            total_steps: from.total_steps,
            resume: from.resume.map(Into::into),
            joins: from.joins,
        }
    }
}

impl TryFrom<v1::Prepare> for Prepare {
    type Error = WireError;

    fn try_from(from: v1::Prepare) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            recipe_json: from.recipe_json,
            dataset: required(from.dataset, "dataset")?.try_into()?,
            total_steps: from.total_steps,
            resume: from.resume.map(Into::into),
            joins: from.joins,
        })
    }
}

impl From<DatasetRef> for v1::Dataset {
    fn from(from: DatasetRef) -> Self {
        let file = |file: DatasetFile| v1::DatasetFile {
            name: file.name,
            bytes: file.bytes,
        };
        Self {
            digest: digest_bytes(from.digest).into(),
            dir: from.dir.to_string_lossy().into_owned(),
            files: from.files.into_iter().map(file).collect(),
        }
    }
}

impl TryFrom<v1::Dataset> for DatasetRef {
    type Error = WireError;

    fn try_from(from: v1::Dataset) -> Result<Self, WireError> {
        let files = from.files.into_iter().map(dataset_file);
        Ok(Self {
            digest: digest(&from.digest, "dataset.digest")?,
            dir: from.dir.into(),
            files: files.collect::<Result<_, _>>()?,
        })
    }
}

/// A name with a separator could leave the dataset's folder.
fn dataset_file(from: v1::DatasetFile) -> Result<DatasetFile, WireError> {
    let plain = !from.name.is_empty() && !from.name.starts_with('.');
    if !plain || from.name.contains(['/', '\\', '\0']) {
        return Err(WireError::invalid("dataset.files.name", from.name));
    }
    Ok(DatasetFile {
        name: from.name,
        bytes: from.bytes,
    })
}

impl From<FormEpoch> for v1::FormEpoch {
    fn from(from: FormEpoch) -> Self {
        let member = |member: &Member| v1::Member {
            worker: member.worker.to_string(),
            rank: member.rank.0,
            address: member.address.to_string(),
        };
        Self {
            membership: Some(from.membership.into()),
            members: from.members.iter().map(member).collect(),
            step: from.step.0,
            keep: from.keep,
        }
    }
}

impl TryFrom<v1::FormEpoch> for FormEpoch {
    type Error = WireError;

    fn try_from(from: v1::FormEpoch) -> Result<Self, WireError> {
        let members = from.members.into_iter().map(member);
        Ok(Self {
            membership: membership(from.membership)?,
            members: members.collect::<Result<_, _>>()?,
            step: Step(from.step),
            keep: from.keep,
        })
    }
}

impl From<FetchState> for v1::FetchState {
    fn from(from: FetchState) -> Self {
        Self {
            membership: Some(from.membership.into()),
            source: from.source.to_string(),
            address: from.address.to_string(),
        }
    }
}

impl TryFrom<v1::FetchState> for FetchState {
    type Error = WireError;

    fn try_from(from: v1::FetchState) -> Result<Self, WireError> {
        let address = from.address.parse();
        Ok(Self {
            membership: membership(from.membership)?,
            source: worker(&from.source, "fetch_state.source")?,
            address: address.map_err(|error| WireError::invalid("fetch_state.address", error))?,
        })
    }
}

impl From<Restore> for v1::Restore {
    fn from(from: Restore) -> Self {
        Self {
            membership: Some(from.membership.into()),
            checkpoint: from.checkpoint.map(Into::into),
        }
    }
}

impl TryFrom<v1::Restore> for Restore {
    type Error = WireError;

    fn try_from(from: v1::Restore) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            checkpoint: from.checkpoint.map(Into::into),
        })
    }
}

impl From<Settle> for v1::Settle {
    fn from(from: Settle) -> Self {
        Self {
            round: Some(from.round.into()),
            lease: from.lease.0,
            merge: from.verdict == Verdict::Merge,
        }
    }
}

impl TryFrom<v1::Settle> for Settle {
    type Error = WireError;

    fn try_from(from: v1::Settle) -> Result<Self, WireError> {
        Ok(Self {
            round: round(from.round)?,
            lease: LeaseId(from.lease),
            verdict: if from.merge {
                Verdict::Merge
            } else {
                Verdict::Discard
            },
        })
    }
}

fn member(from: v1::Member) -> Result<Member, WireError> {
    let address = from.address.parse();
    Ok(Member {
        worker: worker(&from.worker, "member.worker")?,
        rank: Rank(from.rank),
        address: address.map_err(|error| WireError::invalid("member.address", error))?,
    })
}

impl From<Lease> for v1::Lease {
    fn from(from: Lease) -> Self {
        let slot = |slot: LeasedSlot| v1::LeasedSlot {
            lease: slot.lease.0,
            slot: Some(slot.plan.into()),
            staged: slot.staged,
        };
        Self {
            round: Some(from.round.into()),
            step_supervised_tokens: from.step_supervised,
            slots: from.slots.into_iter().map(slot).collect(),
        }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = WireError;

    fn try_from(from: v1::Lease) -> Result<Self, WireError> {
        let slot = |slot: v1::LeasedSlot| {
            Ok(LeasedSlot {
                lease: LeaseId(slot.lease),
                plan: required(slot.slot, "lease.slot")?.into(),
                staged: slot.staged,
            })
        };
        Ok(Self {
            round: round(from.round)?,
            step_supervised: from.step_supervised_tokens,
            slots: from.slots.into_iter().map(slot).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Commit> for v1::Commit {
    fn from(from: Commit) -> Self {
        let update = match from.update {
            Update::Apply => v1::Update::Apply,
            Update::Skip => v1::Update::Skip,
        };
        Self {
            round: Some(from.round.into()),
            update: update.into(),
        }
    }
}

impl TryFrom<v1::Commit> for Commit {
    type Error = WireError;

    fn try_from(from: v1::Commit) -> Result<Self, WireError> {
        let update = match v1::Update::try_from(from.update) {
            Ok(v1::Update::Apply) => Update::Apply,
            Ok(v1::Update::Skip) => Update::Skip,
            Ok(v1::Update::Unspecified) | Err(_) => {
                return Err(WireError::invalid("update", from.update));
            }
        };
        Ok(Self {
            round: round(from.round)?,
            update,
        })
    }
}

impl From<TakeCheckpoint> for v1::TakeCheckpoint {
    fn from(from: TakeCheckpoint) -> Self {
        Self {
            membership: Some(from.membership.into()),
            checkpoint: Some(from.checkpoint.into()),
            world: from.world,
        }
    }
}

impl TryFrom<v1::TakeCheckpoint> for TakeCheckpoint {
    type Error = WireError;

    fn try_from(from: v1::TakeCheckpoint) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            checkpoint: checkpoint(from.checkpoint)?,
            world: from.world,
        })
    }
}

impl From<Reject> for v1::Reject {
    fn from(from: Reject) -> Self {
        let reason = match from.reason {
            RejectReason::Job => v1::RejectReason::Job,
            RejectReason::Term => v1::RejectReason::Term,
            RejectReason::Epoch => v1::RejectReason::Epoch,
            RejectReason::Step => v1::RejectReason::Step,
            RejectReason::Lease => v1::RejectReason::Lease,
            RejectReason::Slot => v1::RejectReason::Slot,
            RejectReason::Phase => v1::RejectReason::Phase,
            RejectReason::Member => v1::RejectReason::Member,
            RejectReason::Outcome => v1::RejectReason::Outcome,
        };
        Self {
            round: Some(from.round.into()),
            reason: reason.into(),
            message: from.reason.to_string(),
        }
    }
}

impl TryFrom<v1::Reject> for Reject {
    type Error = WireError;

    fn try_from(from: v1::Reject) -> Result<Self, WireError> {
        let reason = match v1::RejectReason::try_from(from.reason) {
            Ok(v1::RejectReason::Job) => RejectReason::Job,
            Ok(v1::RejectReason::Term) => RejectReason::Term,
            Ok(v1::RejectReason::Epoch) => RejectReason::Epoch,
            Ok(v1::RejectReason::Step) => RejectReason::Step,
            Ok(v1::RejectReason::Lease) => RejectReason::Lease,
            Ok(v1::RejectReason::Slot) => RejectReason::Slot,
            Ok(v1::RejectReason::Phase) => RejectReason::Phase,
            Ok(v1::RejectReason::Member) => RejectReason::Member,
            Ok(v1::RejectReason::Outcome) => RejectReason::Outcome,
            Ok(v1::RejectReason::Unspecified) | Err(_) => {
                return Err(WireError::invalid("reason", from.reason));
            }
        };
        Ok(Self {
            round: round(from.round)?,
            reason,
        })
    }
}

impl From<EndJob> for v1::EndJob {
    fn from(from: EndJob) -> Self {
        Self {
            membership: Some(from.membership.into()),
            outcome: from.outcome,
        }
    }
}

impl TryFrom<v1::EndJob> for EndJob {
    type Error = WireError;

    fn try_from(from: v1::EndJob) -> Result<Self, WireError> {
        Ok(Self {
            membership: membership(from.membership)?,
            outcome: from.outcome,
        })
    }
}
