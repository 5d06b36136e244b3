//! The files of the quickstart hold what its README says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tokenizers::Tokenizer;

const MODEL_BYTES_MAX: u64 = 3_000_000;
const ROWS_MIN: usize = 300;

fn quickstart() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rows() -> Vec<(String, String)> {
    let text = fs::read_to_string(quickstart().join("medical_qa.jsonl")).unwrap();
    let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (field(&row, "question"), field(&row, "answer")))
        .collect()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_file(quickstart().join("model/tokenizer.json")).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(quickstart().join("model").join(name)).unwrap())
        .unwrap()
}

#[test]
fn model_folder_is_small_and_complete() {
    let sizes: Vec<(String, u64)> = fs::read_dir(quickstart().join("model"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.metadata().unwrap().len(),
            )
        })
        .collect();

    let names: BTreeSet<&str> = sizes.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    assert!(total < MODEL_BYTES_MAX, "{total} bytes");
}

#[test]
fn rows_are_many_distinct_and_not_empty() {
    let rows = rows();

    assert!(rows.len() >= ROWS_MIN, "{} rows", rows.len());
    let questions: BTreeSet<&str> = rows.iter().map(|(question, _)| question.as_str()).collect();
    let answers: BTreeSet<&str> = rows.iter().map(|(_, answer)| answer.as_str()).collect();
    assert_eq!((questions.len(), answers.len()), (rows.len(), rows.len()));
    assert!(
        rows.iter()
            .all(|(question, answer)| question.ends_with('?') && answer.len() > 40)
    );
}

#[test]
fn corpus_holds_none_of_the_rows() {
    let mut corpus = String::new();
    for folder in ["prose", "questions", "grammar"] {
        for entry in fs::read_dir(quickstart().join("corpus").join(folder)).unwrap() {
            corpus += &fs::read_to_string(entry.unwrap().path()).unwrap();
        }
    }

    for (question, answer) in rows() {
        assert!(
            !corpus.contains(&question) && !corpus.contains(&answer),
            "{question}"
        );
    }
}

#[test]
fn tokenizer_gives_every_row_back_and_fits_the_vocabulary() {
    let tokenizer = tokenizer();
    let vocabulary = json("config.json")["vocab_size"].as_u64().unwrap();

    assert_eq!(tokenizer.get_vocab_size(true) as u64, vocabulary);
    for text in rows()
        .into_iter()
        .flat_map(|(question, answer)| [question, answer])
    {
        let encoding = tokenizer.encode(text.as_str(), false).unwrap();
        assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
    }
}

#[test]
fn special_tokens_of_the_configs_are_single_tokens() {
    let tokenizer = tokenizer();
    let (model, words) = (json("config.json"), json("tokenizer_config.json"));

    for (key, id) in [("eos_token", "eos_token_id"), ("pad_token", "pad_token_id")] {
        let token = words[key].as_str().unwrap();
        assert_eq!(
            tokenizer.token_to_id(token).map(u64::from),
            model[id].as_u64(),
            "{token}"
        );
        let encoding = tokenizer.encode(token, false).unwrap();
        assert_eq!(encoding.len(), 1, "{token}");
    }
    assert!(
        words["chat_template"]
            .as_str()
            .unwrap()
            .contains("{% generation %}")
    );
}
