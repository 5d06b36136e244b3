//! Memberships, and the states that make a worker fit for one.

use weft_common::id::WorkerId;
use weft_common::wire::{Event, FetchState, FormEpoch, Membership, Restore, SyncFailed};

use super::{Action, Copy, Machine, Scope, age, unexpected};
use crate::agent::order::{Order, StateCopy};

/// Above twice a state's size in memory, this is for what comes with it: names, numbers, a manifest.
const STATE_SLACK_BYTES: u64 = 64 << 20;

impl Machine {
    /// A new membership of this step. The accumulator counts, or is dropped with all older grants; a reduction among
    /// the former members ends.
    pub(super) fn form(&mut self, epoch: FormEpoch) -> Vec<Action> {
        let membership = epoch.membership.clone();
        let Some(loaded) = self.loaded(&membership) else {
            return unexpected("form epoch", &membership);
        };
        if age(&membership) <= age(&loaded.newest) || loaded.step() != Some(epoch.step) {
            return unexpected("form epoch", &membership);
        }
        loaded.newest = membership.clone();
        loaded.member = Some(membership);
        let mut actions = vec![Action::Cancel(Scope::Reduce)];
        actions.extend(loaded.stop_copying());
        if !epoch.keep {
            loaded.sum = false;
            actions.extend(loaded.void_leases());
        }
        actions.push(Action::Train(Order::Join(epoch)));
        actions
    }

    pub(super) fn restore(&mut self, restore: Restore) -> Vec<Action> {
        let Some(loaded) = self.loaded(&restore.membership) else {
            return unexpected("restore", &restore.membership);
        };
        loaded.hear(&restore.membership);
        loaded.member = None;
        loaded.sum = false;
        loaded.moves();
        let mut actions = vec![Action::Cancel(Scope::Reduce)];
        actions.extend(loaded.stop_copying());
        actions.extend(loaded.void_leases());
        actions.push(Action::Train(Order::Restore(restore)));
        actions
    }

    /// Only a worker that is no member may have its state replaced by another's.
    pub(super) fn fetch_state(&mut self, fetch: FetchState) -> Vec<Action> {
        let Some(loaded) = self.loaded(&fetch.membership) else {
            return unexpected("fetch state", &fetch.membership);
        };
        if loaded.member.is_some() {
            return unexpected("fetch state", &fetch.membership);
        }
        loaded.hear(&fetch.membership);
        let mut actions: Vec<Action> = loaded.stop_copying().into_iter().collect();
        loaded.copying = Some((fetch.membership.clone(), fetch.source));
        actions.push(Action::Copy(Copy {
            membership: fetch.membership,
            source: fetch.source,
            address: fetch.address,
            limit_bytes: 2 * loaded.state_bytes + STATE_SLACK_BYTES,
        }));
        actions
    }

    pub(super) fn copied(
        &mut self,
        membership: &Membership,
        source: WorkerId,
        found: Result<StateCopy, String>,
    ) -> Vec<Action> {
        let Some(loaded) = self.loaded(membership) else {
            return Vec::new();
        };
        let awaited = loaded.copying.as_ref();
        if awaited.is_none_or(|(asked, of)| (asked, *of) != (membership, source)) {
            return Vec::new();
        }
        loaded.copying = None;
        match found {
            Ok(copy) => {
                loaded.moves();
                vec![Action::Train(Order::Adopt {
                    membership: membership.clone(),
                    copy,
                })]
            }
            Err(message) => self.send(Event::SyncFailed(SyncFailed {
                membership: membership.clone(),
                source,
                message,
            })),
        }
    }
}
