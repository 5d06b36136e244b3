//! How llama.cpp calls the way in which a byte-level tokenizer cuts text.
//!
//! llama.cpp's converter knows vocabularies by a hash of their output; the pipeline itself says more, and says it of
//! vocabularies that nobody has seen before.

use serde_json::Value;

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.ggml.pre` of a `tokenizer.json`; the error says what was found.
pub(super) fn name(tokenizer: &Value) -> Result<&'static str, String> {
    let steps = &tokenizer["pre_tokenizer"];
    if is_bytes(steps, true) {
        return Ok("gpt-2");
    }
    let unknown = || {
        format!(
            "it cuts text in a way that llama.cpp has no name for ({steps}); it has names for those of GPT-2, SmolLM, \
             Llama 3, Qwen 2 and Mistral's Tekken. Export merged-16bit and convert that with llama.cpp"
        )
    };
    let pair = steps["pretokenizers"].as_array().map(Vec::as_slice);
    let Some([first, second]) = pair else {
        return Err(unknown());
    };
    if first["type"] == "Digits" && first["individual_digits"] == true && is_bytes(second, true) {
        return Ok("smollm");
    }
    if first["type"] != "Split" || first["behavior"] != "Isolated" || !is_bytes(second, false) {
        return Err(unknown());
    }
    match first["pattern"]["Regex"].as_str() {
        Some(LLAMA_3) => Ok("llama-bpe"),
        Some(QWEN_2) => Ok("qwen2"),
        Some(TEKKEN) => Ok("tekken"),
        _ => Err(unknown()),
    }
}

/// Whether a `tokenizer.json` turns text into letters that stand for bytes.
pub(super) fn is_byte_level(tokenizer: &Value) -> bool {
    let steps = &tokenizer["pre_tokenizer"];
    let inner = steps["pretokenizers"].as_array().into_iter().flatten();
    inner.chain([steps]).any(|step| step["type"] == "ByteLevel")
}

fn is_bytes(step: &Value, use_regex: bool) -> bool {
    let uses_regex = step["use_regex"].as_bool().unwrap_or(true);
    let adds_space = step["add_prefix_space"].as_bool().unwrap_or(true);
    step["type"] == "ByteLevel" && !adds_space && uses_regex == use_regex
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(use_regex: bool) -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": use_regex})
    }

    fn of(steps: Value) -> Result<&'static str, String> {
        name(&json!({"pre_tokenizer": steps}))
    }

    #[test]
    fn the_known_pipelines_have_their_names() {
        let sequence = |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        assert_eq!(of(bytes(true)), Ok("gpt-2"));
        assert_eq!(of(sequence(split(LLAMA_3), bytes(false))), Ok("llama-bpe"));
        assert_eq!(of(sequence(split(TEKKEN), bytes(false))), Ok("tekken"));
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(of(sequence(digits, bytes(true))), Ok("smollm"));
    }

    #[test]
    fn another_pipeline_is_refused_and_shown() {
        let refused = of(json!({"type": "Whitespace"})).unwrap_err();
        assert!(
            refused.contains("Whitespace") && refused.contains("llama.cpp"),
            "{refused}"
        );
    }
}
