//! The tables.

use rusqlite::{Connection, Result};

/// `weft`, so that nobody takes the file for another program's.
pub(super) const APPLICATION: i64 = 0x7765_6674;

/// Format of the tables; raised with every change of them.
pub(super) const FORMAT: i64 = 1;

/// `number` of a job is its place in the queue. Figures may be null: a loss that is no number is none to SQLite.
const TABLES: &str = "
CREATE TABLE jobs (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    phase TEXT NOT NULL,
    over INTEGER NOT NULL,
    detail TEXT NOT NULL,
    committed_steps INTEGER NOT NULL,
    total_steps INTEGER NOT NULL,
    workers INTEGER NOT NULL,
    min_workers INTEGER NOT NULL,
    max_workers INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    labels TEXT NOT NULL,
    output_dir TEXT NOT NULL,
    logging_steps INTEGER NOT NULL,
    submitted_unix_ms INTEGER NOT NULL,
    started_unix_ms INTEGER,
    ended_unix_ms INTEGER,
    loss REAL,
    tokens_per_second REAL,
    incidents INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_name ON jobs (name, number);
CREATE INDEX jobs_over ON jobs (over, number);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER,
    unix_ms INTEGER NOT NULL,
    level INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_job ON events (job, number);
CREATE TABLE steps (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL,
    step INTEGER NOT NULL,
    unix_ms INTEGER NOT NULL,
    loss REAL,
    grad_norm REAL,
    learning_rate REAL,
    tokens INTEGER NOT NULL,
    supervised_tokens INTEGER NOT NULL,
    step_seconds REAL,
    workers INTEGER NOT NULL,
    epoch REAL,
    UNIQUE (job, step)
) STRICT;
CREATE INDEX steps_of_job ON steps (job, number);
";

/// What a database file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing is in it yet.
    Nothing,
    /// Ours, of this format.
    Ours(i64),
    /// Someone else's.
    Foreign,
}

/// Looks what a database file is.
pub(super) fn look(database: &Connection) -> Result<Found> {
    let pragma = |name| database.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, format) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 =
        database.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    Ok(match (application, tables) {
        (APPLICATION, 1..) => Found::Ours(format),
        (0 | APPLICATION, 0) => Found::Nothing,
        _ => Found::Foreign,
    })
}

/// Makes the tables, all or none.
pub(super) fn create(database: &mut Connection) -> Result<()> {
    let change = database.transaction()?;
    change.execute_batch(TABLES)?;
    change.pragma_update(None, "application_id", APPLICATION)?;
    change.pragma_update(None, "user_version", FORMAT)?;
    change.commit()
}

/// What holds for every connection that writes. A record that a loss of power takes is no harm, but a submission: the
/// writer waits for the disk then.
pub(super) fn set_up(database: &Connection) -> Result<()> {
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "NORMAL")?;
    // The reader is the only other connection, and never writes.
    database.busy_timeout(std::time::Duration::from_secs(5))
}
