//! Copies the state of a member to this host.

use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use weft_common::failpoint;
use weft_proto::v1::FetchStateRequest;
use weft_proto::v1::peer_client::PeerClient;

use super::receive::Receiving;
use super::{CHUNK_WITHIN, WHOLE_WITHIN, WINDOW_BYTES};
use crate::agent::machine::Copy;
use crate::agent::order::StateCopy;
use crate::agent::session::causes;

/// How long the connection may take to be there.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// While the source is in the middle of a micro-batch, it is asked for a sign of life this often.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// Copies a state into memory.
///
/// # Errors
/// What failed, with whom.
pub(in crate::agent) async fn copy(wanted: Copy) -> Result<StateCopy, String> {
    let copied = timeout(WHOLE_WITHIN, receive(&wanted)).await;
    let copied = copied.unwrap_or_else(|_| Err(format!("not done within {WHOLE_WITHIN:?}")));
    copied.map_err(|why| {
        let Copy {
            membership,
            source,
            address,
            ..
        } = wanted;
        format!("cannot copy the state of {membership} from worker {source} at {address}: {why}")
    })
}

async fn receive(wanted: &Copy) -> Result<StateCopy, String> {
    let mut client = PeerClient::new(connect(wanted).await?);
    let request = FetchStateRequest {
        job: wanted.membership.job.to_string(),
    };
    let chunks = client.fetch_state(request).await;
    let mut chunks = chunks.map_err(|status| words(&status))?.into_inner();
    let mut receiving = Receiving::new(wanted.limit_bytes);
    // The source may be in the middle of a micro-batch: only the whole deadline is for the first piece.
    let mut within = WHOLE_WITHIN;
    loop {
        let next = timeout(within, chunks.message()).await;
        let next = next.map_err(|_| format!("nothing came for {within:?}"))?;
        match next.map_err(|status| words(&status))? {
            Some(chunk) => receiving.take(&chunk)?,
            None => break,
        }
        failpoint::hit("state-half-received");
        within = CHUNK_WITHIN;
    }
    receiving.finish()
}

async fn connect(wanted: &Copy) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{}", wanted.address));
    let endpoint = endpoint
        .map_err(|error| causes(&error))?
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(CHUNK_WITHIN)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .tcp_nodelay(true);
    endpoint.connect().await.map_err(|error| causes(&error))
}

/// What a status says: its own words, or, where the connection broke, what that was.
fn words(status: &tonic::Status) -> String {
    match status.message() {
        "" => causes(status),
        message => message.to_owned(),
    }
}
