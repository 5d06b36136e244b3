//! One all-reduce: reduce-scatter, then all-gather.

use std::ops::Range;
use std::time::Duration;

use super::super::CollectiveError;
use super::link::{Link, Links};

#[cfg(target_endian = "big")]
compile_error!(
    "integers travel as they lie in memory, and all members must agree: little-endian only"
);

/// Elements that are received before they are added: large enough that a read is worth its call, small enough to
/// stay in the second-level cache (256 KiB).
const PIECE_ELEMENTS: usize = 32 * 1024;

/// Which call this is and who makes it.
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) world: usize,
    pub(super) rank: usize,
    pub(super) hop_within: Duration,
    /// What happens when the own terms are sent and the sums are not there yet.
    pub(super) midway: fn(),
}

impl Call {
    /// The chunk that this member passes on `back` hops after it was its own.
    fn chunk(&self, back: usize, len: usize) -> Range<usize> {
        let index = (self.rank + 2 * self.world - back) % self.world;
        let bound = |i: usize| (len as u128 * i as u128 / self.world as u128) as usize;
        bound(index)..bound(index + 1)
    }
}

/// Sums `buf` over the ring.
pub(super) async fn all_reduce(
    links: &mut Links,
    call: &Call,
    buf: &mut [i64],
) -> Result<(), CollectiveError> {
    agree(links, call, buf.len()).await?;
    let mut piece = vec![0i64; PIECE_ELEMENTS.min(buf.len().div_ceil(call.world))];
    for hop in 0..call.world - 1 {
        let (send, into) = two_chunks(buf, call, hop);
        tokio::try_join!(
            links.next.send(bytemuck::cast_slice(send), call.hop_within),
            receive_and_add(&mut links.prev, into, &mut piece, call.hop_within),
        )?;
    }
    (call.midway)();
    for hop in 0..call.world - 1 {
        // Now the first chunk to pass on is the one completed last: the successor of this member's own.
        let (send, into) = two_chunks(buf, call, hop + call.world - 1);
        tokio::try_join!(
            links.next.send(bytemuck::cast_slice(send), call.hop_within),
            links
                .prev
                .receive(bytemuck::cast_slice_mut(into), call.hop_within),
        )?;
    }
    Ok(())
}

/// Both sides name their call and length before any element moves.
async fn agree(links: &mut Links, call: &Call, len: usize) -> Result<(), CollectiveError> {
    let ours = [call.number, len as u64];
    let mut theirs = [0u64; 2];
    tokio::try_join!(
        links
            .next
            .send(bytemuck::cast_slice(&ours), call.hop_within),
        links
            .prev
            .receive(bytemuck::cast_slice_mut(&mut theirs), call.hop_within),
    )?;
    if ours == theirs {
        return Ok(());
    }
    Err(CollectiveError::OutOfStep {
        rank: links.prev.peer.rank,
        address: links.prev.peer.address,
        ours: ours[0],
        theirs: theirs[0],
        our_len: ours[1],
        their_len: theirs[1],
    })
}

/// The chunk to send at `hop` and the one to receive into: neighbours in the ring, so never the same one.
fn two_chunks<'a>(buf: &'a mut [i64], call: &Call, hop: usize) -> (&'a [i64], &'a mut [i64]) {
    let send = call.chunk(hop, buf.len());
    let into = call.chunk(hop + 1, buf.len());
    if send.end <= into.start {
        let (low, high) = buf.split_at_mut(into.start);
        (&low[send], &mut high[..into.len()])
    } else {
        let (low, high) = buf.split_at_mut(send.start);
        (&high[..send.len()], &mut low[into])
    }
}

async fn receive_and_add(
    link: &mut Link,
    into: &mut [i64],
    piece: &mut [i64],
    within: Duration,
) -> Result<(), CollectiveError> {
    for sums in into.chunks_mut(piece.len().max(1)) {
        let piece = &mut piece[..sums.len()];
        link.receive(bytemuck::cast_slice_mut(piece), within)
            .await?;
        for (sum, term) in sums.iter_mut().zip(&*piece) {
            *sum = sum.wrapping_add(*term);
        }
    }
    Ok(())
}
