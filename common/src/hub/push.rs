//! A folder to the hub, in one commit.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use super::client::{Call, HubClient, Payload};
use super::lfs::{self, LargeFile};
use super::local::git_blob_id;
use super::wire::{
    CommitAnswer, CommitLine, CreateRepo, Preupload, PreuploadAnswer, PreuploadFile,
    PreuploadedFile, RepoInfo, UploadMode, Whoami,
};
use super::{Endpoint, HubError, HubLimits, LocalFile, RepoName, Token};

/// Files of one question which of them are large.
const PREUPLOAD: usize = 256;

/// Who may see a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Its owner. A public repository that is there already is refused.
    #[default]
    Private,
    /// Everybody. A private repository that is there already stays private.
    Public,
}

/// What is to be pushed.
#[derive(Debug)]
pub struct PushRequest<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The repository; of the token's user where no owner is named.
    pub repo: &'a RepoName,
    /// Who may see it, where it is made.
    pub visibility: Visibility,
    /// The commit's message.
    pub message: &'a str,
    /// The hub.
    pub endpoint: Endpoint,
    /// Who pushes.
    pub token: Token,
    /// How long the hub may take.
    pub limits: HubLimits,
}

/// What happens meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushEvent<'a> {
    /// The repository is there.
    Repository {
        /// Its owner and name.
        name: &'a str,
        /// Whether it was made now.
        created: bool,
        /// Whether only its owner sees it.
        private: bool,
    },
    /// A file is there as it is.
    Present {
        /// Its name.
        name: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// A large file begins.
    Sending {
        /// Its name.
        name: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// So many bytes of it are there.
    Sent {
        /// Bytes.
        bytes: u64,
    },
}

/// Hears what happens.
pub(super) type Events<'a> = &'a (dyn Fn(PushEvent<'_>) + Send + Sync);

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Owner and name of the repository.
    pub repo: String,
    /// The commit and its page; `None` where all files were there.
    pub commit: Option<(String, String)>,
    /// Bytes that were sent, regular files included.
    pub sent_bytes: u64,
    /// Files that the commit names.
    pub files: usize,
    /// Files that were there as they are.
    pub unchanged: usize,
}

/// A file of the commit.
enum Change {
    Regular(LocalFile, Vec<u8>),
    Large(LargeFile),
}

/// Pushes a folder. What is there already is not sent again, so a push that failed can be repeated.
///
/// # Errors
/// The local files', the hub's refusal, or that it cannot be reached for longer than the limits say. Nothing is committed
/// then.
pub async fn push(
    request: PushRequest<'_>,
    events: &(dyn Fn(PushEvent<'_>) + Send + Sync),
) -> Result<Pushed, HubError> {
    let files = LocalFile::below(request.folder)?;
    let client = HubClient::new(request.endpoint, request.token, request.limits)?;
    let repo = full_name(&client, request.repo).await?;
    let created = create(&client, request.repo, request.visibility).await?;
    let private = is_private(&client, &repo).await?;
    if !private && request.visibility == Visibility::Private {
        return Err(HubError::Public { repo });
    }
    events(PushEvent::Repository {
        name: &repo,
        created,
        private,
    });
    let total = files.len();
    let changes = changes(&client, &repo, files, events).await?;
    let large: Vec<LargeFile> = changes.iter().filter_map(Change::large).cloned().collect();
    let sent = lfs::send(&client, &repo, &large, events).await?;
    let mut pushed = Pushed {
        repo,
        commit: None,
        sent_bytes: sent,
        files: changes.len(),
        unchanged: total - changes.len(),
    };
    if !changes.is_empty() {
        pushed.sent_bytes += changes.iter().map(Change::regular_bytes).sum::<u64>();
        pushed.commit = Some(commit(&client, &pushed.repo, request.message, &changes).await?);
    }
    Ok(pushed)
}

impl Change {
    fn large(&self) -> Option<&LargeFile> {
        match self {
            Self::Large(file) => Some(file),
            Self::Regular(..) => None,
        }
    }

    fn regular_bytes(&self) -> u64 {
        match self {
            Self::Large(_) => 0,
            Self::Regular(_, content) => content.len() as u64,
        }
    }

    fn line(&self) -> CommitLine<'_> {
        match self {
            Self::Regular(file, content) => CommitLine::File {
                content: STANDARD.encode(content),
                path: &file.name,
                encoding: "base64",
            },
            Self::Large(LargeFile { file, oid }) => CommitLine::LfsFile {
                path: &file.name,
                algo: "sha256",
                oid,
                size: file.size,
            },
        }
    }
}

/// `OWNER/NAME`.
async fn full_name(client: &HubClient, repo: &RepoName) -> Result<String, HubError> {
    if let Some(owner) = &repo.owner {
        return Ok(format!("{owner}/{}", repo.name));
    }
    let call = Call::get(
        "ask whose token this is",
        client.endpoint().at("api/whoami-v2"),
    );
    let whoami: Whoami = client.ask(&call).await?;
    Ok(format!("{}/{}", whoami.name, repo.name))
}

/// Makes the repository; gives whether it was not there.
async fn create(
    client: &HubClient,
    repo: &RepoName,
    visibility: Visibility,
) -> Result<bool, HubError> {
    let body = CreateRepo {
        kind: "model",
        name: &repo.name,
        organization: repo.owner.as_deref(),
        private: visibility == Visibility::Private,
    };
    let address = client.endpoint().at("api/repos/create");
    let call = Call::post(format!("make the repository {}", repo.name), address, &body)?;
    // Who may not make repositories may still write to one that is there.
    let answer = client.call(&call, &[403, 409]).await?;
    Ok(answer.status < 300)
}

async fn is_private(client: &HubClient, repo: &str) -> Result<bool, HubError> {
    let address = client.endpoint().at(&format!("api/models/{repo}"));
    let call = Call::get(format!("look at the repository {repo}"), address);
    let info: RepoInfo = client.ask(&call).await?;
    Ok(info.private)
}

/// The files that are not there as they are.
async fn changes(
    client: &HubClient,
    repo: &str,
    files: Vec<LocalFile>,
    events: Events<'_>,
) -> Result<Vec<Change>, HubError> {
    let mut changes = Vec::new();
    for chunk in files.chunks(PREUPLOAD) {
        let answers = preupload(client, repo, chunk).await?;
        for file in chunk {
            let answer = answers.iter().find(|answer| answer.path == file.name);
            let answer = answer.ok_or_else(|| HubError::Answer {
                doing: "ask which files are large".to_owned(),
                detail: format!("it leaves out {}", file.name),
            })?;
            match change(file, answer).await? {
                Some(change) => changes.push(change),
                None => events(PushEvent::Present {
                    name: &file.name,
                    bytes: file.size,
                }),
            }
        }
    }
    Ok(changes)
}

async fn preupload(
    client: &HubClient,
    repo: &str,
    files: &[LocalFile],
) -> Result<Vec<PreuploadedFile>, HubError> {
    let file = |file: &LocalFile| {
        Ok(PreuploadFile {
            path: file.name.clone(),
            sample: STANDARD.encode(file.sample()?),
            size: file.size,
        })
    };
    let files: Result<_, HubError> = files.iter().map(file).collect();
    let address = format!("api/models/{repo}/preupload/main");
    let address = client.endpoint().at(&address);
    let body = Preupload { files: files? };
    let call = Call::post("ask which files are large", address, &body)?;
    let answer: PreuploadAnswer = client.ask(&call).await?;
    Ok(answer.files)
}

/// What is to be done about a file; nothing where the hub has it, or its repository ignores it.
async fn change(file: &LocalFile, answer: &PreuploadedFile) -> Result<Option<Change>, HubError> {
    if answer.should_ignore {
        return Ok(None);
    }
    let there = |id: &str| answer.oid.as_deref() == Some(id);
    // The store of large files takes no empty ones.
    if answer.upload_mode == UploadMode::Regular || file.size == 0 {
        let content = file.content()?;
        let same = there(&git_blob_id(&content));
        return Ok((!same).then(|| Change::Regular(file.clone(), content)));
    }
    let hashed = file.clone();
    let oid = tokio::task::spawn_blocking(move || hashed.sha256()).await;
    let oid = oid.map_err(|error| file.failed(std::io::Error::other(error)))??;
    let same = there(&oid);
    let file = file.clone();
    Ok((!same).then_some(Change::Large(LargeFile { file, oid })))
}

/// Commits all changes at once; gives the commit and its page.
async fn commit(
    client: &HubClient,
    repo: &str,
    message: &str,
    changes: &[Change],
) -> Result<(String, String), HubError> {
    let header = CommitLine::Header {
        summary: message,
        description: "",
    };
    let doing = format!("commit to {repo}");
    let mut body = Vec::new();
    for line in std::iter::once(header).chain(changes.iter().map(Change::line)) {
        serde_json::to_writer(&mut body, &line).map_err(|error| HubError::Answer {
            doing: doing.clone(),
            detail: error.to_string(),
        })?;
        body.push(b'\n');
    }
    let address = client
        .endpoint()
        .at(&format!("api/models/{repo}/commit/main"));
    let call = Call {
        doing,
        method: Method::POST,
        address,
        content_type: "application/x-ndjson",
        payload: Payload::Bytes(body.into()),
    };
    let answer: CommitAnswer = client.ask(&call).await?;
    Ok((answer.commit_oid, answer.commit_url))
}
