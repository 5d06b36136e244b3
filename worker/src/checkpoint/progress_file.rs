//! `state.json`: where training stands.

use super::{CheckpointError, Progress};

pub(super) const PROGRESS_FILE: &str = "state.json";

pub(super) fn progress(progress: &Progress) -> String {
    let text = serde_json::to_string_pretty(progress).expect("progress holds only numbers");
    text + "\n"
}

pub(super) fn read_progress(bytes: &[u8]) -> Result<Progress, CheckpointError> {
    serde_json::from_slice(bytes).map_err(|source| CheckpointError::Json {
        file: PROGRESS_FILE,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::LossScale;

    #[test]
    fn a_file_names_a_loss_scale_only_where_there_is_one() {
        let plain = Progress {
            next_step: 3,
            updates: 2,
            skipped_steps: 1,
            loss_scale: None,
        };
        let text = "{\n  \"next_step\": 3,\n  \"updates\": 2,\n  \"skipped_steps\": 1\n}\n";
        assert_eq!(progress(&plain), text);
        let scaled = Progress {
            loss_scale: Some(LossScale::default().after_overflow()),
            ..plain
        };
        for progress_of in [plain, scaled] {
            let text = progress(&progress_of);
            assert_eq!(read_progress(text.as_bytes()).unwrap(), progress_of);
        }
    }
}
