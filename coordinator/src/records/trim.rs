//! Keeps the records from growing without end: what is oldest goes first.

use rusqlite::{Result, Transaction};
use weft_common::id::JobId;

use super::jobs::{id, integer};

/// Entries that are written between two looks at how much there is.
pub(super) const LOOK_EVERY: usize = 10_000;

/// How much is kept. SQLite uses the space of what went for what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Jobs that are over, the newest, with all that happened to them. One takes about a kilobyte.
    pub(super) jobs_over: u64,
    /// Events, the newest of all jobs; about 200 bytes each.
    pub(super) events: u64,
    /// Figures of steps, the newest of all jobs; about 150 bytes each.
    pub(super) steps: u64,
}

/// Some 300 MB in all; `docs/queue.md` tells people.
pub(super) const KEPT: Kept = Kept {
    jobs_over: 20_000,
    events: 500_000,
    steps: 1_000_000,
};

/// Forgets what is beyond `kept`; the jobs that are forgotten, whose files go as well.
pub(super) fn trim(change: &Transaction<'_>, kept: &Kept) -> Result<Vec<JobId>> {
    // Numbers only grow, and there is at most one row for each.
    change.execute(
        "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?1",
        [integer(kept.events)],
    )?;
    change.execute(
        "DELETE FROM steps WHERE number <= (SELECT max(number) FROM steps) - ?1",
        [integer(kept.steps)],
    )?;
    let mut select = change.prepare_cached(
        "SELECT key, id FROM jobs WHERE over = 1 ORDER BY number DESC LIMIT -1 OFFSET ?1",
    )?;
    let oldest = select.query_map([integer(kept.jobs_over)], |row| {
        Ok((row.get::<_, i64>(0)?, id(row, 1)?))
    })?;
    let oldest: Vec<(i64, JobId)> = oldest.collect::<Result<_>>()?;
    for (key, _) in &oldest {
        change.execute("DELETE FROM events WHERE job = ?1", [key])?;
        change.execute("DELETE FROM steps WHERE job = ?1", [key])?;
        change.execute("DELETE FROM jobs WHERE key = ?1", [key])?;
    }
    Ok(oldest.into_iter().map(|(_, job)| job).collect())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use weft_proto::v1;

    use super::super::{history, jobs, schema};
    use super::*;
    use crate::happening::{Happening, Level};
    use crate::view::JobPhase;
    use crate::view::tests::view;

    fn count(database: &Connection, table: &str) -> i64 {
        let all = format!("SELECT count(*) FROM {table}");
        database.query_row(&all, (), |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_newest_stay_and_jobs_that_are_not_over_are_never_forgotten() {
        let mut database = Connection::open_in_memory().unwrap();
        schema::create(&mut database).unwrap();
        let change = database.transaction().unwrap();
        for number in 0..6 {
            let mut job = view(&format!("job-{number}"));
            jobs::submit(&change, &job, number).unwrap();
            for step in 1..=10 {
                let figures = v1::StepFigures {
                    step,
                    ..v1::StepFigures::default()
                };
                history::stepped(&change, &job.id, &figures).unwrap();
                let happening = Happening::new(Level::Info, "kind", "text");
                history::happened(&change, Some(&job.id), 1, &happening).unwrap();
            }
            if number > 0 {
                job.phase = JobPhase::Succeeded;
                jobs::update(&change, &job).unwrap();
            }
        }
        let kept = Kept {
            jobs_over: 3,
            events: 45,
            steps: 25,
        };
        let forgotten = trim(&change, &kept).unwrap();
        let names: Vec<&str> = forgotten.iter().map(JobId::as_str).collect();
        assert_eq!(names, ["job-2", "job-1"], "job-0 still waits");
        change.commit().unwrap();
        let left = ["jobs", "events", "steps"].map(|table| count(&database, table));
        // Of the events of jobs 1 to 5, those of 1 and 2 went with their jobs.
        assert_eq!(left, [4, 30, 25]);
    }
}
