//! A folder that counts only once its manifest is there.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::StorageError;
use super::atomic::{create_folder, folder_of, sync_folder, write_atomic, write_atomic_with};
use crate::id::Digest;

/// A file as a manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the folder; no path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Digest of its content.
    pub sha256: Digest,
}

impl FileEntry {
    /// Describes a file that is there. **Cost**: reads it whole.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(folder: &Path, name: &str) -> Result<Self, StorageError> {
        let path = folder.join(name);
        let read = || -> io::Result<(u64, Digest)> {
            let mut file = fs::File::open(&path)?;
            let mut hash = sha2::Sha256::new();
            let mut buffer = vec![0; 1 << 20];
            let mut size = 0;
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    return Ok((size, Digest(hash.finalize().into())));
                }
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        };
        let (size, sha256) = read().map_err(StorageError::wrap("read", &path))?;
        Ok(Self {
            name: name.to_owned(),
            size,
            sha256,
        })
    }

    /// Whether the name stays inside the folder.
    #[must_use]
    pub fn has_plain_name(&self) -> bool {
        is_plain(&self.name)
    }
}

fn is_plain(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(legal)
}

/// Fills a folder file by file and finishes it with its manifest. Dropped before [`finish`](Self::finish), it takes
/// the folder away again as far as it can; what is left has no manifest and counts as absent.
#[derive(Debug)]
pub struct FolderWriter {
    folder: PathBuf,
    manifest: &'static str,
    files: Vec<FileEntry>,
    finished: bool,
}

impl FolderWriter {
    /// Starts over with an empty folder. What lies there from before is removed, its manifest first.
    ///
    /// # Errors
    /// If the folder cannot be emptied or created.
    pub fn create(folder: &Path, manifest: &'static str) -> Result<Self, StorageError> {
        remove_folder(folder, manifest)?;
        create_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            files: Vec::new(),
            finished: false,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Adds a file, its size and digest taken on the way.
    ///
    /// # Errors
    /// If `write` fails or the disk does not take it.
    ///
    /// # Panics
    /// If `name` is not a plain file name of ASCII letters, digits, `-`, `_` and `.`: names are the program's own.
    pub fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        assert!(is_plain(name), "`{name}` is no plain file name");
        let mut entry = None;
        write_atomic_with(&self.folder.join(name), |writer| {
            let mut counted = Counted::new(writer);
            write(&mut counted)?;
            entry = Some(counted.entry(name));
            Ok(())
        })?;
        self.files.extend(entry);
        Ok(())
    }

    /// What has been added, in this order.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Writes the manifest: from now on the folder counts.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn finish(mut self, manifest: &[u8]) -> Result<(), StorageError> {
        write_atomic(&self.folder.join(self.manifest), manifest)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a failure here, and nothing needs to be: without a manifest it is absent.
            let _ = remove_folder(&self.folder, self.manifest);
        }
    }
}

/// Moves a finished folder to its place. What lies there goes, unless it is `whole`: then the finished folder goes, because
/// somebody else was quicker.
pub(crate) fn move_folder(
    finished: &Path,
    place: &Path,
    manifest: &str,
    whole: impl FnOnce() -> bool,
) -> Result<(), StorageError> {
    match fs::rename(finished, place) {
        Ok(()) => return sync_folder(folder_of(place)),
        Err(error) if !is_occupied(&error) => {
            return Err(StorageError::new("create", place, error));
        }
        Err(_) => {}
    }
    if whole() {
        return remove_folder(finished, manifest);
    }
    remove_folder(place, manifest)?;
    fs::rename(finished, place).map_err(StorageError::wrap("create", place))?;
    sync_folder(folder_of(place))
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
    )
}

/// Removes a folder with its content, its manifest first, so that half-removed is the same as absent.
pub(crate) fn remove_folder(folder: &Path, manifest: &str) -> Result<(), StorageError> {
    match fs::remove_file(folder.join(manifest)) {
        Ok(()) => sync_folder(folder)?,
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(StorageError::new("remove", &folder.join(manifest), error)),
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::new("remove", folder, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The file is not there, or not even its folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Counts and digests what goes through.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    size: u64,
    hash: sha2::Sha256,
}

impl<'a> Counted<'a> {
    fn new(inner: &'a mut dyn Write) -> Self {
        Self {
            inner,
            size: 0,
            hash: sha2::Sha256::new(),
        }
    }

    fn entry(self, name: &str) -> FileEntry {
        FileEntry {
            name: name.to_owned(),
            size: self.size,
            sha256: Digest(self.hash.finalize().into()),
        }
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "MANIFEST.json";

    #[test]
    fn the_manifest_is_the_last_file_and_entries_describe_the_others() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("50");
        let mut writer = FolderWriter::create(&folder, MANIFEST).unwrap();
        writer
            .add("state.json", |file| file.write_all(b"{}"))
            .unwrap();
        assert!(!folder.join(MANIFEST).exists());
        assert_eq!(
            writer.files(),
            [FileEntry::of(&folder, "state.json").unwrap()]
        );
        assert_eq!(writer.files()[0].sha256, Digest::of(b"{}"));
        writer.finish(b"manifest").unwrap();
        assert_eq!(fs::read(folder.join(MANIFEST)).unwrap(), b"manifest");
    }

    #[test]
    fn a_folder_that_is_not_finished_is_taken_away() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("50");
        let mut writer = FolderWriter::create(&folder, MANIFEST).unwrap();
        writer.add("a", |file| file.write_all(b"a")).unwrap();
        assert!(
            writer
                .add("b", |_| Err(io::ErrorKind::StorageFull.into()))
                .is_err()
        );
        drop(writer);
        assert!(!folder.exists());
    }

    #[test]
    fn a_finished_folder_takes_the_place_of_a_ruin_and_gives_way_to_one_that_is_whole() {
        let parent = tempfile::tempdir().unwrap();
        let (finished, place) = (parent.path().join("beside"), parent.path().join("50"));
        let put = |text: &str, whole: bool| {
            let writer = FolderWriter::create(&finished, MANIFEST).unwrap();
            writer.finish(text.as_bytes()).unwrap();
            move_folder(&finished, &place, MANIFEST, || whole).unwrap();
            assert!(!finished.exists());
            fs::read_to_string(place.join(MANIFEST)).unwrap()
        };
        assert_eq!(put("first", false), "first");
        assert_eq!(put("second", false), "second");
        assert_eq!(put("third", true), "second");
    }

    #[test]
    fn a_folder_that_somebody_took_away_leaves_the_one_in_its_place_alone() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("50");
        let writer = FolderWriter::create(&place, MANIFEST).unwrap();
        writer.finish(b"there").unwrap();
        let gone = move_folder(&parent.path().join("gone"), &place, MANIFEST, || false);
        assert!(gone.is_err());
        assert_eq!(fs::read(place.join(MANIFEST)).unwrap(), b"there");
    }

    #[test]
    fn what_lay_there_before_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("50");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(MANIFEST), "old").unwrap();
        fs::write(folder.join("stale"), "old").unwrap();
        let writer = FolderWriter::create(&folder, MANIFEST).unwrap();
        assert_eq!(fs::read_dir(writer.path()).unwrap().count(), 0);
    }
}
