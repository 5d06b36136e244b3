//! The table of jobs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Result, Row, named_params};
use weft_common::id::JobId;

use crate::engine::Needs;
use crate::view::{JobPhase, JobView};

/// Candidates that are named where a reference is ambiguous.
const CANDIDATES: u32 = 10;

const COLUMNS: &str = "id, name, phase, detail, committed_steps, total_steps, workers, min_workers, max_workers, \
     priority, memory_bytes, labels, output_dir, logging_steps, submitted_unix_ms, started_unix_ms, ended_unix_ms, \
     loss, tokens_per_second, incidents";

/// Jobs that are over.
#[derive(Debug)]
pub(crate) struct Over {
    /// Oldest first.
    pub(crate) jobs: Vec<JobView>,
    /// How many there are besides, all older.
    pub(crate) left_out: u64,
}

/// What a reference may mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Jobs whose id begins so; some of them where there are many.
    pub(crate) by_prefix: Vec<JobId>,
    /// The newest job of that name.
    pub(crate) by_name: Option<JobId>,
}

/// A job that is handed in, maybe again.
pub(super) fn submit(to: &Connection, job: &JobView, number: u64) -> Result<()> {
    let mut insert = to.prepare_cached(
        "INSERT INTO jobs (id, number, name, phase, over, detail, committed_steps, total_steps, workers, min_workers,
             max_workers, priority, memory_bytes, labels, output_dir, logging_steps, submitted_unix_ms, incidents)
         VALUES (:id, :number, :name, 'queued', 0, '', 0, 0, :workers, :min_workers,
             :max_workers, :priority, :memory_bytes, :labels, :output_dir, :logging_steps, :submitted_unix_ms, 0)
         ON CONFLICT (id) DO UPDATE SET number = :number, name = :name, phase = 'queued', over = 0, detail = '',
             started_unix_ms = NULL, ended_unix_ms = NULL, priority = :priority, memory_bytes = :memory_bytes,
             labels = :labels, output_dir = :output_dir, logging_steps = :logging_steps,
             submitted_unix_ms = :submitted_unix_ms",
    )?;
    insert.execute(named_params! {
        ":id": job.id.as_str(),
        ":number": integer(number),
        ":name": job.name,
        ":workers": job.workers,
        ":min_workers": job.min_workers,
        ":max_workers": job.max_workers,
        ":priority": job.priority,
        ":memory_bytes": integer(job.needs.memory_bytes),
        ":labels": serde_json::to_string(&job.needs.labels).unwrap_or_default(),
        ":output_dir": job.output_dir.to_string_lossy(),
        ":logging_steps": integer(job.logging_steps),
        ":submitted_unix_ms": job.submitted_unix_ms,
    })?;
    update(to, job)
}

/// What changes while a job lives.
pub(super) fn update(to: &Connection, job: &JobView) -> Result<()> {
    let mut update = to.prepare_cached(
        "UPDATE jobs SET phase = :phase, over = :over, detail = :detail, committed_steps = :committed_steps,
             total_steps = :total_steps, workers = :workers, started_unix_ms = :started_unix_ms,
             ended_unix_ms = :ended_unix_ms, loss = :loss, tokens_per_second = :tokens_per_second,
             incidents = :incidents
         WHERE id = :id",
    )?;
    update.execute(named_params! {
        ":id": job.id.as_str(),
        ":phase": job.phase.name(),
        ":over": job.phase.is_over(),
        ":detail": job.detail,
        ":committed_steps": integer(job.committed_steps),
        ":total_steps": integer(job.total_steps),
        ":workers": job.workers,
        ":started_unix_ms": job.started_unix_ms,
        ":ended_unix_ms": job.ended_unix_ms,
        ":loss": job.loss,
        ":tokens_per_second": job.tokens_per_second,
        ":incidents": job.incidents,
    })?;
    Ok(())
}

/// A job that was never taken.
pub(super) fn remove(from: &Connection, job: &JobId) -> Result<()> {
    from.execute("DELETE FROM jobs WHERE id = ?1", [job.as_str()])?;
    Ok(())
}

