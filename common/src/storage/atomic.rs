//! One file, complete or absent.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::StorageError;

/// Writes `bytes` to `path` so that after a crash at any moment either the old or the new content is there, whole.
/// When it returns, the new content survives a loss of power.
///
/// # Errors
/// If the folder cannot be written to or the disk is full; `path` is then as before.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    write_atomic_with(path, |writer| writer.write_all(bytes))
}

/// As [`write_atomic`], with the content written by `write` through a buffer.
///
/// # Errors
/// If `write` fails, the folder cannot be written to or the disk is full; `path` is then as before.
pub fn write_atomic_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), StorageError> {
    let folder = folder_of(path);
    put_in_place(path, folder, write).map_err(StorageError::wrap("write", path))?;
    sync_folder(folder)
}

fn put_in_place(
    path: &Path,
    folder: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file: the umask takes away what others may not do.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    // Dropping it before `persist` removes the file.
    let mut temporary = builder.tempfile_in(folder)?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

/// Creates a folder and those above it, and makes sure that they survive a loss of power.
///
/// # Errors
/// If a folder on the way cannot be created.
pub fn create_folder(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = folder_of(path);
    create_folder(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StorageError::new("create", path, error))
        }
        Err(_) if !path.is_dir() => Err(StorageError::new(
            "create",
            path,
            io::ErrorKind::NotADirectory.into(),
        )),
        Ok(()) | Err(_) => sync_folder(parent),
    }
}

/// Makes sure that names created, renamed or removed in `folder` survive a loss of power.
///
/// # Errors
/// If the folder cannot be opened or its device fails.
pub fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    // Only Unix can open a folder to sync it; elsewhere the rename is durable on its own.
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(StorageError::wrap("sync", folder))?;
    }
    Ok(())
}

/// The folder of `path`; a bare name lies in the current one.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::super::StorageFault;
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_new_content_replaces_the_old_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["state.json"]);
    }

    #[test]
    fn a_writer_that_fails_half_way_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomic(&path, b"old").unwrap();
        let refused = write_atomic_with(&path, |writer| {
            writer.write_all(&[0; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let error = refused.unwrap_err();
        assert_eq!((error.fault, &error.path), (StorageFault::DiskFull, &path));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["state.json"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("state.json");
        let error = write_atomic(&path, b"").unwrap_err();
        assert_eq!(error.fault, StorageFault::Missing);
        assert!(error.to_string().contains("absent/state.json"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomic(&ours, b"").unwrap();
        fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn folders_are_created_all_the_way_and_a_file_in_the_way_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        create_folder(&deep).unwrap();
        create_folder(&deep).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        let error = create_folder(&deep.join("file")).unwrap_err();
        assert_eq!(error.fault, StorageFault::WrongKind);
    }
}
