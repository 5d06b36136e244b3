//! The first bytes on a connection: who calls, and whether it is let in.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_common::id::{Digest, Epoch, Rank, Term};

use super::super::Refusal;
use super::RingKey;

const MAGIC: [u8; 8] = *b"weftring";
const VERSION: u32 = 2;
const HELLO_BYTES: usize = 8 + 4 + 32 + 8 + 8 + 4 + 4;
const ANSWER_BYTES: usize = 8 + 4 + 8 + 8;

/// A member as it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    job: Digest,
    term: Term,
    epoch: Epoch,
    rank: Rank,
    world: u32,
}

impl Hello {
    pub(super) fn new(key: &RingKey, rank: Rank, world: u32) -> Self {
        Self {
            job: Digest::of(key.job.as_str().as_bytes()),
            term: key.term,
            epoch: key.epoch,
            rank,
            world,
        }
    }

    fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..44].copy_from_slice(&self.job.0);
        bytes[44..52].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[52..60].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.rank.0.to_le_bytes());
        bytes[64..].copy_from_slice(&self.world.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<Self> {
        let known = bytes[..8] == MAGIC && u32_at(bytes, 8) == VERSION;
        known.then(|| Self {
            job: Digest(std::array::from_fn(|i| bytes[12 + i])),
            term: Term(u64_at(bytes, 44)),
            epoch: Epoch(u64_at(bytes, 52)),
            rank: Rank(u32_at(bytes, 60)),
            world: u32_at(bytes, 64),
        })
    }

    /// Whether `caller` is who `self` waits for.
    fn admit(&self, caller: Option<&Self>) -> Result<(), Refusal> {
        let caller = caller.ok_or(Refusal::Stranger)?;
        let (theirs, ours) = ((caller.term, caller.epoch), (self.term, self.epoch));
        if caller.job != self.job {
            Err(Refusal::OtherJob)
        } else if theirs < ours {
            Err(Refusal::StaleEpoch(self.term, self.epoch))
        } else if theirs > ours {
            Err(Refusal::FutureEpoch(self.term, self.epoch))
        } else if caller != self {
            Err(Refusal::WrongPlace)
        } else {
            Ok(())
        }
    }
}

/// The dialling side: introduces itself and hears the verdict.
pub(super) async fn introduce(
    stream: &mut TcpStream,
    hello: &Hello,
) -> std::io::Result<Result<(), Refusal>> {
    stream.write_all(&hello.encode()).await?;
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await?;
    Ok(decode_answer(&answer))
}

/// The accepting side: hears who calls and answers. `expected` is how the predecessor must introduce itself.
pub(super) async fn receive(
    stream: &mut TcpStream,
    expected: &Hello,
) -> std::io::Result<Result<(), Refusal>> {
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello).await?;
    let verdict = expected.admit(Hello::decode(&hello).as_ref());
    stream.write_all(&encode_answer(verdict)).await?;
    Ok(verdict)
}

fn encode_answer(verdict: Result<(), Refusal>) -> [u8; ANSWER_BYTES] {
    let none = (Term(0), Epoch(0));
    let (code, (term, epoch)) = match verdict {
        Ok(()) => (0u32, none),
        Err(Refusal::Stranger) => (1, none),
        Err(Refusal::OtherJob) => (2, none),
        Err(Refusal::StaleEpoch(term, epoch)) => (3, (term, epoch)),
        Err(Refusal::FutureEpoch(term, epoch)) => (4, (term, epoch)),
        Err(Refusal::WrongPlace) => (5, none),
    };
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&code.to_le_bytes());
    bytes[12..20].copy_from_slice(&term.0.to_le_bytes());
    bytes[20..].copy_from_slice(&epoch.0.to_le_bytes());
    bytes
}

fn decode_answer(bytes: &[u8; ANSWER_BYTES]) -> Result<(), Refusal> {
    if bytes[..8] != MAGIC {
        return Err(Refusal::Stranger);
    }
    let (term, epoch) = (Term(u64_at(bytes, 12)), Epoch(u64_at(bytes, 20)));
    match u32_at(bytes, 8) {
        0 => Ok(()),
        2 => Err(Refusal::OtherJob),
        3 => Err(Refusal::StaleEpoch(term, epoch)),
        4 => Err(Refusal::FutureEpoch(term, epoch)),
        5 => Err(Refusal::WrongPlace),
        _ => Err(Refusal::Stranger),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(job: &str, (term, epoch): (u64, u64), rank: u32, world: u32) -> Hello {
        let key = RingKey {
            job: job.parse().unwrap(),
            term: Term(term),
            epoch: Epoch(epoch),
        };
        Hello::new(&key, Rank(rank), world)
    }

    #[test]
    fn only_the_expected_predecessor_is_admitted() {
        let expected = hello("job-a", (2, 4), 1, 3);
        let verdict = |caller: &Hello| expected.admit(Hello::decode(&caller.encode()).as_ref());

        assert_eq!(verdict(&expected), Ok(()));
        assert_eq!(
            verdict(&hello("job-b", (2, 4), 1, 3)),
            Err(Refusal::OtherJob)
        );
        assert_eq!(
            verdict(&hello("job-a", (2, 3), 1, 3)),
            Err(Refusal::StaleEpoch(Term(2), Epoch(4)))
        );
        assert_eq!(
            verdict(&hello("job-a", (2, 5), 1, 3)),
            Err(Refusal::FutureEpoch(Term(2), Epoch(4)))
        );
        assert_eq!(
            verdict(&hello("job-a", (1, 4), 1, 3)),
            Err(Refusal::StaleEpoch(Term(2), Epoch(4))),
            "the same epoch of an earlier coordinator"
        );
        assert_eq!(
            verdict(&hello("job-a", (3, 1), 1, 3)),
            Err(Refusal::FutureEpoch(Term(2), Epoch(4)))
        );
        assert_eq!(
            verdict(&hello("job-a", (2, 4), 2, 3)),
            Err(Refusal::WrongPlace)
        );
        assert_eq!(
            verdict(&hello("job-a", (2, 4), 1, 4)),
            Err(Refusal::WrongPlace)
        );
    }

    #[test]
    fn another_protocol_or_version_is_a_stranger() {
        let expected = hello("job-a", (2, 4), 1, 3);
        for position in 0..12 {
            let mut bytes = expected.encode();
            bytes[position] ^= 1;
            assert_eq!(
                expected.admit(Hello::decode(&bytes).as_ref()),
                Err(Refusal::Stranger)
            );
        }
    }

    #[test]
    fn answers_survive_the_wire() {
        let verdicts = [
            Ok(()),
            Err(Refusal::Stranger),
            Err(Refusal::OtherJob),
            Err(Refusal::StaleEpoch(Term(7), Epoch(u64::MAX))),
            Err(Refusal::FutureEpoch(Term(u64::MAX), Epoch(3))),
            Err(Refusal::WrongPlace),
        ];
        for verdict in verdicts {
            assert_eq!(decode_answer(&encode_answer(verdict)), verdict);
        }
    }
}
