//! Whether a coordinator answers.

use weft_proto::v1::ListWorkersRequest;

use super::connect::{About, ConnectArgs, CoordinatorUrl};
use crate::exit::Failure;

/// What a coordinator says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its version of weft.
    pub(crate) version: String,
    /// Workers that it has.
    pub(crate) workers: usize,
}

/// Asks the coordinator at `url`.
///
/// # Errors
/// Nobody answers there.
pub(crate) fn ask(url: &CoordinatorUrl) -> Result<Answer, Failure> {
    super::block_on(async {
        let connection = ConnectArgs::to(url.clone()).open().await?;
        let mut client = connection.client.clone();
        let call = client.list_workers(ListWorkersRequest {});
        let reply = connection.answer(About::Everything, call).await?;
        Ok(Answer {
            version: reply.weft_version,
            workers: reply.workers.len(),
        })
    })
}
