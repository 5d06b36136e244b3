//! `metrics.jsonl`: one line a step, appended as the run goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is known of one committed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// Steps committed so far, this one included.
    pub(crate) step: u64,
    /// Passes over the data so far.
    pub(crate) epoch: f64,
    /// Mean loss of the step's supervised tokens.
    pub(crate) loss: f64,
    /// Global norm of the gradient before clipping.
    pub(crate) grad_norm: f64,
    /// Learning rate that the step used.
    pub(crate) learning_rate: f64,
    /// Rows of the global batch.
    pub(crate) rows: u64,
    /// Real tokens; there is no padding.
    pub(crate) tokens: u64,
    /// Tokens that the loss counts.
    pub(crate) supervised_tokens: u64,
    /// Wall time from the step's grants to its commit.
    pub(crate) step_seconds: f64,
    /// `tokens / step_seconds`.
    pub(crate) tokens_per_second: f64,
    /// Longest time that one worker computed its slots.
    pub(crate) compute_seconds: f64,
    /// Longest time that one worker spent in the all-reduce.
    pub(crate) reduce_seconds: f64,
    /// What is left of the step: the cost of coordination.
    pub(crate) control_seconds: f64,
    /// Memory in use, in bytes: of GPUs by their drivers' count, on CPUs the peak of all workers together.
    pub(crate) memory_bytes: u64,
    /// Workers that took part.
    pub(crate) workers: u32,
}

/// The open file, and everything that it holds.
#[derive(Debug)]
pub(crate) struct Metrics {
    file: File,
    records: Vec<StepRecord>,
}

impl Metrics {
    /// Opens the log of a run that goes on after `committed` steps: later lines, written by a run whose steps were not
    /// checkpointed, are dropped, because those steps happen again.
    pub(crate) fn resume(path: &Path, committed: u64) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let records: Vec<StepRecord> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .take_while(|record: &StepRecord| record.step <= committed)
            .collect();
        let mut kept = Vec::new();
        for record in &records {
            write_line(&mut kept, record)?;
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
        fresh.write_all(&kept)?;
        fresh.persist(path).map_err(|error| error.error)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { file, records })
    }

    /// Appends one step.
    pub(crate) fn push(&mut self, record: StepRecord) -> io::Result<()> {
        let told = self
            .records
            .last()
            .is_some_and(|last| last.step >= record.step);
        if told {
            // An earlier coordinator told of this step already.
            return Ok(());
        }
        write_line(&mut self.file, &record)?;
        self.records.push(record);
        Ok(())
    }

    /// Goes back to where `committed` steps are: the later ones happen again.
    pub(crate) fn rewind(&mut self, path: &Path, committed: u64) -> io::Result<()> {
        *self = Self::resume(path, committed)?;
        Ok(())
    }

    /// Every step so far, those before a resume included.
    pub(crate) fn records(&self) -> &[StepRecord] {
        &self.records
    }
}

/// Writes one record as one line in one call, so that a reader never sees half of it.
fn write_line(to: &mut impl Write, record: &StepRecord) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    to.write_all(&line)
}

#[cfg(test)]
pub(crate) fn sample(step: u64, loss: f64) -> StepRecord {
    StepRecord {
        step,
        epoch: step as f64 / 4.0,
        loss,
        grad_norm: 0.5,
        learning_rate: 1e-4,
        rows: 8,
        tokens: 800,
        supervised_tokens: 300,
        step_seconds: 0.5,
        tokens_per_second: 1600.0,
        compute_seconds: 0.4,
        reduce_seconds: 0.01,
        control_seconds: 0.001,
        memory_bytes: 1 << 20,
        workers: 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_a_resumed_run_repeats_are_dropped_and_a_torn_line_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut first = Metrics::resume(&path, 0).unwrap();
        for step in 1..=3 {
            first.push(sample(step, 2.0)).unwrap();
        }
        first.file.write_all(b"{\"step\":4,").unwrap();

        let mut second = Metrics::resume(&path, 2).unwrap();
        second.push(sample(3, 1.0)).unwrap();

        let text = fs::read_to_string(&path).unwrap();
        let read: Vec<StepRecord> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read, [sample(1, 2.0), sample(2, 2.0), sample(3, 1.0)]);
        assert_eq!(second.records(), read);
    }
}
