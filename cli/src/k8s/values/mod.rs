//! What options of `weft k8s` hold, read from text: each says what it takes where it is given something else.

mod names;
mod quantity;
mod scheduling;
mod workers;

pub(super) use names::{Image, Name, Namespace, ObjectName};
pub(super) use quantity::{Quantity, Resources};
pub(super) use scheduling::{NodeLabel, PullPolicy, Toleration, gpu_resource};
pub(super) use workers::WorkerCount;
