//! Why a store did not do what it was asked, and what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

/// Characters of a store's own words that are shown.
const SHOWN: usize = 300;

/// A failed access to a store.
#[derive(Debug)]
pub struct StoreError {
    /// What was tried: a verb such as `write`.
    pub doing: &'static str,
    /// With which object or prefix, as an address.
    pub at: String,
    /// Why it failed.
    pub fault: StoreFault,
    /// How often it was tried.
    pub attempts: u32,
    /// How long, in all.
    pub took: Duration,
    /// What the store or the system said, shortened.
    pub detail: String,
}

/// The kinds of failure that have a remedy of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// There is no such bucket, folder or object.
    Missing,
    /// The credentials do not allow it, or the folder belongs to someone else.
    Denied,
    /// Nobody said who asks.
    NoCredentials,
    /// The disk or quota behind it is used up.
    Full,
    /// It cannot be written to.
    ReadOnly,
    /// Nothing answers at its address.
    Unreachable,
    /// It does not answer in time.
    Slow,
    /// It answers with errors.
    Failing,
    /// The connection broke, or less came than was announced.
    Broken,
    /// What came is not what was written.
    Damaged,
    /// It does not know the operation.
    Unsupported,
    /// The address or the settings in the environment make no sense.
    Settings,
    /// A file of this machine could not be read or written.
    Local,
}

impl StoreFault {
    /// Whether another attempt may succeed by itself.
    pub(super) const fn passes(self) -> bool {
        match self {
            Self::Unreachable | Self::Slow | Self::Failing | Self::Broken | Self::Damaged => true,
            Self::Missing
            | Self::Denied
            | Self::NoCredentials
            | Self::Full
            | Self::ReadOnly
            | Self::Unsupported
            | Self::Settings
            | Self::Local => false,
        }
    }

    /// What an error of the library means.
    pub(super) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Self::Missing,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied,
            E::NotImplemented { .. } | E::NotSupported { .. } => Self::Unsupported,
            E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => Self::Settings,
            // The library's type may grow; whatever it is, the store did not do what it was asked.
            _ => Self::of_chain(error),
        }
    }

    /// Looks for the cause below the library's own words.
    fn of_chain(error: &object_store::Error) -> Self {
        let text = error.to_string();
        // The library keeps the status to itself.
        if text.contains("status code: 501") {
            return Self::Unsupported;
        }
        // Where the environment holds no key, the library asks the cloud's own machine-local service for one.
        if text.contains("169.254.") {
            return Self::NoCredentials;
        }
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        let mut fault = Self::Failing;
        while let Some(error) = cause {
            if let Some(http) = error.downcast_ref::<HttpError>() {
                fault = Self::of_http(http.kind());
            } else if let Some(io) = error.downcast_ref::<io::Error>()
                && let Some(found) = Self::of_io(io.kind())
            {
                return found;
            }
            cause = error.source();
        }
        fault
    }

    const fn of_http(kind: HttpErrorKind) -> Self {
        match kind {
            HttpErrorKind::Connect => Self::Unreachable,
            HttpErrorKind::Timeout => Self::Slow,
            // The library's type may grow.
            _ => Self::Broken,
        }
    }

    /// What a system's error means, where it says more than that something failed.
    pub(super) const fn of_io(kind: io::ErrorKind) -> Option<Self> {
        use io::ErrorKind as Kind;
        match kind {
            Kind::StorageFull | Kind::QuotaExceeded => Some(Self::Full),
            Kind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            Kind::PermissionDenied => Some(Self::Denied),
            Kind::NotFound | Kind::NotADirectory => Some(Self::Missing),
            Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable => {
                Some(Self::Unreachable)
            }
            _ => None,
        }
    }
}

impl StoreError {
    /// Whether only this object is the problem, so that another may be fine.
    #[must_use]
    pub const fn is_of_the_object(&self) -> bool {
        match self.fault {
            StoreFault::Missing | StoreFault::Damaged => true,
            StoreFault::Denied
            | StoreFault::NoCredentials
            | StoreFault::Full
            | StoreFault::ReadOnly
            | StoreFault::Unreachable
            | StoreFault::Slow
            | StoreFault::Failing
            | StoreFault::Broken
            | StoreFault::Unsupported
            | StoreFault::Settings
            | StoreFault::Local => false,
        }
    }
}

/// The first part of what was said, on one line.
pub(super) fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.at, self.fault)?;
        if self.attempts > 1 {
            let seconds = self.took.as_secs_f64();
            write!(f, " (tried {} times in {seconds:.0} s)", self.attempts)?;
        }
        if self.detail.is_empty() {
            return Ok(());
        }
        write!(f, " [{}]", self.detail)
    }
}

impl Error for StoreError {}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no such bucket, folder or object; check training.storage",
            Self::Denied => "permission denied; check the credentials and the bucket's policy, or the folder's owner",
            Self::NoCredentials => "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
            Self::Full => "the storage is full or its quota used up; make room there",
            Self::ReadOnly => "the storage is read-only; mount it writable or choose another in training.storage",
            Self::Unreachable => "nothing answers there; check the network and AWS_ENDPOINT_URL",
            Self::Slow => "no answer in time; check the network and the store",
            Self::Failing => "the store answers with errors; see its own logs",
            Self::Broken => "the connection broke off; check the network",
            Self::Damaged => "what came is not what was written; check the store, and the network between",
            Self::Unsupported => "the store does not know this operation; choose another in training.storage",
            Self::Settings => "the address or the AWS_ settings of the environment make no sense; correct what is named",
            Self::Local => "a file of this machine cannot be read or written; see the cause",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_place_remedy_and_attempts() {
        let error = StoreError {
            doing: "write",
            at: "s3://runs/job-1/terms/0000000001".to_owned(),
            fault: StoreFault::Failing,
            attempts: 5,
            took: Duration::from_secs(61),
            detail: shortened("status\n 500"),
        };
        assert_eq!(
            error.to_string(),
            "cannot write s3://runs/job-1/terms/0000000001: the store answers with errors; see its own logs \
             (tried 5 times in 61 s) [status 500]"
        );
    }

    #[test]
    fn a_full_disk_is_found_below_the_librarys_own_words() {
        let error = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        assert_eq!(StoreFault::of(&error), StoreFault::Full);
    }

    #[test]
    fn long_words_of_a_store_are_shortened() {
        assert_eq!(shortened(&"é".repeat(400)).chars().count(), SHOWN + 1);
    }
}
