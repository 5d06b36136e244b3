//! Identifiers. Each is a type of its own, so that a step cannot be passed where a slot is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number that follows.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// An optimizer step. The first one is 0; "step 3 is committed" means that four updates were applied.
    Step(u64)
);
number!(
    /// A micro-batch within its step, in plan order from 0.
    SlotId(u32)
);
number!(
    /// Generation of the job's membership; grows by one whenever the set of members changes.
    Epoch(u64)
);
number!(
    /// Incarnation of the coordinator; a message of an older term is refused.
    Term(u64)
);
number!(
    /// A grant of one slot to one worker, never used twice within a term.
    LeaseId(u64)
);
number!(
    /// Position of a member within its epoch, from 0.
    Rank(u32)
);

/// One job. Names folders, so it holds only ASCII letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    /// A fresh id, ordered by creation time.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("job-{}", uuid::Uuid::now_v7().simple()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 64 || !text.chars().all(legal) {
            return Err(IdError {
                kind: "job",
                text: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

/// One start of one worker process: a UUIDv7, so that a restarted worker is never mistaken for its former self.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(uuid::Uuid);

impl WorkerId {
    /// A fresh id for this process start.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// An id made from a number, for tests and simulations that must be repeatable.
    #[must_use]
    pub const fn from_number(number: u128) -> Self {
        Self(uuid::Uuid::from_u128(number))
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WorkerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError {
            kind: "worker",
            text: text.to_owned(),
        })
    }
}

/// SHA-256 of some content, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", &hex::encode(self.0)[..12])
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError {
            kind: "digest",
            text: text.to_owned(),
        };
        let bytes = hex::decode(text).map_err(|_| refused())?;
        bytes.try_into().map(Self).map_err(|_| refused())
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        let refused = || IdError {
            kind: "digest",
            text: hex::encode(bytes),
        };
        bytes.try_into().map(Self).map_err(|_| refused())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Text that is not an identifier of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind} id")]
pub struct IdError {
    kind: &'static str,
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_that_could_leave_its_folder_is_refused() {
        for text in ["", "../x", "a/b", "a b"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
        assert_eq!("job-1_a".parse::<JobId>().unwrap().as_str(), "job-1_a");
    }

    #[test]
    fn a_digest_survives_text_and_json() {
        let digest = Digest::of(b"weft");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }
}
