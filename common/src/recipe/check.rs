//! Holds a tree against the JSON schema that the recipe's types generate, and collects everything that does not fit.
//!
//! Deserializing alone would stop at the first mistake and speak of Rust types. Walking the schema finds all of them,
//! and says what is expected in the words of the schema, which is what `weft schema` prints.

use serde_json::{Map, Value};

use super::schema::{Schema, schema};
use super::section::{self, Section};
use super::{Problem, suggest};

/// Appends what does not fit to `problems`.
pub(super) fn check(tree: &Value, problems: &mut Vec<Problem>) {
    let schema = schema();
    let mut checker = Checker {
        schema: Schema(schema),
        problems,
    };
    checker.value("", tree, schema);
}

struct Checker<'a> {
    schema: Schema<'a>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, path: &str, value: &Value, outer: &'a Value) {
        let schema = self.schema.resolve(outer);
        if value.is_null() && self.schema.allows_null(schema) {
            return;
        }
        let (object, array) = (
            self.schema.variant(schema, "object"),
            self.schema.variant(schema, "array"),
        );
        match (value, object, array) {
            (Value::Object(keys), Some(schema), _) => self.object(path, keys, schema),
            (Value::Array(items), _, Some(schema)) => self.array(path, items, schema, outer),
            _ if self.schema.fits(value, schema) => {}
            _ => self.misfit(path, value, outer),
        }
    }

    fn object(&mut self, path: &str, keys: &Map<String, Value>, schema: &'a Value) {
        let properties = schema["properties"].as_object();
        for (key, value) in keys {
            let key_path = section::join(path, key);
            match properties.and_then(|properties| properties.get(key)) {
                Some(property) => self.value(&key_path, value, property),
                None if schema["additionalProperties"].is_object() => {
                    self.value(&key_path, value, &schema["additionalProperties"]);
                }
                None => {
                    let keys = self.schema.section_keys(schema);
                    let problem = suggest::unknown_key(key_path, key, section_at(path), &keys);
                    self.problems.push(problem);
                }
            }
        }
        let required = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        for key in required.filter(|key| !keys.contains_key(*key)) {
            let description = schema["properties"][key]["description"]
                .as_str()
                .unwrap_or_default();
            let problem = Problem::new(
                section::join(path, key),
                "is missing",
                format!("add it: {description}"),
            );
            self.problems.push(problem);
        }
    }

    fn array(&mut self, path: &str, items: &[Value], schema: &'a Value, outer: &'a Value) {
        let count = items.len() as u64;
        let too_few = schema["minItems"]
            .as_u64()
            .is_some_and(|least| count < least);
        let too_many = schema["maxItems"].as_u64().is_some_and(|most| count > most);
        if too_few || too_many {
            return self.misfit(path, &Value::Array(items.to_vec()), outer);
        }
        for (index, item) in items.iter().enumerate() {
            let item_schema = schema["prefixItems"].get(index).unwrap_or(&schema["items"]);
            self.value(&format!("{path}[{index}]"), item, item_schema);
        }
    }

    fn misfit(&mut self, path: &str, value: &Value, outer: &'a Value) {
        let schema = self.schema.resolve(outer);
        let choices = self.schema.choices(schema);
        let near = value
            .as_str()
            .and_then(|word| suggest::choice(word, &choices));
        let remedy = match (near, &outer["default"]) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Value::Null) => "correct the value".to_owned(),
            (None, Value::Array(_) | Value::Object(_)) => {
                "correct the value, or remove the key to get the default".to_owned()
            }
            (None, default) => {
                format!("correct the value, or remove the key to get the default {default}")
            }
        };
        let what = format!("must be {}", self.schema.expected(schema));
        let problem = Problem::new(path, what, remedy).found(value);
        self.problems.push(problem);
    }
}

