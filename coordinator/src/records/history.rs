//! The tables of events and of steps.

use rusqlite::{Connection, OptionalExtension, Result, Row, Transaction, named_params};
use weft_common::id::JobId;
use weft_proto::v1;

use super::jobs::{integer, unsigned};
use crate::happening::{Happening, Level};

/// Rows that are read at once: a few milliseconds, and not much memory.
const PAGE: u32 = 1000;

/// Some rows, each with its number, in the order of the numbers.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) rows: Vec<(u64, T)>,
    /// Whether nothing can follow: the job is over, and these are the last.
    pub(crate) is_last: bool,
    /// Whether more are there already.
    pub(crate) is_full: bool,
}

/// An event of a job, or of all jobs that are under way.
pub(super) fn happened(
    to: &Connection,
    job: Option<&JobId>,
    unix_ms: i64,
    happening: &Happening,
) -> Result<()> {
    let mut insert = to.prepare_cached(match job {
        // A job that is not known has no history.
        Some(_) => {
            "INSERT INTO events (job, unix_ms, level, kind, text)
             SELECT key, ?2, ?3, ?4, ?5 FROM jobs WHERE id = ?1"
        }
        None => "INSERT INTO events (job, unix_ms, level, kind, text) VALUES (?1, ?2, ?3, ?4, ?5)",
    })?;
    let level = v1::EventLevel::from(happening.level) as i32;
    let job = job.map(JobId::as_str);
    insert.execute((job, unix_ms, level, happening.kind, &happening.text))?;
    Ok(())
}

/// A committed step; one that was computed again takes the place of the former.
pub(super) fn stepped(to: &Connection, job: &JobId, step: &v1::StepFigures) -> Result<()> {
    let mut insert = to.prepare_cached(
        "INSERT OR REPLACE INTO steps (job, step, unix_ms, loss, grad_norm, learning_rate, tokens, supervised_tokens,
             step_seconds, workers, epoch)
         SELECT key, :step, :unix_ms, :loss, :grad_norm, :learning_rate, :tokens, :supervised_tokens,
             :step_seconds, :workers, :epoch
         FROM jobs WHERE id = :job",
    )?;
    insert.execute(named_params! {
        ":job": job.as_str(),
        ":step": integer(step.step),
        ":unix_ms": step.unix_ms,
        ":loss": step.loss,
        ":grad_norm": step.grad_norm,
        ":learning_rate": step.learning_rate,
        ":tokens": integer(step.tokens),
        ":supervised_tokens": integer(step.supervised_tokens),
        ":step_seconds": step.step_seconds,
        ":workers": step.workers,
        ":epoch": step.epoch,
    })?;
    Ok(())
}

/// Steps after so many are computed again.
pub(super) fn rolled_back(to: &Connection, job: &JobId, committed: u64) -> Result<()> {
    let mut delete = to.prepare_cached(
        "DELETE FROM steps WHERE job = (SELECT key FROM jobs WHERE id = ?1) AND step > ?2",
    )?;
    delete.execute((job.as_str(), integer(committed)))?;
    Ok(())
}

/// Events of a job, and those of the coordinator while the job was under way.
pub(super) fn events(from: &mut Connection, job: &JobId, after: u64) -> Result<Page<v1::JobEvent>> {
    let read = from.transaction()?;
    let rows = {
        let mut select = read.prepare_cached(
            "SELECT events.number, events.unix_ms, level, kind, text FROM events, jobs
             WHERE jobs.id = ?1 AND events.number > ?2 AND events.job = jobs.key
             UNION ALL
             SELECT events.number, events.unix_ms, level, kind, text FROM events, jobs
             WHERE jobs.id = ?1 AND events.number > ?2 AND events.job IS NULL
                 AND events.unix_ms >= jobs.started_unix_ms
                 AND (jobs.ended_unix_ms IS NULL OR events.unix_ms <= jobs.ended_unix_ms)
             ORDER BY 1 LIMIT ?3",
        )?;
        let rows = select.query_map((job.as_str(), integer(after), PAGE), event)?;
        rows.collect::<Result<Vec<_>>>()?
    };
    page(&read, job, rows)
}

