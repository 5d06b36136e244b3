//! Sums integers over the members of an epoch.
//!
//! [`Collective`] is the contract. [`Local`] is one worker alone, [`Ring`] is TCP between workers, and [`nccl`] puts sums
//! of GPU memory beside a ring. Sums are of integers, so every implementation gives the same bits for any number of members
//! and any order of addition.
//!
//! A collective lives for one epoch. Its first error ends it: the next epoch forms a fresh one.

mod cancel;
mod error;
mod local;
pub mod nccl;
mod ring;

use weft_common::id::Rank;

pub use cancel::Cancel;
pub use error::{CollectiveError, Refusal};
pub use local::Local;
pub use nccl::{GpuLink, GpuSums};
pub use ring::{Neighbours, Ring, RingKey, RingListener, RingPlan};

/// All-reduce among the members of one epoch.
pub trait Collective: Send {
    /// How many members there are.
    fn world(&self) -> u32;

    /// This member's position among them.
    fn rank(&self) -> Rank;

    /// Replaces `buf` with the element-wise sum over all members; every member passes the same length and makes the
    /// same sequence of calls.
    ///
    /// Addition wraps; whoever fills the buffers bounds them so that it never does (see
    /// [`fixed_point`](crate::train::fixed_point)).
    ///
    /// # Errors
    /// On any error the contents of `buf` are unspecified and the collective is of no further use.
    fn all_reduce_sum(&mut self, buf: &mut [i64], cancel: &Cancel) -> Result<(), CollectiveError>;

    /// Where members' GPUs sum among themselves, what does that; every member has it then, and uses it for the same sums.
    fn on_gpus(&mut self) -> Option<&mut dyn GpuSums> {
        None
    }
}