/// The section that `path` is, where it is one.
fn section_at(path: &str) -> Option<Section> {
    if path.is_empty() {
        return Some(Section::Root);
    }
    let name = path.split_once('[').map_or(path, |(name, _)| name);
    Section::from_key(name).filter(|_| !path.contains('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(tree: Value) -> Vec<String> {
        let mut problems = Vec::new();
        check(&tree, &mut problems);
        problems.iter().map(Problem::to_string).collect()
    }

    fn with(section: &str, keys: Value) -> Vec<String> {
        let mut tree = json!({"model": {"base_model": "m"}, "datasets": [{"path": "d.csv"}]});
        tree[section] = keys;
        problems(tree)
    }

    #[test]
    fn a_recipe_of_defaults_fits() {
        assert_eq!(with("training", json!({})), [""; 0]);
        assert_eq!(
            with(
                "datasets",
                json!([{"path": "d", "slices": [[null, 5], [-5, null]], "speakers": ["A", "B"]}])
            ),
            [""; 0]
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        let texts = with("training", json!({"learning_rte": 1e-4}));
        assert_eq!(
            texts,
            ["training.learning_rte: unknown key; did you mean `learning_rate`?"]
        );
        let texts = with("resources", json!({"workers": {"mx": 1}}));
        assert_eq!(
            texts,
            ["resources.workers.mx: unknown key; did you mean `max`?"]
        );
    }

    #[test]
    fn a_key_of_another_section_is_sent_home() {
        let texts = with("training", json!({"r": 8, "cutoff_len": 64, "max_step": 1}));
        assert_eq!(
            texts[0],
            "training.r: unknown key; `r` belongs in `lora`: move it there"
        );
        assert_eq!(
            texts[1],
            "training.cutoff_len: unknown key; `max_seq_length` belongs in `model`: move it there"
        );
        assert_eq!(
            texts[2],
            "training.max_step: unknown key; did you mean `max_steps`?"
        );
        assert!(with("max_steps", json!(60))[0].contains("belongs in `training`"));
    }

    #[test]
    fn a_key_unlike_any_other_lists_what_there_is() {
        let text = &with("resources", json!({"zzzzzz": 1}))[0];
        assert!(
            text.ends_with("the keys here are workers, memory_limit"),
            "{text}"
        );
    }

    #[test]
    fn wrong_types_and_ranges_are_said_in_the_recipes_words() {
        let texts = with(
            "training",
            json!({
                "learning_rate": "fast", "max_steps": 1.5, "adam_beta1": 1, "per_device_train_batch_size": 0,
                "seed": -1, "packing": "yes", "logging_steps": 5_000_000_000_u64,
            }),
        );
        assert_eq!(
            texts[0],
            "training.learning_rate = \"fast\": must be a number, above 0; correct the value, or remove the key to get the default 0.0002"
        );
        assert!(
            texts[1].starts_with("training.max_steps = 1.5: must be a whole number;"),
            "{texts:?}"
        );
        assert!(texts[2].contains("at least 0 and below 1"), "{texts:?}");
        assert!(texts[3].contains("at least 1"), "{texts:?}");
        assert!(texts[4].contains("at least 0"), "{texts:?}");
        assert!(texts[5].contains("true or false"), "{texts:?}");
        assert_eq!(texts.len(), 6);
        assert!(with("lora", json!({"r": 5_000_000_000_u64}))[0].contains("whole number"));
    }

    #[test]
    fn a_word_that_is_no_choice_names_the_choices_or_the_nearest() {
        let texts = with(
            "training",
            json!({"lr_scheduler_type": "cosin", "optim": "lion"}),
        );
        assert!(
            texts[0].contains("one of linear, cosine")
                && texts[0].ends_with("did you mean `cosine`?"),
            "{texts:?}"
        );
        assert!(
            texts[1].contains("one of adamw_8bit, adamw_torch"),
            "{texts:?}"
        );
        let texts = with("datasets", json!([{"path": "d", "kind": "alpaka"}]));
        assert!(texts[0].contains("did you mean `alpaca`?"), "{texts:?}");
    }

    #[test]
    fn missing_sections_and_keys_are_named() {
        assert!(
            problems(json!({}))
                .iter()
                .any(|text| text.starts_with("model: is missing; add it: "))
        );
        assert!(with("model", json!({}))[0].starts_with("model.base_model: is missing"));
        assert!(with("datasets", json!([{}]))[0].starts_with("datasets[0].path: is missing"));
        assert!(with("datasets", json!([]))[0].contains("a list of at least 1 items"));
        assert!(with("model", json!("llama"))[0].contains("a mapping of keys to values"));
    }

    #[test]
    fn a_list_where_text_is_expected_is_refused_by_its_place() {
        assert!(
            with("lora", json!({"target_modules": ["q_proj", 1]}))[0]
                .starts_with("lora.target_modules[1] = 1: must be text")
        );
        assert!(
            with("lora", json!({"target_modules": 1}))[0]
                .contains("a list of items, each text or text")
        );
        assert!(
            with("datasets", json!([{"path": "d", "slices": [[1]]}]))[0]
                .contains("a list of 2 items")
        );
    }

    #[test]
    fn every_key_of_the_schema_is_described() {
        fn walk(path: &str, schema: &Value) {
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                assert!(property["description"].is_string(), "{path}.{key}");
            }
        }
        let schema = schema();
        walk("recipe", schema);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            walk(name, definition);
        }
    }
}
