//! The term fence: of several coordinators of one job only the newest goes on.
//!
//! Every coordinator that starts claims its term by creating an object that nobody else can create as well. One that finds
//! a newer term must not commit any more.

use serde::{Deserialize, Serialize};

use super::client::{Created, Creation, Store};
use super::error::StoreError;
use crate::id::{JobId, Term};

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
    /// A coordinator of this term or a newer one has started.
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

/// Claims `term` of a job. No two calls ever get the same one, and none gets one that is older than another's.
///
/// # Errors
/// [`FenceError::Superseded`] where this term or a newer one is claimed, or the store does not answer.
pub fn claim(store: &Store, job: &JobId, term: Term) -> Result<(), FenceError> {
    let superseded = |newest| FenceError::Superseded {
        job: job.clone(),
        ours: term,
        newest,
    };
    let creation = store.creation()?;
    if let Some(newest) = newest_term(store, job)?.filter(|newest| *newest >= term) {
        return Err(superseded(newest));
    }
    let claim = Claim {
        term,
        nonce: uuid::Uuid::now_v7().simple().to_string(),
    };
    let bytes = serde_json::to_vec(&claim).expect("a claim is a number and text");
    let won = match creation {
        Creation::Conditional => store.create(&name(job, term), &bytes)? == Created::Ours,
        Creation::Unconditional => claim_by_name(store, job, &claim, &bytes)?,
    };
    if won {
        return Ok(());
    }
    Err(superseded(newest_term(store, job)?.unwrap_or(term)))
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

/// Makes sure that no newer coordinator has started.
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
    use super::*;
    use crate::store::testing::folder_store;

    fn job() -> JobId {
        "job-1".parse().unwrap()
    }

    #[test]
    fn terms_rise_and_the_older_coordinator_finds_out() {
        let (_folder, store) = folder_store();
        assert_eq!(newest_term(&store, &job()).unwrap(), None);
        claim(&store, &job(), Term(3)).unwrap();
        still_newest(&store, &job(), Term(3)).unwrap();
        claim(&store, &job(), Term(5)).unwrap();
        let stopped = still_newest(&store, &job(), Term(3)).unwrap_err();
        assert!(
            stopped.to_string().contains("term 5 has taken over"),
            "{stopped}"
        );
        still_newest(&store, &job(), Term(5)).unwrap();
        for taken in [Term(4), Term(5)] {
            let refused = claim(&store, &job(), taken).unwrap_err();
            assert!(
                matches!(refused, FenceError::Superseded { .. }),
                "{refused}"
            );
        }
        assert_eq!(newest_term(&store, &job()).unwrap(), Some(Term(5)));
    }

    #[test]
    fn of_sixteen_that_claim_one_term_at_once_one_gets_it() {
        let (_folder, store) = folder_store();
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| claim(&store, &job(), Term(1)).is_ok()))
                .collect();
            let each = threads.into_iter().map(|thread| thread.join().unwrap());
            each.filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }
}
