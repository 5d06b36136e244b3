//! The coordinator's incarnation, counted in its state folder.

use std::fs;
use std::io;
use std::path::Path;

use weft_common::id::Term;
use weft_common::storage::{StorageError, create_folder, write_atomic};

use crate::config::BindError;

/// The next incarnation of the coordinator that keeps its state in `state_dir`, later than `after`; durable before it is
/// used.
pub(crate) fn next_term(state_dir: &Path, after: Term) -> Result<Term, BindError> {
    create_folder(state_dir)?;
    let path = state_dir.join("term");
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| BindError::Term {
            path: path.clone(),
            found: text.chars().take(40).collect(),
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(StorageError::new("read", &path, error).into()),
    };
    let term = Term(last).max(after).next();
    write_atomic(&path, format!("{term}\n").as_bytes())?;
    Ok(term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_has_a_later_term() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(next_term(dir.path(), Term(0)).unwrap(), Term(1));
        assert_eq!(next_term(dir.path(), Term(0)).unwrap(), Term(2));
        assert_eq!(next_term(dir.path(), Term(7)).unwrap(), Term(8));
        assert_eq!(next_term(dir.path(), Term(7)).unwrap(), Term(9));
    }

    #[test]
    fn a_term_that_is_no_number_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("term"), "seven").unwrap();
        let refused = next_term(dir.path(), Term(0)).unwrap_err();
        assert!(refused.to_string().contains("seven"), "{refused}");
    }
}
