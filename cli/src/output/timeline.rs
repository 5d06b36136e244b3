//! `timeline.jsonl`: who was a member from which step on, and what went wrong meanwhile; appended as the run goes.
//!
//! A run that is resumed goes on in the same file. Nothing is dropped from it: what happened has happened, though its steps
//! may have been computed again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use weft_coordinator::{Happening, Level, Notice};

/// Entries that are read back at most; a run that goes on for months loses its beginning, not its page.
const MOST: usize = 10_000;

/// Something that happened to a run's membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// Members are known, and a step begins or goes on.
    Epoch {
        /// Steps committed before.
        step: u64,
        /// Generation of the membership.
        epoch: u64,
        /// Its members, in rank order.
        members: Vec<Member>,
    },
    /// Something that people ask about afterwards.
    Incident {
        /// Steps committed before.
        step: u64,
        /// What kind of thing, for programs.
        what: String,
        /// The id of the worker that it happened to.
        worker: Option<String>,
        /// What happened, in words.
        text: String,
    },
}

/// A worker of a membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Of the process start.
    pub(crate) id: String,
    /// Its host.
    pub(crate) host: String,
    /// Its device.
    pub(crate) device: String,
}

impl Entry {
    /// What a notice says of the membership, after `committed` steps; most say nothing.
    pub(crate) fn of(notice: &Notice, committed: u64) -> Option<Self> {
        if let Notice::EpochFormed(formed) = notice {
            let members = formed.members.iter().map(|(name, _)| Member {
                id: name.worker.to_string(),
                host: name.host.clone(),
                device: name.device.clone(),
            });
            return Some(Self::Epoch {
                step: formed.step.0,
                epoch: formed.epoch.0,
                members: members.collect(),
            });
        }
        let happening = Happening::of(notice)?;
        match happening.level {
            Level::Warning | Level::Error => Some(Self::Incident {
                step: committed,
                what: happening.kind.to_owned(),
                worker: concerned(notice),
                text: happening.text,
            }),
            Level::Info => None,
        }
    }

    /// Steps committed before.
    pub(crate) fn step(&self) -> u64 {
        match self {
            Self::Epoch { step, .. } | Self::Incident { step, .. } => *step,
        }
    }
}

/// The id of the worker that something happened to.
fn concerned(notice: &Notice) -> Option<String> {
    let worker = match notice {
        Notice::MemberLost(incident) => &incident.worker,
        Notice::GpuSick { worker, .. }
        | Notice::GpuConcern { worker, .. }
        | Notice::WorkerJoined(worker)
        | Notice::WorkerGone { worker, .. } => worker,
        Notice::Planned { .. }
        | Notice::Admitted
        | Notice::Waiting(_)
        | Notice::EpochFormed(_)
        | Notice::RolledBack { .. }
        | Notice::StepCommitted(_)
        | Notice::CheckpointSaved { .. }
        | Notice::CheckpointFailed { .. }
        | Notice::CheckpointOverdue(_)
        | Notice::Draining(_)
        | Notice::Ended(_) => return None,
    };
    Some(worker.worker.to_string())
}

/// The open file, and what it holds.
#[derive(Debug)]
pub(crate) struct Timeline {
    file: File,
    entries: Vec<Entry>,
}

impl Timeline {
    /// Opens the file, with what an earlier run left in it. A line that was cut off is left out.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let lines = text.lines().rev().take(MOST);
        let mut entries: Vec<Entry> = lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        entries.reverse();
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        Ok(Self { file, entries })
    }

    /// Appends an entry as one line in one call. What the disk does not take is missing in the file: no run ends for it.
    pub(crate) fn push(&mut self, entry: Entry) {
        if let Err(error) = self.write(&entry) {
            tracing::warn!(%error, "timeline.jsonl misses an entry");
        }
        self.entries.push(entry);
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Everything so far.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
pub(crate) fn sample_epoch(step: u64, epoch: u64, members: &[&str]) -> Entry {
    let member = |id: &&str| Member {
        id: (*id).to_owned(),
        host: "node".to_owned(),
        device: "cpu (1 thread)".to_owned(),
    };
    Entry::Epoch {
        step,
        epoch,
        members: members.iter().map(member).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_goes_on_in_the_same_file_and_a_torn_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timeline.jsonl");
        let (first, second) = (sample_epoch(0, 1, &["a", "b"]), sample_epoch(3, 2, &["a"]));
        let mut timeline = Timeline::open(&path).unwrap();
        timeline.push(first.clone());
        timeline.file.write_all(b"{\"kind\":").unwrap();
        let mut timeline = Timeline::open(&path).unwrap();
        timeline.push(second.clone());
        let entries = [first, second];
        assert_eq!(timeline.entries(), entries);
        assert_eq!(Timeline::open(&path).unwrap().entries(), entries);
    }
}
