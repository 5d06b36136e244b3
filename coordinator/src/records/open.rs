//! Opens the records of a state folder, whatever state they are in.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::watch;
use tracing::warn;
use weft_common::storage::create_folder;

use super::error::RecordsError;
use super::files::JobFiles;
use super::inbox::Inbox;
use super::schema::{self, Found};
use super::writer::Writer;
use super::{OpenRecords, Records, jobs, rebuild};
use crate::clock::unix_ms;

/// The database and what SQLite keeps beside it.
const NAMES: [&str; 3] = ["records.db", "records.db-wal", "records.db-shm"];

pub(super) fn open(state_dir: &Path) -> Result<OpenRecords, RecordsError> {
    create_folder(state_dir)?;
    let lock = lock(state_dir)?;
    let files = JobFiles::open(state_dir)?;
    let path = state_dir.join(NAMES[0]);
    let mut database = match sound(&path)? {
        Sound::Database(database) => database,
        Sound::Broken(reason) => {
            let aside = set_aside(state_dir)?;
            warn!(
                reason,
                aside = %aside.display(),
                "the records are damaged; they are set aside and made anew from the jobs' files and ledgers"
            );
            fresh(&path)?
        }
    };
    let unusable = |error: rusqlite::Error| RecordsError::of("open", &path, &error);
    schema::set_up(&database).map_err(unusable)?;
    rebuild::reconcile(&mut database, &path, &files)?;
    let inbox = Arc::new(Inbox::after(
        jobs::last_number(&database).map_err(unusable)?,
    ));
    let reader =
        Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(unusable)?;
    let (advanced, seen) = watch::channel(0);
    let writer = Writer {
        database,
        path: path.clone(),
        files: files.clone(),
        inbox: inbox.clone(),
        advanced,
        until_trim: 1,
    };
    Ok(OpenRecords {
        writer: Some(writer.start()),
        records: Records {
            path: Arc::new(path),
            files,
            inbox,
            reader: Arc::new(Mutex::new(reader)),
            advanced: seen,
        },
        _lock: lock,
    })
}

/// Held until the process ends, however it ends.
fn lock(state_dir: &Path) -> Result<File, RecordsError> {
    let path = state_dir.join("lock");
    let lock = File::create(&path).map_err(RecordsError::io("create", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(RecordsError::Busy {
            path: state_dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(RecordsError::io("lock", &path)(error)),
    }
}

enum Sound {
    Database(Connection),
    Broken(String),
}

/// The database at `path`, checked; a new one where there is none.
fn sound(path: &Path) -> Result<Sound, RecordsError> {
    if !path.exists() {
        return fresh(path).map(Sound::Database);
    }
    let looked = Connection::open(path).and_then(|database| {
        let found = schema::look(&database)?;
        let check: String = database.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        Ok((database, found, check))
    });
    match looked {
        Ok((_, _, check)) if check != "ok" => Ok(Sound::Broken(check)),
        Ok((database, Found::Ours(schema::FORMAT), _)) => Ok(Sound::Database(database)),
        Ok((_, Found::Ours(found), _)) => Err(RecordsError::Newer {
            path: path.to_owned(),
            found,
            known: schema::FORMAT,
        }),
        // A start that ended before the tables were made.
        Ok((_, Found::Nothing, _)) => fresh(path).map(Sound::Database),
        Ok((_, Found::Foreign, _)) => Err(RecordsError::Foreign {
            path: path.to_owned(),
        }),
        Err(error) if is_damage(&error) => Ok(Sound::Broken(error.to_string())),
        Err(error) => Err(RecordsError::of("open", path, &error)),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn fresh(path: &Path) -> Result<Connection, RecordsError> {
    let made = Connection::open(path).and_then(|mut database| {
        schema::create(&mut database)?;
        Ok(database)
    });
    made.map_err(|error| RecordsError::of("create", path, &error))
}

/// Keeps a damaged database for those who want to look at it; gives its new place.
fn set_aside(state_dir: &Path) -> Result<PathBuf, RecordsError> {
    let suffix = format!("damaged-{}", unix_ms());
    for name in NAMES {
        let (from, to) = (
            state_dir.join(name),
            state_dir.join(format!("{name}.{suffix}")),
        );
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RecordsError::io("move", &from)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(state_dir.join(format!("{}.{suffix}", NAMES[0])))
}
