//! What `weft export` says while it works and when it is done.

use std::cell::Cell;
use std::time::Instant;

use serde_json::json;
use weft_common::byte_size::ByteSize;
use weft_worker::export::{Progress, Request, Summary};

use crate::exit::{Exit, Failure};
use crate::output::print;

/// Lines of progress at most.
const LINES: usize = 10;

/// Follows one export.
pub(super) struct Watch {
    what: &'static str,
    started: Instant,
    said: Cell<usize>,
}

impl Watch {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            what: request.format.name(),
            started: Instant::now(),
            said: Cell::new(0),
        }
    }

    /// Says a line for each tenth.
    pub(super) fn on_progress(&self, progress: Progress) {
        let tenth = progress.done * LINES / progress.total.max(1);
        if tenth > self.said.replace(tenth) {
            print::error(format_args!(
                "{}: tensor {} of {}, {:.0} s",
                self.what,
                progress.done,
                progress.total,
                self.started.elapsed().as_secs_f64()
            ));
        }
    }

    pub(super) fn done(&self, summary: &Summary) {
        let bytes: u64 = summary.files.iter().map(|file| file.bytes).sum();
        print::error(format_args!(
            "{}: {} in {:.1} s",
            self.what,
            ByteSize(bytes),
            self.started.elapsed().as_secs_f64()
        ));
    }
}

/// The files that were made, one a line.
pub(super) fn text(summary: &Summary) -> String {
    let folder = &summary.output;
    let files = summary
        .files
        .iter()
        .map(|file| folder.join(&file.name).display().to_string());
    files.collect::<Vec<_>>().join("\n")
}

/// All exports, each with its folder.
pub(super) fn json(summaries: &[Summary]) -> Result<String, Failure> {
    let internal = |error| Failure::new(Exit::Internal, error);
    let mut exports = Vec::new();
    for summary in summaries {
        let mut value = serde_json::to_value(summary).map_err(internal)?;
        value["output"] = json!(summary.output);
        exports.push(value);
    }
    serde_json::to_string_pretty(&json!({"exports": exports})).map_err(internal)
}
