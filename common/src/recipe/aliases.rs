//! Other tools' names for the same keys: TRL, Axolotl, LLaMA-Factory, torchtune and the Unsloth CLI.

use serde_json::{Map, Value};

use super::Problem;
use super::section::{self, EVAL_DATASETS, Section};

/// Other spellings of a section's keys: `(spelling, canonical key)`.
pub(super) const fn of(section: Section) -> &'static [(&'static str, &'static str)] {
    match section {
        Section::Root => &[
            ("model_config", "model"),
            ("lora_config", "lora"),
            ("peft_config", "lora"),
            ("dataset", "datasets"),
            ("training_dataset", "datasets"),
            ("eval_dataset", "eval_datasets"),
            ("test_datasets", "eval_datasets"),
            ("validation_dataset", "eval_datasets"),
            ("training_config", "training"),
            ("training_arguments", "training"),
        ],
        Section::Model => &[
            ("model_name", "base_model"),
            ("model_name_or_path", "base_model"),
            ("max_length", "max_seq_length"),
            ("max_seq_len", "max_seq_length"),
            ("sequence_len", "max_seq_length"),
            ("cutoff_len", "max_seq_length"),
            ("torch_dtype", "dtype"),
            ("template", "chat_template"),
        ],
        Section::Lora => &[
            ("lora_r", "r"),
            ("lora_rank", "r"),
            ("rank", "r"),
            ("lora_target_modules", "target_modules"),
            ("lora_target", "target_modules"),
            ("lora_target_linear", "target_modules"),
            ("peft_use_rslora", "use_rslora"),
            ("gradient_checkpointing", "use_gradient_checkpointing"),
            ("random_seed", "random_state"),
            ("seed", "random_state"),
        ],
        Section::Datasets => &[
            ("name", "path"),
            ("dataset_name", "path"),
            ("dataset_text_field", "text_field"),
            ("input_field", "text_field"),
            ("max_samples", "limit"),
        ],
        Section::Training => &[
            ("micro_batch_size", "per_device_train_batch_size"),
            ("batch_size", "per_device_train_batch_size"),
            ("num_epochs", "num_train_epochs"),
            ("epochs", "num_train_epochs"),
            ("lr", "learning_rate"),
            ("lr_scheduler", "lr_scheduler_type"),
            ("optimizer", "optim"),
            ("random_seed", "seed"),
            ("random_state", "seed"),
            ("clip_grad_norm", "max_grad_norm"),
            ("sample_packing", "packing"),
            ("train_on_completions", "train_on_responses_only"),
        ],
        Section::Resources => &[],
    }
}

/// The canonical name of `key`; itself where it is no alias.
pub(super) fn canonical(section: Section, key: &str) -> &str {
    let known = of(section).iter().find(|(alias, _)| *alias == key);
    known.map_or(key, |(_, canonical)| canonical)
}

/// Gives every key its canonical name.
pub(super) fn rename(tree: &mut Value, problems: &mut Vec<Problem>) {
    if let Value::Object(root) = tree {
        rename_keys(Section::Root, "", root, problems);
        for key in ["datasets", EVAL_DATASETS] {
            if let Some(datasets) = root.get_mut(key) {
                as_list(datasets);
            }
        }
    }
    section::for_each(tree, |section, path, keys| {
        if section != Section::Root {
            rename_keys(section, path, keys, problems);
        }
    });
}

fn rename_keys(
    section: Section,
    path: &str,
    keys: &mut Map<String, Value>,
    problems: &mut Vec<Problem>,
) {
    let mut spelled: Map<String, Value> = Map::new();
    let mut spellings: Vec<(String, String)> = Vec::new();
    for (spelling, value) in std::mem::take(keys) {
        let key = canonical(section, &spelling).to_owned();
        if let Some((_, earlier)) = spellings.iter().find(|(known, _)| *known == key) {
            problems.push(given_twice(path, earlier, &spelling));
            continue;
        }
        spellings.push((key.clone(), spelling));
        spelled.insert(key, value);
    }
    *keys = spelled;
}

fn given_twice(path: &str, earlier: &str, later: &str) -> Problem {
    Problem::new(
        section::join(path, later),
        format!(
            "means the same as `{}`, which is given too",
            section::join(path, earlier)
        ),
        "keep one of the two",
    )
}

/// One dataset may be written without its list, and as nothing but its path.
fn as_list(datasets: &mut Value) {
    if matches!(datasets, Value::Object(_) | Value::String(_)) {
        *datasets = Value::Array(vec![datasets.take()]);
    }
    let items = datasets.as_array_mut().into_iter().flatten();
    for item in items.filter(|item| item.is_string()) {
        let path = item.take();
        *item = serde_json::json!({ "path": path });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn renamed(mut tree: Value) -> (Value, Vec<Problem>) {
        let mut problems = Vec::new();
        rename(&mut tree, &mut problems);
        (tree, problems)
    }

    #[test]
    fn every_spelling_becomes_the_canonical_key() {
        for section in Section::ALL {
            for (alias, canonical) in of(section) {
                let wrap = |key: &str| match section {
                    Section::Root => json!({ key: [1] }),
                    Section::Datasets => json!({"datasets": [{ key: 1 }]}),
                    _ => json!({ section.key(): { key: 1 } }),
                };
                let (tree, problems) = renamed(wrap(alias));
                assert_eq!((tree, problems), (wrap(canonical), vec![]), "{alias}");
            }
        }
    }

    #[test]
    fn a_notebooks_configuration_with_one_dataset_is_read() {
        let (tree, problems) = renamed(json!({
            "model_config": {"model_name": "m"},
            "training_dataset": {"name": "d.csv", "input_field": "prompt"},
        }));
        let expected = json!({"model": {"base_model": "m"}, "datasets": [{"path": "d.csv", "text_field": "prompt"}]});
        assert_eq!((tree, problems), (expected, vec![]));
        assert_eq!(
            renamed(json!({"dataset": "d.csv"})).0,
            json!({"datasets": [{"path": "d.csv"}]})
        );
    }

    #[test]
    fn two_spellings_of_one_key_are_refused_by_both_names() {
        let (_, problems) = renamed(json!({"training": {"batch_size": 2, "micro_batch_size": 4}}));
        let problem = problems[0].to_string();
        assert!(
            problem.contains("training.batch_size")
                && problem.contains("training.micro_batch_size"),
            "{problem}"
        );
    }
}
