//! The files of a folder, as a repository names them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use sha2::{Digest as _, Sha256};

use super::HubError;

/// What of a file's beginning the hub looks at to tell text from binaries.
const SAMPLE: usize = 512;
/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// A file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Its name in the repository, with `/` between folders.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

impl LocalFile {
    /// The files below `folder` in the order of their names, without those of which any part begins with a dot. Links to
    /// files are followed, links to folders are not.
    ///
    /// # Errors
    /// There are none, or the folder cannot be read.
    pub fn below(folder: &Path) -> Result<Vec<Self>, HubError> {
        let mut files = Vec::new();
        walk(folder, "", &mut files)?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if files.is_empty() {
            return Err(HubError::Empty {
                path: folder.to_owned(),
            });
        }
        Ok(files)
    }

    pub(super) fn failed(&self, source: io::Error) -> HubError {
        HubError::File {
            path: self.path.clone(),
            source,
        }
    }

    /// Its beginning.
    pub(super) fn sample(&self) -> Result<Vec<u8>, HubError> {
        let mut sample = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(SAMPLE as u64).read_to_end(&mut sample))
            .map_err(|error| self.failed(error))?;
        Ok(sample)
    }

    /// All of it.
    pub(super) fn content(&self) -> Result<Vec<u8>, HubError> {
        fs::read(&self.path).map_err(|error| self.failed(error))
    }

    /// Its SHA-256 in hexadecimal. Cost: one pass over the file.
    pub(super) fn sha256(&self) -> Result<String, HubError> {
        let mut hash = Sha256::new();
        let bytes = self.each_block(&mut |block| hash.update(block))?;
        if bytes != self.size {
            return Err(HubError::Changed {
                path: self.name.clone(),
            });
        }
        Ok(hex::encode(hash.finalize()))
    }

    fn each_block(&self, take: &mut dyn FnMut(&[u8])) -> Result<u64, HubError> {
        let mut file = File::open(&self.path).map_err(|error| self.failed(error))?;
        let mut block = vec![0; BLOCK];
        let mut bytes = 0;
        loop {
            match file.read(&mut block) {
                Ok(0) => return Ok(bytes),
                Ok(read) => {
                    take(&block[..read]);
                    bytes += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }
}

/// What Git calls a file of this content.
pub(super) fn git_blob_id(content: &[u8]) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(format!("blob {}\0", content.len()).as_bytes());
    hash.update(content);
    hex::encode(hash.finish())
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<LocalFile>) -> Result<(), HubError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| HubError::File { path, source }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|name| {
            let problem = format!("the name {} is not UTF-8", name.display());
            failed(folder)(io::Error::new(io::ErrorKind::InvalidData, problem))
        })?;
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(failed(&path))?;
        if kind.is_dir() {
            walk(&path, &format!("{prefix}{name}/"), files)?;
            continue;
        }
        let metadata = fs::metadata(&path).map_err(failed(&path))?;
        if metadata.is_file() {
            files.push(LocalFile {
                name: format!("{prefix}{name}"),
                path,
                size: metadata.len(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_names_of_a_repository_and_hidden_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/.git")).unwrap();
        for name in ["b/z.txt", "a.txt", ".secret", "b/.git/config"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let files = LocalFile::below(folder.path()).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.txt", "b/z.txt"]);
        let empty = LocalFile::below(&folder.path().join("b/.git/none")).unwrap_err();
        assert!(matches!(empty, HubError::File { .. }), "{empty}");
    }

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        assert_eq!(
            git_blob_id(b"hello\n"),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "hello\n").unwrap();
        let file = &LocalFile::below(folder.path()).unwrap()[0];
        assert_eq!(
            file.sha256().unwrap(),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
    }
}
