//! The files of a state as they arrive.

use std::path::PathBuf;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use weft_common::checkpoint::MANIFEST_FILE;
use weft_proto::v1::StateChunk;

/// A checkpoint has a handful of files.
const MOST_FILES: usize = 64;

/// Writes what arrives into a folder, one file after another, within bounds.
pub(super) struct Files {
    dir: PathBuf,
    limit_bytes: u64,
    bytes: u64,
    /// The file that grows, after those that are complete.
    names: Vec<String>,
    open: Option<File>,
}

impl Files {
    /// Nothing yet, for the empty folder `dir`.
    pub(super) fn new(dir: PathBuf, limit_bytes: u64) -> Self {
        Self {
            dir,
            limit_bytes,
            bytes: 0,
            names: Vec::new(),
            open: None,
        }
    }

    /// Takes the next piece.
    pub(super) async fn take(&mut self, chunk: &StateChunk) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(chunk.data.len() as u64);
        if self.bytes > self.limit_bytes {
            return Err(format!(
                "it is larger than {} bytes, the most that a state of this job can have",
                self.limit_bytes
            ));
        }
        if self.names.last() != Some(&chunk.file) {
            self.begin(&chunk.file).await?;
        }
        match &mut self.open {
            Some(file) => file.write_all(&chunk.data).await.map_err(text),
            None => Err(format!("no file {:?} is open", chunk.file)),
        }
    }

    /// All has come: the manifest is there, and nothing came after it.
    pub(super) async fn finish(mut self) -> Result<(), String> {
        self.complete().await?;
        match self.names.last() {
            Some(last) if last == MANIFEST_FILE => Ok(()),
            Some(_) | None => Err(format!(
                "it ended after {} files, before {MANIFEST_FILE}",
                self.names.len()
            )),
        }
    }

    async fn begin(&mut self, name: &str) -> Result<(), String> {
        if !is_plain(name) {
            return Err(format!("{name:?} is no plain file name"));
        }
        if self
            .names
            .iter()
            .any(|known| known == name || known == MANIFEST_FILE)
        {
            return Err(format!("{name} comes out of order"));
        }
        if self.names.len() == MOST_FILES {
            return Err(format!("it has more than {MOST_FILES} files"));
        }
        self.complete().await?;
        let path = self.dir.join(name);
        let file = File::create_new(&path).await;
        self.open = Some(file.map_err(|error| format!("{}: {error}", path.display()))?);
        self.names.push(name.to_owned());
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), String> {
        match self.open.take() {
            Some(mut file) => file.flush().await.map_err(text),
            None => Ok(()),
        }
    }
}

/// Letters, digits, `-`, `_` and `.`, which does not come first: such a name stays in its folder.
fn is_plain(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(legal)
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}
