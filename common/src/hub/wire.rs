//! What is said to the hub and what it answers. Names are the hub's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /api/whoami-v2`.
#[derive(Debug, Deserialize)]
pub(super) struct Whoami {
    pub(super) name: String,
}

/// `POST /api/repos/create`.
#[derive(Debug, Serialize)]
pub(super) struct CreateRepo<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) organization: Option<&'a str>,
    pub(super) private: bool,
}

/// `GET /api/models/REPO`.
#[derive(Debug, Deserialize)]
pub(super) struct RepoInfo {
    #[serde(default)]
    pub(super) private: bool,
}

/// `POST /api/models/REPO/preupload/main`.
#[derive(Debug, Serialize)]
pub(super) struct Preupload {
    pub(super) files: Vec<PreuploadFile>,
}

#[derive(Debug, Serialize)]
pub(super) struct PreuploadFile {
    pub(super) path: String,
    /// The file's beginning in Base64.
    pub(super) sample: String,
    pub(super) size: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct PreuploadAnswer {
    pub(super) files: Vec<PreuploadedFile>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreuploadedFile {
    pub(super) path: String,
    pub(super) upload_mode: UploadMode,
    #[serde(default)]
    pub(super) should_ignore: bool,
    /// What is there under that name: Git's id of a regular file, SHA-256 of a large one.
    #[serde(default)]
    pub(super) oid: Option<String>,
}

/// How a file goes into the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum UploadMode {
    /// In the commit itself.
    Regular,
    /// To the store of large files first.
    Lfs,
}

/// `POST /REPO.git/info/lfs/objects/batch`.
#[derive(Debug, Serialize)]
pub(super) struct Batch<'a> {
    pub(super) operation: &'static str,
    pub(super) transfers: [&'static str; 2],
    pub(super) objects: Vec<Object<'a>>,
    pub(super) hash_algo: &'static str,
    #[serde(rename = "ref")]
    pub(super) reference: Reference<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct Object<'a> {
    pub(super) oid: &'a str,
    pub(super) size: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Reference<'a> {
    pub(super) name: &'a str,
}

#[derive(Debug, Deserialize)]
pub(super) struct BatchAnswer {
    pub(super) objects: Vec<BatchObject>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BatchObject {
    pub(super) oid: String,
    /// None where the object is there.
    pub(super) actions: Option<Actions>,
    pub(super) error: Option<ObjectError>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ObjectError {
    pub(super) code: u16,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Actions {
    pub(super) upload: Option<Action>,
    pub(super) verify: Option<Action>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Action {
    pub(super) href: String,
    /// With `chunk_size`, numbers of parts and their addresses.
    #[serde(default)]
    pub(super) header: Option<BTreeMap<String, serde_json::Value>>,
}

/// Ends an upload in parts.
#[derive(Debug, Serialize)]
pub(super) struct Completion<'a> {
    pub(super) oid: &'a str,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part {
    pub(super) part_number: usize,
    pub(super) etag: String,
}

/// A line of `POST /api/models/REPO/commit/main`.
#[derive(Debug, Serialize)]
#[serde(tag = "key", content = "value", rename_all = "camelCase")]
pub(super) enum CommitLine<'a> {
    Header {
        summary: &'a str,
        description: &'a str,
    },
    File {
        content: String,
        path: &'a str,
        encoding: &'static str,
    },
    LfsFile {
        path: &'a str,
        algo: &'static str,
        oid: &'a str,
        size: u64,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommitAnswer {
    pub(super) commit_url: String,
    pub(super) commit_oid: String,
}

/// How the hub says what is wrong.
#[derive(Debug, Deserialize)]
pub(super) struct Complaint {
    pub(super) error: String,
}
