//! Other tools' values for the same keys, written as weft writes them.

use serde_json::{Map, Value, json};

use super::Problem;
use super::section::{self, Section};

/// Rewrites values in place, and fills in what one key implies for another.
pub(super) fn normalize(tree: &mut Value, problems: &mut Vec<Problem>) {
    section::for_each(tree, |section, _, keys| {
        // `key:` with nothing after it means: as if the key were not there.
        keys.retain(|_, value| !value.is_null());
        match section {
            Section::Model => model(keys),
            Section::Lora => lora(keys),
            Section::Training => training(keys),
            Section::Resources => resources(keys),
            Section::Root | Section::Datasets => {}
        }
    });
    precision_flags(tree, problems);
}

fn model(keys: &mut Map<String, Value>) {
    rewrite(keys, "dtype", |dtype| {
        let dtype = dtype.as_str()?;
        let word = match dtype.strip_prefix("torch.").unwrap_or(dtype) {
            "bfloat16" => "bf16",
            "float16" | "half" => "fp16",
            "float32" | "float" => "fp32",
            _ => return None,
        };
        Some(json!(word))
    });
}

fn lora(keys: &mut Map<String, Value>) {
    if keys.get("target_modules") == Some(&json!(false)) {
        keys.shift_remove("target_modules");
    }
    rewrite(keys, "target_modules", |targets| match targets {
        // Axolotl's `lora_target_linear: true`.
        Value::Bool(true) => Some(json!("all-linear")),
        Value::String(text) => target_text(text),
        _ => None,
    });
    rewrite(keys, "use_gradient_checkpointing", |choice| match choice {
        Value::Bool(choice) => Some(json!(choice.to_string())),
        Value::String(text) if text == "none" => Some(json!("false")),
        _ => None,
    });
    rewrite(keys, "init_lora_weights", |init| {
        (*init == json!(true)).then(|| json!("kaiming"))
    });
}

/// LLaMA-Factory's `all` and its comma-separated names; anything with more than names in it is a regular expression.
fn target_text(text: &str) -> Option<Value> {
    let is_name = |name: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty() && name.chars().all(word)
    };
    if text == "all" {
        return Some(json!("all-linear"));
    }
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    names.iter().all(|name| is_name(name)).then(|| json!(names))
}

fn training(keys: &mut Map<String, Value>) {
    rewrite(keys, "optim", |optim| {
        let word = match optim.as_str()? {
            "adamw_bnb_8bit" | "paged_adamw_8bit" => "adamw_8bit",
            "adamw" | "adamw_hf" | "adamw_torch_fused" | "paged_adamw" | "paged_adamw_32bit" => {
                "adamw_torch"
            }
            _ => return None,
        };
        Some(json!(word))
    });
    // `warmup_steps` wins over `warmup_ratio`, so its default must not.
    if keys.contains_key("warmup_ratio") && !keys.contains_key("warmup_steps") {
        keys.insert("warmup_steps".to_owned(), json!(0));
    }
    if !keys.contains_key("gradient_accumulation_steps")
        && let Some(rows) = keys.get("global_batch_size").and_then(Value::as_u64)
    {
        let per_slot = keys
            .get("per_device_train_batch_size")
            .and_then(Value::as_u64);
        let default = super::TrainingSection::default().per_device_train_batch_size;
        let steps = rows
            .div_ceil(per_slot.unwrap_or(default.into()).max(1))
            .max(1);
        keys.insert("gradient_accumulation_steps".to_owned(), json!(steps));
    }
}

fn resources(keys: &mut Map<String, Value>) {
    // A number of bytes.
    rewrite(keys, "memory_limit", |limit| {
        limit.as_u64().map(|bytes| json!(bytes.to_string()))
    });
}

fn rewrite(keys: &mut Map<String, Value>, key: &str, to: impl FnOnce(&Value) -> Option<Value>) {
    if let Some(value) = keys.get_mut(key)
        && let Some(written) = to(value)
    {
        *value = written;
    }
}

