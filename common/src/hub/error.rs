//! What can go wrong with the hub. No text of an error holds a token or a signed address.

use std::io;
use std::path::PathBuf;

/// What can go wrong with the hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// An address that cannot be the hub's.
    #[error("the hub's address {address} {problem}; correct --endpoint or HF_ENDPOINT")]
    Endpoint {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name that cannot be a repository's.
    #[error(
        "{name:?} is no repository name; write it as NAME or OWNER/NAME, of letters, digits, -, _ and ."
    )]
    Name {
        /// As it was given.
        name: String,
    },
    /// No token was found.
    #[error(
        "{problem}; give a token that may write with --token-file FILE, in HF_TOKEN, or by `huggingface-cli login`"
    )]
    NoToken {
        /// Where none was.
        problem: String,
    },
    /// A local file.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder that holds nothing to send.
    #[error("{} holds no file to send; files whose names begin with a dot are left out", .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A file that changed while it was sent.
    #[error("{path} changed while it was sent; push again once nothing writes it")]
    Changed {
        /// Its name in the repository.
        path: String,
    },
    /// TLS cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The hub refuses.
    #[error("the hub refused to {doing}: {status}{detail}; {remedy}")]
    Refused {
        /// What was asked.
        doing: String,
        /// The answer's status.
        status: u16,
        /// What it says, after a colon; empty where it says nothing.
        detail: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The hub cannot be reached, or fails, for too long.
    #[error(
        "cannot {doing}: {detail}, {attempts} attempts in {seconds:.0} s; check the network and push again, what is there is not sent twice"
    )]
    Unreachable {
        /// What was asked.
        doing: String,
        /// What the last attempt met.
        detail: String,
        /// How many there were.
        attempts: u32,
        /// How long they took.
        seconds: f64,
    },
    /// An answer that means nothing.
    #[error("the hub's answer when asked to {doing} cannot be understood: {detail}")]
    Answer {
        /// What was asked.
        doing: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Somebody would see what nobody said that they may.
    #[error(
        "the repository {repo} is public; say --public to send files there, or choose another name"
    )]
    Public {
        /// The repository.
        repo: String,
    },
}

/// What to do about a refusal, by its status.
pub(super) fn remedy(status: u16) -> &'static str {
    match status {
        401 => "the token is not valid; make one that may write on the hub's settings page",
        403 => "the token may not write there; give it write access, or choose another owner",
        404 => "there is no such repository, or the token may not see it",
        413 => "a file is too large for the hub",
        301..=308 => "the repository was moved; give its new name",
        _ => "correct what it says",
    }
}
