//! From files to encoded rows, in order, on many cores and in bounded memory.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use rayon::prelude::*;

use super::PrepareProgress;
use crate::data::encode::{Outcome, RowEncoder};
use crate::data::lint::DropReason;
use crate::data::rows::{self, RowLayout};
use crate::data::source::RawRow;
use crate::data::{ChatTokenizer, DataError, PrepareReport, Row, RowStat, TokenizerError};
use crate::recipe::Recipe;

/// Bytes of file that make a wave: enough rows to keep all cores busy between two hand-overs.
const WAVE_BYTES: u64 = 4 << 20;
/// Waves waiting between the reading thread and the rest; with one at either end, three are in memory.
const WAVES_WAITING: usize = 1;
/// Rows that a core takes at a time.
const ROWS_PER_TASK: usize = 16;

/// Why preparing ended early.
pub(super) enum Failure {
    Data(DataError),
    /// The disk did not take a row.
    Write(io::Error),
}

impl<T: Into<DataError>> From<T> for Failure {
    fn from(error: T) -> Self {
        Self::Data(error.into())
    }
}

/// Rows that are encoded together.
#[derive(Default)]
struct Wave {
    rows: Vec<(RawRow, Arc<RowLayout>)>,
    /// Bytes of all files read so far.
    done: u64,
}

/// Encodes all rows of the recipe and hands them to `write`, in order.
pub(super) fn run(
    recipe: &Recipe,
    tokenizer: &ChatTokenizer,
    write: &mut dyn FnMut(&Row) -> io::Result<RowStat>,
    progress: &dyn Fn(PrepareProgress),
) -> Result<PrepareReport, Failure> {
    let threads = recipe.training.dataset_num_proc as usize;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| DataError::Threads(error.to_string()))?;
    let total = file_bytes(recipe)?;
    let encoder = RowEncoder::new(recipe, tokenizer);
    let mut sink = Sink {
        report: PrepareReport::default(),
        write,
    };
    let (sender, receiver) = mpsc::sync_channel(WAVES_WAITING);
    let tallies = std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(recipe, &sender));
        let written = receive(receiver, |wave| {
            let outcomes = pool.install(|| encode(&encoder, &wave));
            progress(PrepareProgress {
                done: wave.done,
                total,
            });
            sink.write(outcomes)
        });
        // The receiver is gone, so the reader ends at its next wave.
        let tallies = reader.join().expect("reading returns its errors");
        written.and(tallies.map_err(Failure::from))
    })?;
    for tally in tallies {
        sink.report.rows_read += tally.read;
        sink.report
            .drop_rows(DropReason::EmptyField, tally.empty, None);
        sink.report
            .drop_rows(DropReason::Duplicate, tally.duplicate, None);
    }
    Ok(sink.report)
}

fn receive(
    waves: Receiver<Wave>,
    mut take: impl FnMut(Wave) -> Result<(), Failure>,
) -> Result<(), Failure> {
    waves.into_iter().try_for_each(&mut take)
}

fn file_bytes(recipe: &Recipe) -> Result<u64, DataError> {
    let lengths = recipe.datasets.iter().map(|section| {
        let path = section.path.as_ref();
        let metadata = std::fs::metadata(path).map_err(DataError::read(path))?;
        Ok(metadata.len())
    });
    lengths.sum()
}

/// Sends the recipe's rows in waves, until there are no more or nobody takes them.
fn read(recipe: &Recipe, sender: &SyncSender<Wave>) -> Result<Vec<rows::CleanTally>, DataError> {
    let mut tallies = Vec::new();
    let mut finished_files = 0;
    for section in &recipe.datasets {
        let mut wave = Wave::default();
        let mut layout = None;
        let mut wave_start = 0;
        let mut last = 0;
        let tally = rows::select(section, &mut |row, row_layout, position| {
            let layout = layout.get_or_insert_with(|| Arc::new(row_layout.clone()));
            wave.rows.push((row, layout.clone()));
            last = position;
            // A later slice may lie before an earlier one.
            wave_start = wave_start.min(position);
            if position - wave_start < WAVE_BYTES {
                return ControlFlow::Continue(());
            }
            wave_start = position;
            send(sender, &mut wave, finished_files + position)
        })?;
        tallies.push(tally);
        finished_files += last;
        if send(sender, &mut wave, finished_files).is_break() {
            break;
        }
    }
    Ok(tallies)
}

fn send(sender: &SyncSender<Wave>, wave: &mut Wave, done: u64) -> ControlFlow<()> {
    let wave = Wave {
        rows: std::mem::take(&mut wave.rows),
        done,
    };
    match sender.send(wave) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

fn encode(encoder: &RowEncoder<'_>, wave: &Wave) -> Vec<Result<Outcome, TokenizerError>> {
    let rows = wave.rows.par_iter().with_min_len(ROWS_PER_TASK);
    rows.map(|(row, layout)| encoder.encode(layout.example(row)))
        .collect()
}

/// Writes rows and counts what becomes of them.
struct Sink<'a> {
    report: PrepareReport,
    write: &'a mut dyn FnMut(&Row) -> io::Result<RowStat>,
}

impl Sink<'_> {
    fn write(&mut self, outcomes: Vec<Result<Outcome, TokenizerError>>) -> Result<(), Failure> {
        for outcome in outcomes {
            match outcome? {
                Outcome::Dropped { reason, detail } => self.report.drop_rows(reason, 1, detail),
                Outcome::Kept { row, suspicions } => {
                    let stat = (self.write)(&row).map_err(Failure::Write)?;
                    self.count(stat)?;
                    suspicions
                        .into_iter()
                        .for_each(|suspicion| self.report.suspect(suspicion));
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, stat: RowStat) -> Result<(), DataError> {
        let report = &mut self.report;
        report.rows += 1;
        report.tokens += u64::from(stat.tokens);
        report.supervised += u64::from(stat.supervised);
        report.longest = report.longest.max(stat.tokens);
        u32::try_from(report.rows)
            .map(|_| ())
            .map_err(|_| DataError::TooManyRows)
    }
}