/// `training.fp16` and `training.bf16` are Hugging Face's way to say `model.dtype`.
fn precision_flags(tree: &mut Value, problems: &mut Vec<Problem>) {
    let mut flags = Vec::new();
    if let Some(training) = tree.get_mut("training").and_then(Value::as_object_mut) {
        for flag in ["fp16", "bf16"] {
            match training.shift_remove(flag) {
                Some(Value::Bool(true)) => flags.push(flag),
                Some(Value::Bool(false)) | None => {}
                Some(value) => {
                    let what = "must be true or false";
                    problems.push(
                        Problem::new(format!("training.{flag}"), what, "set model.dtype instead")
                            .found(value),
                    );
                }
            }
        }
    }
    let [flag] = flags[..] else {
        if flags.len() > 1 {
            let remedy =
                "keep one of the two, or set model.dtype to auto, which takes what the GPU has";
            problems.push(Problem::new(
                "training.fp16",
                "is true, and so is training.bf16",
                remedy,
            ));
        }
        return;
    };
    let Some(model) = tree.get_mut("model").and_then(Value::as_object_mut) else {
        return;
    };
    match model.get("dtype") {
        Some(dtype) if *dtype != json!("auto") && *dtype != json!(flag) => {
            let what = format!("contradicts model.dtype, which is {dtype}");
            problems.push(
                Problem::new(
                    format!("training.{flag}"),
                    what,
                    "remove it; model.dtype decides",
                )
                .found(true),
            );
        }
        _ => {
            model.insert("dtype".to_owned(), json!(flag));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(mut tree: Value) -> (Value, Vec<Problem>) {
        let mut problems = Vec::new();
        normalize(&mut tree, &mut problems);
        (tree, problems)
    }

    fn one(section: &str, key: &str, value: Value) -> Value {
        normalized(json!({ section: { key: value } })).0[section][key].take()
    }

    #[test]
    fn other_tools_words_become_wefts() {
        let words = [
            ("model", "dtype", json!("torch.float16"), json!("fp16")),
            ("lora", "target_modules", json!("all"), json!("all-linear")),
            ("lora", "target_modules", json!(true), json!("all-linear")),
            (
                "lora",
                "target_modules",
                json!("q_proj, v_proj"),
                json!(["q_proj", "v_proj"]),
            ),
            (
                "lora",
                "target_modules",
                json!(".*\\.q_proj"),
                json!(".*\\.q_proj"),
            ),
            (
                "lora",
                "target_modules",
                json!("all-linear"),
                json!("all-linear"),
            ),
            (
                "lora",
                "use_gradient_checkpointing",
                json!(true),
                json!("true"),
            ),
            (
                "lora",
                "use_gradient_checkpointing",
                json!("unsloth"),
                json!("unsloth"),
            ),
            ("lora", "init_lora_weights", json!(true), json!("kaiming")),
            (
                "resources",
                "memory_limit",
                json!(6_657_199_308_u64),
                json!("6657199308"),
            ),
            (
                "training",
                "optim",
                json!("adamw_bnb_8bit"),
                json!("adamw_8bit"),
            ),
            (
                "training",
                "optim",
                json!("adamw_torch_fused"),
                json!("adamw_torch"),
            ),
        ];
        for (section, key, theirs, ours) in words {
            assert_eq!(one(section, key, theirs), ours);
        }
    }

    #[test]
    fn a_key_without_a_value_is_a_key_not_given() {
        assert_eq!(
            normalized(json!({"model": {"dtype": null}, "lora": null})).0,
            json!({"model": {}})
        );
    }

    #[test]
    fn a_warmup_ratio_is_not_undone_by_the_default_of_the_steps() {
        assert_eq!(one("training", "warmup_ratio", json!(0.1)), json!(0.1));
        let training = normalized(json!({"training": {"warmup_ratio": 0.1}})).0["training"].take();
        assert_eq!(training, json!({"warmup_ratio": 0.1, "warmup_steps": 0}));
    }

    #[test]
    fn a_global_batch_says_how_many_micro_batches_it_has() {
        let training =
            normalized(json!({"training": {"global_batch_size": 63}})).0["training"].take();
        assert_eq!(training["gradient_accumulation_steps"], json!(32));
    }

    #[test]
    fn precision_flags_become_the_dtype_unless_they_contradict() {
        let (tree, problems) =
            normalized(json!({"model": {}, "training": {"fp16": false, "bf16": true}}));
        assert_eq!(
            (tree, problems),
            (json!({"model": {"dtype": "bf16"}, "training": {}}), vec![])
        );
        let both = json!({"model": {}, "training": {"fp16": true, "bf16": true}});
        assert!(normalized(both).1[0].to_string().contains("training.bf16"));
        let mixed = json!({"model": {"dtype": "fp16"}, "training": {"bf16": true}});
        assert!(
            normalized(mixed).1[0]
                .to_string()
                .contains("contradicts model.dtype")
        );
    }
}