/// Figures of a job's steps, in the order in which they were written.
pub(super) fn steps(
    from: &mut Connection,
    job: &JobId,
    after: u64,
    beyond: u64,
) -> Result<Page<v1::StepFigures>> {
    let read = from.transaction()?;
    let rows = {
        let mut select = read.prepare_cached(
            "SELECT steps.number, step, unix_ms, steps.loss, grad_norm, learning_rate, tokens, supervised_tokens,
                 step_seconds, steps.workers, epoch
             FROM steps, jobs
             WHERE jobs.id = ?1 AND steps.job = jobs.key AND steps.number > ?2 AND step > ?3
             ORDER BY steps.number LIMIT ?4",
        )?;
        let asked = (job.as_str(), integer(after), integer(beyond), PAGE);
        select.query_map(asked, step)?.collect::<Result<Vec<_>>>()?
    };
    page(&read, job, rows)
}

pub(super) fn events_before(from: &Connection, job: &JobId, last: u32) -> Result<u64> {
    let mut select = from.prepare_cached(
        "SELECT coalesce(max(number), 0) FROM (
             SELECT number FROM events WHERE job = (SELECT key FROM jobs WHERE id = ?1)
             ORDER BY number DESC LIMIT 1 OFFSET ?2)",
    )?;
    select.query_row((job.as_str(), last), |row| row.get(0).map(unsigned))
}

pub(super) fn steps_before(from: &Connection, job: &JobId, last: u32) -> Result<u64> {
    let mut select = from.prepare_cached(
        "SELECT coalesce(max(number), 0) FROM (
             SELECT number FROM steps WHERE job = (SELECT key FROM jobs WHERE id = ?1)
             ORDER BY number DESC LIMIT 1 OFFSET ?2)",
    )?;
    select.query_row((job.as_str(), last), |row| row.get(0).map(unsigned))
}

/// The end of a job is written with or after all that happened to it, so within one transaction this tells the truth.
fn page<T>(read: &Transaction<'_>, job: &JobId, rows: Vec<(u64, T)>) -> Result<Page<T>> {
    let mut select = read.prepare_cached("SELECT over FROM jobs WHERE id = ?1")?;
    let over = select.query_row([job.as_str()], |row| row.get(0));
    // What is not in the records goes on nowhere.
    let over = over.optional()?.unwrap_or(true);
    let is_full = rows.len() as u64 == u64::from(PAGE);
    Ok(Page {
        rows,
        is_last: over && !is_full,
        is_full,
    })
}

fn event(row: &Row<'_>) -> Result<(u64, v1::JobEvent)> {
    let number = unsigned(row.get(0)?);
    let event = v1::JobEvent {
        number,
        unix_ms: row.get(1)?,
        level: row.get(2)?,
        kind: row.get(3)?,
        text: row.get(4)?,
    };
    Ok((number, event))
}

fn step(row: &Row<'_>) -> Result<(u64, v1::StepFigures)> {
    // A figure that is no number is none to SQLite.
    let figure = |column| {
        row.get::<_, Option<f64>>(column)
            .map(|it| it.unwrap_or(f64::NAN))
    };
    let figures = v1::StepFigures {
        step: unsigned(row.get(1)?),
        unix_ms: row.get(2)?,
        loss: figure(3)?,
        grad_norm: figure(4)?,
        learning_rate: figure(5)?,
        tokens: unsigned(row.get(6)?),
        supervised_tokens: unsigned(row.get(7)?),
        step_seconds: figure(8)?,
        workers: row.get(9)?,
        epoch: figure(10)?,
    };
    Ok((unsigned(row.get(0)?), figures))
}

/// What is told of records that were made anew.
pub(super) fn rebuilt() -> Happening {
    Happening::new(
        Level::Warning,
        "records_rebuilt",
        "the records were lost and made anew from the job's file and its ledger; what happened before is not in them",
    )
}
