//! What the stand-in holds.

use std::collections::BTreeMap;

/// Repositories, and what is stored for them.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) hub: String,
    pub(super) storage: String,
    pub(super) repos: BTreeMap<String, Repo>,
    /// Large files by SHA-256.
    pub(super) objects: BTreeMap<String, Vec<u8>>,
    /// Parts that came, by SHA-256 and number.
    pub(super) parts: BTreeMap<(String, u64), Vec<u8>>,
}

#[derive(Debug, Default)]
pub(super) struct Repo {
    pub(super) private: bool,
    pub(super) files: BTreeMap<String, Stored>,
    pub(super) commits: Vec<String>,
}

/// A committed file.
#[derive(Debug)]
pub(super) enum Stored {
    Regular(Vec<u8>),
    /// By SHA-256.
    Large(String),
}

impl State {
    pub(super) fn new(hub: &str, storage: &str) -> Self {
        Self {
            hub: hub.to_owned(),
            storage: storage.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn make(&mut self, repo: &str, private: bool) -> bool {
        if self.repos.contains_key(repo) {
            return false;
        }
        let made = Repo {
            private,
            ..Repo::default()
        };
        self.repos.insert(repo.to_owned(), made);
        true
    }

    pub(super) fn is_private(&self, repo: &str) -> Option<bool> {
        self.repos.get(repo).map(|repo| repo.private)
    }

    pub(super) fn file(&self, repo: &str, path: &str) -> Option<Vec<u8>> {
        match self.repos.get(repo)?.files.get(path)? {
            Stored::Regular(content) => Some(content.clone()),
            Stored::Large(oid) => self.objects.get(oid).cloned(),
        }
    }

    pub(super) fn commits(&self, repo: &str) -> Vec<String> {
        self.repos
            .get(repo)
            .map_or_else(Vec::new, |repo| repo.commits.clone())
    }
}
