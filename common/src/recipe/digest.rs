//! The digest of what in a recipe decides the result.

use serde_json::{Map, Value, json};

use super::Recipe;
use crate::id::Digest;

/// Keys that no bit of the adapter depends on: where things are and go, when they are reported and saved, how fast the
/// work is done. What is in the files behind the paths has digests of its own (base model, dataset, tokenizer, template).
const WITHOUT_EFFECT: [&str; 14] = [
    "/model/base_model",
    "/model/tokenizer",
    "/model/chat_template",
    "/lora/use_gradient_checkpointing",
    "/training/packing",
    "/training/output_dir",
    "/training/storage",
    "/training/save_steps",
    "/training/save_total_limit",
    "/training/logging_steps",
    "/training/dataset_num_proc",
    "/training/global_batch_size",
    "/training/gradient_accumulation_steps",
    "/training/batch_scaling",
];

impl Recipe {
    /// Digest over everything that decides the result. Two recipes that say the same in different words, such as a
    /// global batch as product or outright, have the same digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut tree = serde_json::to_value(self)
            .expect("a recipe holds only numbers, text, lists and maps with text keys");
        for pointer in WITHOUT_EFFECT {
            remove(&mut tree, pointer);
        }
        // Nothing is trained on these; a recipe without them has no such key.
        if let Some(sections) = tree.as_object_mut() {
            sections.remove("eval_datasets");
        }
        for dataset in tree["datasets"].as_array_mut().into_iter().flatten() {
            remove(dataset, "/path");
        }
        tree["training"]["rows_per_step"] = json!(self.rows_per_step());
        tree["training"]["max_steps"] = json!(self.training.max_steps());
        tree["training"]["data_seed"] = json!(self.training.data_seed());
        tree["lora"]["random_state"] = json!(self.adapter_seed());
        tree["resources"] = json!({ "max_slots": self.max_slots() });
        Digest::of(sorted(tree).to_string().as_bytes())
    }
}

fn remove(tree: &mut Value, pointer: &str) {
    let (parent, key) = pointer
        .rsplit_once('/')
        .expect("every pointer starts with a slash");
    let parent = tree.pointer_mut(parent).and_then(Value::as_object_mut);
    let removed = parent.and_then(|keys| keys.shift_remove(key));
    debug_assert!(removed.is_some(), "{pointer} is no key of a recipe");
}

/// The same tree with the keys of every mapping in alphabetical order, so that moving a field changes no digest.
fn sorted(tree: Value) -> Value {
    match tree {
        Value::Object(keys) => {
            let mut keys: Vec<(String, Value)> = keys.into_iter().collect();
            keys.sort_by(|(a, _), (b, _)| a.cmp(b));
            let keys = keys.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(keys.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        leaf => leaf,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn digest(training: &str, rest: &str) -> Digest {
        let text = format!(
            "model: {{base_model: m}}\ndatasets: [{{path: d.csv}}]\ntraining: {{{training}}}\n{rest}"
        );
        Recipe::parse(&text, Format::Yaml).unwrap().digest()
    }

    #[test]
    fn what_does_not_decide_the_result_does_not_change_the_digest() {
        let plain = digest("", "");
        assert_eq!(
            digest(
                "output_dir: elsewhere, storage: 's3://runs', save_steps: 7, logging_steps: 3, max_steps: 0",
                ""
            ),
            plain
        );
        assert_eq!(
            digest(
                "global_batch_size: 8, data_seed: 3407",
                "resources: {workers: {min: 2, max: 4}}"
            ),
            plain
        );
        assert_eq!(
            digest(
                "",
                "lora: {use_gradient_checkpointing: true, random_state: 3407}"
            ),
            plain
        );
    }

    #[test]
    fn what_decides_the_result_changes_the_digest() {
        let plain = digest("", "");
        for training in [
            "seed: 1",
            "learning_rate: 1e-4",
            "global_batch_size: 16",
            "data_seed: 1",
            "max_steps: 60",
        ] {
            assert_ne!(digest(training, ""), plain, "{training}");
        }
        assert_ne!(digest("", "lora: {r: 8}"), plain);
        assert_ne!(digest("", "resources: {workers: {max: 8}}"), plain);
    }
}
