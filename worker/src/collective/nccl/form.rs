//! From a ring to sums over NCCL, where all members can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::agreement::{Offer, WORDS, obstacle};
use super::communicator::{Communicator, Seat, Watch};
use super::sums::BesideRing;
use super::{Deadlines, GpuLink};
use crate::collective::{Cancel, Collective, CollectiveError, Neighbours, Ring};
use crate::cuda::nccl::{ID_WORDS, Nccl, UniqueId};

/// What members say of their attempt, by how much it says of whose NCCL is at fault.
const FORMED: i64 = 0;
/// Others may be why.
const STALLED: i64 = 1;
const FAILED: i64 = 2;

/// Sums over NCCL beside `ring` where every member can, else over the ring alone; one of them says why. Members of one ring
/// all call this, with what of GPUs they have.
///
/// # Errors
/// Those of the ring: a member that is lost, a deadline, cancellation.
pub fn form(
    mut ring: Ring,
    link: Option<&GpuLink>,
    deadlines: Deadlines,
    cancel: &Cancel,
) -> Result<Box<dyn Collective>, CollectiveError> {
    let (start, patience) = (Instant::now(), (deadlines.ring, cancel));
    let Some((link, nccl)) = agreed(&mut ring, link, patience)? else {
        return Ok(Box::new(ring));
    };
    let Some(id) = hand_round_id(&mut ring, (link, nccl), patience)? else {
        return Ok(Box::new(ring));
    };
    let seat = Seat {
        id,
        rank: ring.rank().0,
        world: ring.world(),
    };
    match all_formed(&mut ring, seat, (link, nccl), (deadlines, cancel))? {
        Some((communicator, neighbours)) => {
            let seconds = start.elapsed().as_secs_f64();
            info!(library = %nccl, world = seat.world, seconds, "gradients are summed over NCCL");
            let communicator = communicator.ends(link.aside());
            Ok(Box::new(BesideRing::new(ring, communicator, neighbours)))
        }
        None => Ok(Box::new(ring)),
    }
}

/// This member's GPU and library, where all members have what is needed.
fn agreed<'a>(
    ring: &mut Ring,
    link: Option<&'a GpuLink>,
    patience: (Duration, &Cancel),
) -> Result<Option<(&'a GpuLink, &'a Arc<Nccl>)>, CollectiveError> {
    let own = Offer::of(link).words();
    let offers = gather::<WORDS>(ring, own, patience)?;
    let offers: Vec<Offer> = offers.into_iter().map(Offer::from_words).collect();
    match obstacle(&offers) {
        None => Ok(link.and_then(|link| Some((link, link.nccl()?)))),
        Some(obstacle) => {
            let some_gpu = offers.iter().any(|offer| *offer != Offer::NoGpu);
            if some_gpu && ring.rank().0 == 0 {
                warn!("gradients go through host memory and TCP, not over NCCL: {obstacle}");
            }
            Ok(None)
        }
    }
}

/// The id of a communicator, made by rank 0; nothing where that fails.
fn hand_round_id(
    ring: &mut Ring,
    (link, nccl): (&GpuLink, &Arc<Nccl>),
    (within, cancel): (Duration, &Cancel),
) -> Result<Option<UniqueId>, CollectiveError> {
    let mut words = [0; ID_WORDS + 1];
    if ring.rank().0 == 0 {
        match nccl.unique_id() {
            Ok(id) => {
                words[..ID_WORDS].copy_from_slice(&id.words());
                words[ID_WORDS] = 1;
            }
            Err(said) => give_up(
                link,
                &CollectiveError::Nccl {
                    doing: "making an id for a communicator of NCCL",
                    said,
                    library: nccl.to_string(),
                },
            ),
        }
    }
    ring.agree(&mut words, within, cancel)?;
    let (id, made) = words.split_at(ID_WORDS);
    let id: [i64; ID_WORDS] = std::array::from_fn(|word| id[word]);
    Ok((made == [1]).then(|| UniqueId::from_words(&id)))
}

/// Forms the communicator, and hears whether all members have.
fn all_formed(
    ring: &mut Ring,
    seat: Seat,
    (link, nccl): (&GpuLink, &Arc<Nccl>),
    (deadlines, cancel): (Deadlines, &Cancel),
) -> Result<Option<(Communicator, Neighbours)>, CollectiveError> {
    let neighbours = ring.neighbours()?;
    let watch = Watch {
        cancel,
        neighbours: Some(&neighbours),
    };
    let formed = Communicator::form((nccl, link.stream()), seat, deadlines, &watch);
    let (own, formed) = match formed {
        Ok(communicator) => (FORMED, Ok(communicator)),
        Err(error @ CollectiveError::NcclStalled { .. }) => (STALLED, Err(error)),
        Err(error @ (CollectiveError::Nccl { .. } | CollectiveError::Gpu { .. })) => {
            (FAILED, Err(error))
        }
        Err(error) => return Err(error),
    };
    // The slowest member ends its attempt when its deadline does, and then aborts it.
    let patience = deadlines.nccl + deadlines.abort + deadlines.ring;
    let outcomes = gather(ring, [own], (patience, cancel))?;
    let worst = outcomes.iter().copied().flatten().max();
    let worst = worst.unwrap_or(FORMED);
    match formed {
        Ok(communicator) if worst == FORMED => Ok(Some((communicator, neighbours))),
        Ok(_) => {
            let rank = outcomes.iter().position(|[outcome]| *outcome == worst);
            info!(
                rank,
                "gradients go through host memory and TCP: NCCL failed in another worker, whose log says why"
            );
            Ok(None)
        }
        Err(error) if own == worst => {
            give_up(link, &error);
            Ok(None)
        }
        Err(error) => {
            info!(%error, "gradients go through host memory and TCP: NCCL failed in another worker too");
            Ok(None)
        }
    }
}

/// NCCL is not tried again in this process.
fn give_up(link: &GpuLink, error: &CollectiveError) {
    link.give_up();
    warn!(
        %error,
        "gradients go through host memory and TCP from now on; start this worker again to try NCCL again"
    );
}

/// What every member has, by rank.
fn gather<const N: usize>(
    ring: &mut Ring,
    own: [i64; N],
    (within, cancel): (Duration, &Cancel),
) -> Result<Vec<[i64; N]>, CollectiveError> {
    let (rank, world) = (ring.rank().0 as usize, ring.world() as usize);
    let mut words = vec![0; N * world];
    words[rank * N..][..N].copy_from_slice(&own);
    ring.agree(&mut words, within, cancel)?;
    let (members, _) = words.as_chunks::<N>();
    Ok(members.to_vec())
}
