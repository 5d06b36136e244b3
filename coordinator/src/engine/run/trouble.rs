//! Members that cannot reach each other, though all are alive as far as the coordinator can see.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_common::id::{Step, WorkerId};
use weft_common::time::Timestamp;

use super::super::context::Context;
use super::super::outcome::{FailReason, LossCause};
use super::{Flow, Run};

/// Memberships of the same members that are tried before one of them is left out.
const RETRIES: u32 = 2;

/// Beyond the time in which a dead member would have been noticed.
const MARGIN: Duration = Duration::from_millis(250);

/// What members say of peers that they cannot reach. Usually such a peer is dead and its own end, noticed a moment
/// later, is the better news; only where nobody turns out to be gone do these words count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    since: Option<Timestamp>,
    words: BTreeMap<WorkerId, Word>,
    retries: u32,
    /// Whether the next epoch is due, with the same members.
    pub(super) retry: bool,
    /// The step that was computed anew because members disagreed on its sum.
    pub(super) recomputed: Option<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    suspect: Option<WorkerId>,
    message: String,
}

impl Trouble {
    /// A member cannot reach a peer.
    pub(super) fn heard(
        &mut self,
        worker: WorkerId,
        suspect: Option<WorkerId>,
        message: String,
        now: Timestamp,
    ) {
        self.since.get_or_insert(now);
        self.words.insert(worker, Word { suspect, message });
    }

    /// A new membership was formed.
    pub(super) fn settled(&mut self) {
        self.since = None;
        self.words.clear();
        self.retry = false;
    }

    /// Members summed, and the sum is right.
    pub(super) fn forgiven(&mut self) {
        self.settled();
        self.retries = 0;
        self.recomputed = None;
    }

    /// Whom most words are against; where they say nothing, the one with the last of them.
    fn accused(&self, members: &[WorkerId]) -> Option<(WorkerId, String)> {
        let against = |worker: &WorkerId| {
            let words = self.words.values();
            words.filter(|word| word.suspect == Some(*worker)).count()
        };
        let worker = *members.iter().max_by_key(|worker| against(worker))?;
        let message = self.words.values().next_back()?.message.clone();
        Some((worker, message))
    }
}

impl Run {
    /// Tries again with a fresh membership; where that does not help, without the member that is accused most.
    pub(super) fn face_trouble(&mut self, cx: &mut Context<'_>) -> Flow {
        let patience = cx.limits.dead_after + MARGIN;
        let ripe = self
            .trouble
            .since
            .is_some_and(|since| cx.now.since(since) >= patience);
        if !ripe {
            return Flow::Continue(());
        }
        if self.trouble.retries < RETRIES {
            self.trouble.retries += 1;
            self.trouble.retry = true;
            return Flow::Continue(());
        }
        let Some((worker, message)) = self.trouble.accused(&self.live()) else {
            return Flow::Continue(());
        };
        if self.live_count() <= 1 {
            let worker = Box::new(self.name(worker, cx));
            return self.fail(FailReason::Unreachable { worker, message });
        }
        self.expel(worker, LossCause::Failed(message), cx);
        Flow::Continue(())
    }
}
