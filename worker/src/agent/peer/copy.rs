//! Copies the state of a member to this host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use weft_common::failpoint;
use weft_proto::v1::FetchStateRequest;
use weft_proto::v1::peer_client::PeerClient;

use super::files::Files;
use super::{CHUNK_WITHIN, WHOLE_WITHIN, temporary};
use crate::agent::machine::Copy;
use crate::agent::order::StateCopy;
use crate::agent::session::causes;

/// How long the connection may take to be there.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// While the source writes its state, it is asked for a sign of life this often.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// Copies a state into a temporary folder below `cache_dir`, which goes with the result.
///
/// # Errors
/// What failed, with whom. Nothing is left then.
pub(in crate::agent) async fn copy(wanted: Copy, cache_dir: PathBuf) -> Result<StateCopy, String> {
    let copied = timeout(WHOLE_WITHIN, receive(&wanted, &cache_dir)).await;
    let copied = copied.unwrap_or_else(|_| Err(format!("not done within {WHOLE_WITHIN:?}")));
    copied.map(StateCopy::temporary).map_err(|why| {
        let Copy {
            membership,
            source,
            address,
            ..
        } = wanted;
        format!("cannot copy the state of {membership} from worker {source} at {address}: {why}")
    })
}

async fn receive(wanted: &Copy, cache_dir: &Path) -> Result<TempDir, String> {
    let mut client = PeerClient::new(connect(wanted).await?);
    let request = FetchStateRequest {
        job: wanted.membership.job.to_string(),
    };
    let chunks = client.fetch_state(request).await;
    let mut chunks = chunks.map_err(|status| words(&status))?.into_inner();
    let folder = temporary(cache_dir)
        .map_err(|error| format!("no temporary folder in {}: {error}", cache_dir.display()))?;
    let mut files = Files::new(folder.path().to_owned(), wanted.limit_bytes);
    // The source may be in the middle of a micro-batch, and writes its state before it sends it: only the whole
    // deadline is for the first piece.
    let mut within = WHOLE_WITHIN;
    loop {
        let next = timeout(within, chunks.message()).await;
        let next = next.map_err(|_| format!("nothing came for {within:?}"))?;
        match next.map_err(|status| words(&status))? {
            Some(chunk) => files.take(&chunk).await?,
            None => break,
        }
        failpoint::hit("state-half-received");
        within = CHUNK_WITHIN;
    }
    files.finish().await?;
    Ok(folder)
}

async fn connect(wanted: &Copy) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{}", wanted.address));
    let endpoint = endpoint
        .map_err(|error| causes(&error))?
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(CHUNK_WITHIN)
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
