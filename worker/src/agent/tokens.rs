//! What ends the training thread's work from outside.

use super::machine::Scope;
use super::order::Order;
use crate::collective::Cancel;

/// The handles that an order is queued with. Raised ones are replaced, so that later orders are not affected.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    /// Everything of the job in hand.
    pub(super) job: Cancel,
    /// Micro-batches that are not staged.
    pub(super) slots: Cancel,
    /// Micro-batches that are.
    pub(super) staged: Cancel,
    /// Reductions.
    pub(super) reduce: Cancel,
}

impl Tokens {
    /// What ends this order.
    pub(super) fn of(&self, order: &Order) -> &Cancel {
        match order {
            Order::Compute { slot, .. } if slot.staged => &self.staged,
            Order::Compute { .. } => &self.slots,
            Order::Reduce(_) => &self.reduce,
            Order::Load(_)
            | Order::Describe(_)
            | Order::Settle(_)
            | Order::Restore(_)
            | Order::Adopt { .. }
            | Order::Join(_)
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Apply { .. }
            | Order::Snapshot(_)
            | Order::Unload => &self.job,
        }
    }

    /// Ends what was queued with these tokens, as far as it is of this kind.
    pub(super) fn cancel(&mut self, scope: Scope) {
        match scope {
            Scope::Slots => renew(&mut self.slots),
            Scope::Staged => renew(&mut self.staged),
            Scope::Reduce => renew(&mut self.reduce),
            Scope::Copy => {}
            Scope::Job => {
                let all = [
                    &mut self.job,
                    &mut self.slots,
                    &mut self.staged,
                    &mut self.reduce,
                ];
                all.into_iter().for_each(renew);
            }
        }
    }
}

fn renew(token: &mut Cancel) {
    std::mem::take(token).cancel();
}
