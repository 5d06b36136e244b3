//! Why a dataset cannot be prepared.

use std::io;
use std::path::{Path, PathBuf};

use super::TokenizerError;
use crate::storage::StorageError;

/// Why a dataset cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read.
    #[error("dataset {} cannot be read: {source}; check datasets[].path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file's ending says nothing that is known.
    #[error("dataset {} is of no known type; weft reads .csv, .tsv, .json, .jsonl and .ndjson, convert it to one of them", path.display())]
    UnknownType {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what its ending says.
    #[error("dataset {} line {line}: {detail}; correct the file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong there.
        detail: String,
    },
    /// A column that the row kind needs is not there.
    #[error(
        "dataset {} has no column `{missing}`, which rows of kind {kind} need; it has {}{}; rename one with datasets[].columns, or set datasets[].kind",
        path.display(),
        listed(present),
        nearest(missing, present)
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// How rows are read.
        kind: &'static str,
        /// The column.
        missing: String,
        /// What there is instead, after drops and renames.
        present: Vec<String>,
    },
    /// The columns fit no kind of row.
    #[error(
        "dataset {} has columns {}, which fit no kind of row (text; prompt, completion; instruction, output; conversations; messages); set datasets[].kind and rename columns with datasets[].columns",
        path.display(),
        listed(present)
    )]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// The columns, after drops and renames.
        present: Vec<String>,
    },
    /// A rename would lose a column.
    #[error("dataset {}: renaming column `{from}` to `{to}` would overwrite a column of that name; drop one with datasets[].drop_columns", path.display())]
    RenameCollides {
        /// The file.
        path: PathBuf,
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// No row is left to train on.
    #[error("no row of {paths} is left to train on: {read} rows read{}; check the data, the chat template and model.max_seq_length", why.as_str())]
    NothingLeft {
        /// The files.
        paths: String,
        /// Rows read.
        read: u64,
        /// What became of them.
        why: String,
    },
    /// More rows than a row number can count.
    #[error("the datasets have more than {} rows; set datasets[].limit", u32::MAX)]
    TooManyRows,
    /// A prepared dataset is incomplete or damaged.
    #[error("prepared dataset {} is incomplete or damaged: {detail}; remove the folder, it is made again", dir.display())]
    Damaged {
        /// Its folder.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The cache cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The threads for tokenizing cannot be started.
    #[error("threads for data preparation cannot be started: {0}; lower training.dataset_num_proc")]
    Threads(String),
}

impl DataError {
    pub(super) fn read(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<_> = columns.iter().map(|column| format!("`{column}`")).collect();
    quoted.join(", ")
}

/// A hint at the present column that is spelled most alike.
fn nearest(missing: &str, present: &[String]) -> String {
    let scored = present
        .iter()
        .map(|column| (strsim::jaro_winkler(missing, column), column));
    match scored.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((score, column)) if score > 0.75 => format!(" (did you mean `{column}`?)"),
        _ => String::new(),
    }
}
