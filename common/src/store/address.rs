//! Where a store is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A folder or bucket, and a prefix in it, as a recipe writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///mnt/share/runs`: a folder that all machines see under the same path.
    Folder(PathBuf),
    /// `s3://bucket/prefix`.
    Bucket {
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

/// Text that is no address of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Another scheme, or none.
    #[error(
        "is neither file:// nor s3://; write file:///folder/of/all/machines or s3://bucket/prefix"
    )]
    Scheme,
    /// `file://` with something that is no absolute path.
    #[error("names no absolute folder; write three slashes, as in file:///mnt/share")]
    Folder,
    /// `s3://` without a bucket, or with one that cannot exist.
    #[error(
        "names no bucket; write s3://bucket/prefix, with a bucket of lower-case letters, digits, `-` and `.`"
    )]
    Bucket,
    /// `user:secret@` in the address.
    #[error(
        "holds credentials, which do not belong into a recipe; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Credentials,
    /// A part of the path that some store would change.
    #[error(
        "has a part that is empty, `.`, `..` or more than letters, digits, `-`, `_`, `.` and `=`; rename it"
    )]
    Part,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(StoreUrlError::Scheme)?;
        match scheme {
            "file" => folder(rest),
            "s3" => bucket(rest),
            _ => Err(StoreUrlError::Scheme),
        }
    }
}

fn folder(path: &str) -> Result<StoreUrl, StoreUrlError> {
    let path = Path::new(path);
    let whole = path.is_absolute() && path.components().count() > 1;
    let steps_back = path.components().any(|part| part.as_os_str() == "..");
    match (whole, steps_back) {
        (true, false) => Ok(StoreUrl::Folder(path.to_owned())),
        (true, true) => Err(StoreUrlError::Part),
        (false, _) => Err(StoreUrlError::Folder),
    }
}

fn bucket(rest: &str) -> Result<StoreUrl, StoreUrlError> {
    if rest.contains('@') {
        return Err(StoreUrlError::Credentials);
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let legal =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(legal) {
        return Err(StoreUrlError::Bucket);
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() && !prefix.split('/').all(is_plain_part) {
        return Err(StoreUrlError::Part);
    }
    Ok(StoreUrl::Bucket {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn is_plain_part(part: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
    !part.is_empty() && part != "." && part != ".." && part.chars().all(legal)
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_being_written() {
        for text in [
            "file:///mnt/share/runs",
            "s3://runs",
            "s3://runs/team-a/2026",
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        let slashed: StoreUrl = "s3://runs/team/".parse().unwrap();
        assert_eq!(slashed.to_string(), "s3://runs/team");
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        let refused = [
            ("/mnt/share", StoreUrlError::Scheme),
            ("gs://runs", StoreUrlError::Scheme),
            ("file://share", StoreUrlError::Folder),
            ("file:///", StoreUrlError::Folder),
            ("file:///mnt/../etc", StoreUrlError::Part),
            ("s3://", StoreUrlError::Bucket),
            ("s3://Runs", StoreUrlError::Bucket),
            ("s3://key:secret@runs", StoreUrlError::Credentials),
            ("s3://runs//a", StoreUrlError::Part),
            ("s3://runs/../a", StoreUrlError::Part),
        ];
        for (text, expected) in refused {
            assert_eq!(text.parse::<StoreUrl>(), Err(expected), "{text}");
        }
    }
}
