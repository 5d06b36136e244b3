//! The gRPC services. They check what comes in, and send it to the driver.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

mod control;
mod fetch;
mod workers;

pub(crate) use control::ControlService;
pub(crate) use workers::WorkersService;

use tonic::Status;

/// The driver is gone.
fn stopped() -> Status {
    Status::unavailable("the coordinator is shutting down")
}

/// Does what blocks its thread on one of those that may be blocked.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::internal(format!("a query ended early: {error}")))
}