/// Each known job, and whether it is over.
pub(super) fn known(from: &Connection) -> Result<BTreeMap<JobId, bool>> {
    let mut select = from.prepare("SELECT id, over FROM jobs")?;
    let rows = select.query_map((), |row| Ok((id(row, 0)?, row.get(1)?)))?;
    rows.collect()
}

/// The place in the queue of the last job that was handed in.
pub(super) fn last_number(from: &Connection) -> Result<u64> {
    let last: Option<i64> = from.query_row("SELECT max(number) FROM jobs", (), |row| row.get(0))?;
    Ok(unsigned(last.unwrap_or(0)))
}

pub(super) fn job(from: &Connection, id: &JobId) -> Result<Option<JobView>> {
    let mut select = from.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
    select.query_row([id.as_str()], view).optional()
}

pub(super) fn unfinished(from: &Connection) -> Result<Vec<JobView>> {
    let mut select = from.prepare(&format!(
        "SELECT {COLUMNS} FROM jobs WHERE over = 0 ORDER BY number"
    ))?;
    let rows = select.query_map((), view)?;
    rows.collect()
}

pub(super) fn over(from: &Connection, last: u32) -> Result<Over> {
    let limit = if last == 0 { -1 } else { i64::from(last) };
    let mut select = from.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM jobs WHERE over = 1 ORDER BY number DESC LIMIT ?1"
    ))?;
    let mut jobs: Vec<JobView> = select.query_map([limit], view)?.collect::<Result<_>>()?;
    jobs.reverse();
    let all: i64 = from.query_row("SELECT count(*) FROM jobs WHERE over = 1", (), |row| {
        row.get(0)
    })?;
    let left_out = unsigned(all).saturating_sub(jobs.len() as u64);
    Ok(Over { jobs, left_out })
}

pub(super) fn find(from: &Connection, text: &str) -> Result<Found> {
    // Ids hold no character that comes after these.
    let mut select = from.prepare_cached(
        "SELECT id FROM jobs WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT ?2",
    )?;
    let by_prefix = select
        .query_map((text, CANDIDATES), |row| id(row, 0))?
        .collect::<Result<_>>()?;
    let mut select =
        from.prepare_cached("SELECT id FROM jobs WHERE name = ?1 ORDER BY number DESC LIMIT 1")?;
    let by_name = select.query_row([text], |row| id(row, 0)).optional()?;
    Ok(Found { by_prefix, by_name })
}

fn view(row: &Row<'_>) -> Result<JobView> {
    let phase: String = row.get(2)?;
    let labels: String = row.get(11)?;
    let output_dir: String = row.get(12)?;
    let count = |column| row.get(column).map(unsigned);
    Ok(JobView {
        id: id(row, 0)?,
        name: row.get(1)?,
        // A phase that this version does not know cannot be there: a newer format is refused.
        phase: JobPhase::named(&phase).ok_or_else(|| unfit(2, phase))?,
        outcome: None,
        detail: row.get(3)?,
        committed_steps: count(4)?,
        total_steps: count(5)?,
        members: 0,
        workers: row.get(6)?,
        min_workers: row.get(7)?,
        max_workers: row.get(8)?,
        priority: row.get(9)?,
        needs: Needs {
            memory_bytes: count(10)?,
            labels: serde_json::from_str(&labels).unwrap_or_default(),
        },
        waits: None,
        output_dir: PathBuf::from(output_dir),
        logging_steps: count(13)?,
        submitted_unix_ms: row.get(14)?,
        started_unix_ms: row.get(15)?,
        ended_unix_ms: row.get(16)?,
        loss: row.get(17)?,
        tokens_per_second: row.get::<_, Option<f64>>(18)?.unwrap_or(0.0),
        incidents: row.get(19)?,
    })
}

pub(super) fn id(row: &Row<'_>, column: usize) -> Result<JobId> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| unfit(column, text))
}

fn unfit(column: usize, text: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, text.into())
}

/// SQLite has no unsigned integers; nothing that is counted here comes near the limit.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
