//! A simulation of the control plane: the coordinator's and the workers' real state machines, on a network, disks and
//! processes that are not there. One seed decides everything that happens, so that what goes wrong can be seen again.
//!
//! Faults come first: processes are killed, stopped and restarted, connections cut, links blocked in one direction or
//! both, checkpoints fail, the coordinator dies between its effects. Then everything is healed, and the job must come to
//! its end with the same bits as if nothing had happened. [`invariants`] holds what must never break on the way.
//!
//! The arithmetic is a stand-in: a gradient is a hash of state and rows, sums wrap, an update hashes the sum into the
//! state. Any slot that counts twice, or not at all, leaves another state for ever.

mod arithmetic;
mod coordinator;
mod disk;
mod faults;
pub mod invariants;
mod job;
pub mod net;
mod network;
mod process;
mod rng;
mod setup;
mod trainer;
mod world;

pub use faults::{Bite, Fault, Flip, Planted};
pub use setup::Setup;
pub use world::{Report, run};
