//! The Hugging Face hub, as far as a folder goes there: its API and Git LFS.
//!
//! ```text
//! create repository ─▶ preupload: which files are large, which are there ─▶ LFS batch ─▶ PUT, in parts ─▶ verify
//!                                                                                   commit, as NDJSON ◀─┘
//! ```
//!
//! Large files are stored by their SHA-256 before anything is committed, so that a push that was cut off sends nothing twice.
//! The token goes to the hub alone, never to the storage that uploads are sent to.

mod client;
mod endpoint;
mod error;
mod lfs;
mod limits;
mod local;
mod push;
mod token;
mod wire;

pub use endpoint::{DEFAULT_ENDPOINT, Endpoint, RepoName};
pub use error::HubError;
pub use limits::HubLimits;
pub use local::LocalFile;
pub use push::{PushEvent, PushRequest, Pushed, Visibility, push};
pub use token::Token;
