//! Whether all members can sum over NCCL: each offers what it has, and all come to the same answer.

use std::fmt;

use super::{GpuId, GpuLink};
use crate::cuda::nccl::Version;

/// Integers of an offer on its way.
pub(super) const WORDS: usize = 4;

/// What a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// It sums in host memory.
    NoGpu,
    /// A GPU, but no library.
    NoNccl,
    /// A GPU on which NCCL failed before.
    Failed,
    /// All that is needed.
    Able { version: u32, gpu: GpuId },
}

impl Offer {
    pub(super) fn of(link: Option<&GpuLink>) -> Self {
        let Some(link) = link else {
            return Self::NoGpu;
        };
        match link.nccl() {
            None => Self::NoNccl,
            Some(_) if link.has_failed() => Self::Failed,
            Some(nccl) => Self::Able {
                version: nccl.version().number(),
                gpu: link.gpu(),
            },
        }
    }

    pub(super) fn words(self) -> [i64; WORDS] {
        match self {
            Self::NoGpu => [0; WORDS],
            Self::NoNccl => [1, 0, 0, 0],
            Self::Failed => [2, 0, 0, 0],
            Self::Able { version, gpu } => {
                let [low, high] = [0, 8]
                    .map(|at| i64::from_le_bytes(std::array::from_fn(|byte| gpu.0[at + byte])));
                [3, i64::from(version), low, high]
            }
        }
    }

    pub(super) fn from_words(words: [i64; WORDS]) -> Self {
        let [kind, version, low, high] = words;
        match (kind, u32::try_from(version)) {
            (1, _) => Self::NoNccl,
            (2, _) => Self::Failed,
            (3, Ok(version)) => {
                let halves = [low.to_le_bytes(), high.to_le_bytes()];
                Self::Able {
                    version,
                    gpu: GpuId(std::array::from_fn(|at| halves[at / 8][at % 8])),
                }
            }
            // Members are of one version of weft, so that nothing else comes.
            _ => Self::NoGpu,
        }
    }
}

/// Why members do not sum over NCCL; ranks are the first that it holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    NoGpu {
        rank: usize,
    },
    NoNccl {
        rank: usize,
    },
    Failed {
        rank: usize,
    },
    Versions {
        ranks: [usize; 2],
        versions: [u32; 2],
    },
    OneGpu {
        ranks: [usize; 2],
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGpu { rank } => write!(f, "the worker of rank {rank} computes on no GPU"),
            Self::NoNccl { rank } => write!(
                f,
                "the worker of rank {rank} finds no NCCL; `weft doctor` there says what to install"
            ),
            Self::Failed { rank } => write!(
                f,
                "NCCL failed before in the worker of rank {rank}, whose log says why; start it again to try again"
            ),
            Self::Versions {
                ranks: [first, other],
                versions,
            } => {
                let [of_first, of_other] = versions.map(Version::from_number);
                write!(
                    f,
                    "the worker of rank {first} has NCCL {of_first}, that of rank {other} {of_other}; install one version \
                     everywhere"
                )
            }
            Self::OneGpu {
                ranks: [first, other],
            } => write!(
                f,
                "the workers of ranks {first} and {other} share a GPU, which NCCL does not do; give each its own"
            ),
        }
    }
}

/// What stands in the way, if members have these by rank. Nothing to tell of where no member has a GPU.
pub(super) fn obstacle(offers: &[Offer]) -> Option<Obstacle> {
    let mut able: Vec<(u32, GpuId)> = Vec::new();
    for (rank, offer) in offers.iter().enumerate() {
        let (version, gpu) = match *offer {
            Offer::NoGpu => return Some(Obstacle::NoGpu { rank }),
            Offer::NoNccl => return Some(Obstacle::NoNccl { rank }),
            Offer::Failed => return Some(Obstacle::Failed { rank }),
            Offer::Able { version, gpu } => (version, gpu),
        };
        if let Some(&(first, _)) = able.first()
            && first != version
        {
            return Some(Obstacle::Versions {
                ranks: [0, rank],
                versions: [first, version],
            });
        }
        if let Some(other) = able.iter().position(|&(_, other)| other == gpu) {
            return Some(Obstacle::OneGpu {
                ranks: [other, rank],
            });
        }
        able.push((version, gpu));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able(version: u32, gpu: u8) -> Offer {
        Offer::Able {
            version,
            gpu: GpuId([gpu; 16]),
        }
    }

    fn said(offers: &[Offer]) -> String {
        obstacle(offers).map_or_else(String::new, |obstacle| obstacle.to_string())
    }

    #[test]
    fn offers_survive_their_way() {
        let odd = GpuId(std::array::from_fn(|at| 250 - at as u8));
        let offers = [
            Offer::NoGpu,
            Offer::NoNccl,
            Offer::Failed,
            Offer::Able {
                version: 23_203,
                gpu: odd,
            },
        ];
        for offer in offers {
            assert_eq!(Offer::from_words(offer.words()), offer);
        }
    }

    #[test]
    fn members_with_one_version_and_a_gpu_each_use_nccl() {
        assert_eq!(
            said(&[able(22_809, 1), able(22_809, 2), able(22_809, 3)]),
            ""
        );
    }

    #[test]
    fn who_cannot_is_named() {
        let first = able(22_809, 1);
        for (other, part) in [
            (Offer::NoGpu, "rank 1 computes on no GPU"),
            (Offer::NoNccl, "rank 1 finds no NCCL"),
            (Offer::Failed, "failed before in the worker of rank 1"),
            (
                able(22_707, 2),
                "rank 0 has NCCL 2.28.9, that of rank 1 2.27.7",
            ),
            (able(22_809, 1), "ranks 0 and 1 share a GPU"),
        ] {
            let said = said(&[first, other, able(22_809, 3)]);
            assert!(said.contains(part), "{said}");
        }
    }
}
