//! The term fence: of several coordinators of one job only the newest goes on.
//!
//! Every coordinator that starts claims a term of its own by creating an object that nobody else can create as well. One
//! that finds a newer term must not commit any more.

use serde::{Deserialize, Serialize};

use super::client::{Created, Creation, Store};
use super::error::StoreError;
use crate::id::{JobId, Term};

/// Claims that are tried before the store is taken for broken: each lost one means that somebody else won.
const CLAIMS: u32 = 64;

/// What a claim holds, for people; the nonce tells two claims of the same process apart.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    term: Term,
    nonce: String,
}

/// Why a term could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others were faster every time.
    #[error(
        "no term of job {job} could be claimed in {CLAIMS} attempts; look for coordinators of this job that start over and over"
    )]
    Contended {
        /// The job.
        job: JobId,
    },
    /// A newer coordinator has started.
    #[error(
        "term {ours} of job {job} has ended: a coordinator of term {newest} has taken over; stop this one"
    )]
    Superseded {
        /// The job.
        job: JobId,
        /// The caller's term.
        ours: Term,
        /// The newest.
        newest: Term,
    },
}

/// Claims the next term of a job. No two calls ever get the same one, and later calls get later ones.
///
/// # Errors
/// If the store does not answer, or others claim without end.
pub fn claim_term(store: &Store, job: &JobId) -> Result<Term, FenceError> {
    let creation = store.creation()?;
    let nonce = uuid::Uuid::now_v7().simple().to_string();
    let mut term = next(store, job)?;
    for _ in 0..CLAIMS {
        let claim = Claim {
            term,
            nonce: nonce.clone(),
        };
        let bytes = serde_json::to_vec(&claim).expect("a claim is a number and text");
        let won = match creation {
            Creation::Conditional => store.create(&name(job, term), &bytes)? == Created::Ours,
            Creation::Unconditional => claim_by_name(store, job, &claim, &bytes)?,
        };
        if won {
            return Ok(term);
        }
        term = next(store, job)?.max(term.next());
    }
    Err(FenceError::Contended { job: job.clone() })
}

/// Writes a claim under a name of its own and looks who else did. One that sees another gives up, so that of two at most
/// one goes on: whichever wrote second sees the first.
fn claim_by_name(
    store: &Store,
    job: &JobId,
    claim: &Claim,
    bytes: &[u8],
) -> Result<bool, StoreError> {
    let name = format!("{}.{}", name(job, claim.term), claim.nonce);
    store.put(&name, bytes)?;
    let rivals = terms(store, job)?
        .into_iter()
        .filter(|term| *term >= claim.term);
    Ok(rivals.count() == 1)
}

/// The newest term that was ever claimed; `None` where no coordinator has started.
///
/// # Errors
/// If the store does not answer.
pub fn newest_term(store: &Store, job: &JobId) -> Result<Option<Term>, StoreError> {
    Ok(terms(store, job)?.into_iter().max())
}

/// Makes sure that no newer coordinator has started. For a coordinator that was out of touch, before it commits again.
///
/// # Errors
/// [`FenceError::Superseded`] where one has; the caller must stop. Where the store does not answer, nothing is known.
pub fn still_newest(store: &Store, job: &JobId, ours: Term) -> Result<(), FenceError> {
    match newest_term(store, job)? {
        Some(newest) if newest > ours => Err(FenceError::Superseded {
            job: job.clone(),
            ours,
            newest,
        }),
        Some(_) | None => Ok(()),
    }
}

fn next(store: &Store, job: &JobId) -> Result<Term, StoreError> {
    Ok(newest_term(store, job)?.unwrap_or_default().next())
}

fn terms(store: &Store, job: &JobId) -> Result<Vec<Term>, StoreError> {
    let objects = store.list(&format!("{job}/terms"))?;
    Ok(objects
        .iter()
        .filter_map(|object| term_of(&object.name))
        .collect())
}

fn name(job: &JobId, term: Term) -> String {
    format!("{job}/terms/{:010}", term.0)
}

/// The term of `0000000001` or `0000000001.nonce`.
fn term_of(name: &str) -> Option<Term> {
    let digits = name.split('.').next()?;
    (digits.len() == 10).then(|| digits.parse().ok().map(Term))?
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::testing::folder_store;

    fn job() -> JobId {
        "job-1".parse().unwrap()
    }

    #[test]
    fn terms_rise_and_the_older_coordinator_finds_out() {
        let (_folder, store) = folder_store();
        assert_eq!(newest_term(&store, &job()).unwrap(), None);
        let first = claim_term(&store, &job()).unwrap();
        still_newest(&store, &job(), first).unwrap();
        let second = claim_term(&store, &job()).unwrap();
        assert_eq!((first, second), (Term(1), Term(2)));
        let stopped = still_newest(&store, &job(), first).unwrap_err();
        assert!(
            stopped.to_string().contains("term 2 has taken over"),
            "{stopped}"
        );
        still_newest(&store, &job(), second).unwrap();
        assert_eq!(newest_term(&store, &job()).unwrap(), Some(second));
    }

    #[test]
    fn sixteen_claims_at_once_get_sixteen_terms() {
        let (_folder, store) = folder_store();
        let claims: Vec<Term> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| claim_term(&store, &job()).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let distinct: BTreeSet<Term> = claims.iter().copied().collect();
        assert_eq!(distinct.len(), 16, "{claims:?}");
    }
}
