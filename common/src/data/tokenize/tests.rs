//! Tokenizers of all sources against a small vocabulary trained here, and the quick way against the general one.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::data::testing::{byte_level, tokenizer_folder, tokenizer_json};

fn pipelines() -> Vec<Value> {
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let sequence =
        |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
    vec![
        byte_level(true),
        sequence(
            json!({"type": "Digits", "individual_digits": true}),
            byte_level(true),
        ),
        sequence(split(pieces::LLAMA_3), byte_level(false)),
        sequence(split(pieces::QWEN_2), byte_level(false)),
    ]
}

fn with_pipeline(pre_tokenizer: &Value) -> ChatTokenizer {
    let folder = tokenizer_folder();
    folder.write("tokenizer.json", &tokenizer_json(pre_tokenizer));
    folder.load("auto").unwrap()
}

/// Ids must be equal, and each quick range must lie within the general one (which widens to whole characters).
fn assert_same(tokenizer: &ChatTokenizer, text: &str) {
    let (quick, general) = (
        tokenizer.encode_with_offsets(text, false),
        tokenizer.encode_generally(text, false),
    );
    assert_eq!(quick.ids, general.ids, "{text:?}");
    for (quick, general) in quick.offsets.iter().zip(&general.offsets) {
        assert!(
            general.start <= quick.start && quick.end <= general.end,
            "{text:?}: {quick:?} {general:?}"
        );
    }
}

#[test]
fn the_quick_way_is_taken_for_every_known_pipeline() {
    for pipeline in pipelines() {
        assert!(
            byte_pairs::BytePairs::recognise(&tokenizer_json(&pipeline)).is_some(),
            "{pipeline}"
        );
    }
    assert!(byte_pairs::BytePairs::recognise(&tokenizer_json(&byte_level(false))).is_none());
}

#[test]
fn the_quick_way_cuts_hard_text_as_the_general_one() {
    let hard = [
        "he's HE'S they'RE 'tis '' 's 'ſt 'Dx",
        "a  b   c \n\n d\r\n\r\n  e\t\tf \n",
        "12345 x12 ٣٤٥ ½² Ⅷ",
        "  leading, trailing   ",
        "...!!!\n\n?? $%^\r\n=> ->x",
        "naïve café 日本語 👩‍👩‍👧 ẞ ǅ",
        "<s>x<|im_start|>user\nhello<|im_end|>\n<|im_end",
        "\u{85}\u{a0}\u{2028}a\u{feff}\u{3000}b",
        "",
    ];
    for pipeline in pipelines() {
        let tokenizer = with_pipeline(&pipeline);
        hard.iter().for_each(|text| assert_same(&tokenizer, text));
    }
}

proptest! {
    #[test]
    fn the_quick_way_is_the_general_one_on_any_text(
        parts in prop::collection::vec(
            prop_oneof![
                "\\PC{0,4}", "[ \\t\\r\\n]{1,4}", "[a-zA-Z']{1,6}", "[0-9]{1,5}", "[!-/:-@]{1,3}", Just("<|im_end|>".to_owned()),
                "[\u{80}-\u{ffff}]{0,3}"
            ],
            0..12,
        )
    ) {
        thread_local! {
            static TOKENIZERS: Vec<ChatTokenizer> = pipelines().iter().map(with_pipeline).collect();
        }
        let text = parts.concat();
        TOKENIZERS.with(|tokenizers| tokenizers.iter().for_each(|tokenizer| assert_same(tokenizer, &text)));
    }
}

#[test]
fn a_saved_tokenizer_loads_to_the_same_one_and_its_own_truncation_is_ignored() {
    let original = tokenizer_folder().load("chatml").unwrap();
    assert_eq!(
        original
            .encode("hello hello hello hello hello", false)
            .len(),
        5
    );
    let saved = tempfile::tempdir().unwrap();
    original.save_pretrained(saved.path()).unwrap();
    let again = ChatTokenizer::load(saved.path(), None, "auto").unwrap();
    assert_eq!(again.digest(), original.digest());
    assert_eq!(again.template_digest(), original.template_digest());
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ] {
        assert!(saved.path().join(name).is_file(), "{name}");
    }
}

#[test]
fn ends_come_from_config_tokenizer_and_template() {
    let folder = tokenizer_folder();
    folder.write("generation_config.json", &json!({"eos_token_id": [3, 5]}));
    folder.write("config.json", &json!({"eos_token_id": 3}));
    let tokenizer = folder.load("chatml").unwrap();
    assert_eq!(
        tokenizer.eos_ids(),
        [3, 5, tokenizer.token_id("<|im_end|>").unwrap()]
    );
}

#[test]
fn a_template_is_found_wherever_hugging_face_puts_it() {
    let folder = tokenizer_folder();
    let prints = |text: &str| {
        format!("{{{{ '{text}' }}}}{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}")
    };
    let message = [super::super::chat::Message::user("!")];
    let named = json!([{"name": "tool_use", "template": prints("tool")}, {"name": "default", "template": prints("list")}]);
    folder.write("tokenizer_config.json", &json!({"chat_template": named}));
    assert_eq!(
        folder
            .load("auto")
            .unwrap()
            .render(&message, false)
            .unwrap(),
        "list!"
    );
    std::fs::write(folder.path().join("chat_template.jinja"), prints("file")).unwrap();
    assert_eq!(
        folder
            .load("auto")
            .unwrap()
            .render(&message, false)
            .unwrap(),
        "file!"
    );
    let own: PathBuf = folder.path().join("own.jinja");
    std::fs::write(&own, prints("own")).unwrap();
    assert_eq!(
        folder
            .load(own.to_str().unwrap())
            .unwrap()
            .render(&message, false)
            .unwrap(),
        "own!"
    );
}

#[test]
fn tokens_that_the_tokenizer_lacks_are_named() {
    let error = tokenizer_folder().load("llama-3").unwrap_err();
    assert!(
        error.contains("<|start_header_id|>, <|end_header_id|>, <|eot_id|>"),
        "{error}"
    );
    let folder = tokenizer_folder();
    let own = "{% for m in messages %}{{ '<|user|>' + m.content }}{% endfor %}";
    folder.write("tokenizer_config.json", &json!({"chat_template": own}));
    assert!(folder.load("auto").unwrap_err().contains("lacks: <|user|>"));
    folder.write("tokenizer_config.json", &json!({}));
    assert!(
        folder
            .load("mistral")
            .unwrap_err()
            .contains("lacks: bos_token, eos_token")
    );
}

#[test]
fn missing_things_are_errors_with_a_remedy() {
    let empty = tempfile::tempdir().unwrap();
    let error = ChatTokenizer::load(empty.path(), None, "auto")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has no tokenizer.json") && error.contains("model.tokenizer"),
        "{error}"
    );
    let error = tokenizer_folder().load("nonsense").unwrap_err();
    assert!(
        error.contains("`nonsense` is neither") && error.contains("llama-3.1"),
        "{error}"
    );
    let tokenizer = tokenizer_folder().load("auto").unwrap();
    assert!(
        tokenizer
            .template()
            .unwrap_err()
            .to_string()
            .contains("no chat template")
    );
    let folder = tokenizer_folder();
    std::fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
    assert!(folder.load("auto").unwrap_err().contains("cannot be used"));
}
