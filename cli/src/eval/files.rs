//! The files that an evaluation leaves.

use std::path::Path;

use serde::Serialize;
use weft_common::storage::{StorageError, create_folder, write_atomic};

use super::page;
use super::results::{Answer, Report};
use crate::exit::{Exit, Failure};
use crate::output::trainer::indented;

/// Writes all files into `folder`, each whole or not at all:
///
/// * `eval_results.json`: every figure;
/// * `report.html`: the same for people, with answers;
/// * `generated_predictions.jsonl` and `predictions_score.json`, as LLaMA-Factory writes them; the base model's answers beside.
pub(super) fn write(folder: &Path, report: &Report) -> Result<(), Failure> {
    let failed = |error: StorageError| {
        Failure::new(
            Exit::Environment,
            format_args!("{error}; choose another folder with --output"),
        )
    };
    create_folder(folder).map_err(failed)?;
    let put = |name: &str, bytes: Vec<u8>| write_atomic(&folder.join(name), &bytes).map_err(failed);
    if let Some(subject) = report
        .subject()
        .filter(|subject| !subject.answers.is_empty())
    {
        put("generated_predictions.jsonl", lines(&subject.answers)?)?;
        put("predictions_score.json", json(&subject.scores)?)?;
    }
    if let (Some(base), Some(_)) = (&report.base, &report.adapted)
        && !base.answers.is_empty()
    {
        put("generated_predictions_base.jsonl", lines(&base.answers)?)?;
    }
    put("report.html", page::html(report).into_bytes())?;
    put("eval_results.json", json(&report.json())?)
}

fn lines(answers: &[Answer]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for answer in answers {
        serde_json::to_writer(&mut bytes, answer).map_err(|error| internal(&error))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    indented(value, b"    ").map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Internal, error)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::results::tests::report;
    use super::*;

    #[test]
    fn predictions_have_llama_factory_s_names_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/eval");
        write(&target, &report()).unwrap();
        let text = std::fs::read_to_string(target.join("generated_predictions.jsonl")).unwrap();
        assert_eq!(
            text,
            "{\"prompt\":\"What helps?\",\"predict\":\"Rest and <water>\",\"label\":\"Rest and <water>\"}\n"
        );
        let scores = std::fs::read(target.join("predictions_score.json")).unwrap();
        let scores: Value = serde_json::from_slice(&scores).unwrap();
        for key in ["bleu-4", "rouge-1", "rouge-2", "rouge-l"] {
            assert_eq!(scores[key], 100.0, "{key}");
        }
        let base =
            std::fs::read_to_string(target.join("generated_predictions_base.jsonl")).unwrap();
        assert!(base.contains("\"predict\":\"zz\""), "{base}");
    }
}
