//! Holds a tree against the JSON schema that the recipe's types generate, and collects everything that does not fit.
//!
//! Deserializing alone would stop at the first mistake and speak of Rust types. Walking the schema finds all of them,
//! and says what is expected in the words of the schema, which is what `weft schema` prints.

use serde_json::{Map, Value};

use super::section::{self, Section};
use super::{Problem, Recipe, suggest};

/// The JSON schema of a recipe, with descriptions, ranges and defaults.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Recipe).to_value()
}

/// Appends what does not fit to `problems`.
pub(super) fn check(tree: &Value, problems: &mut Vec<Problem>) {
    let schema = schema();
    let mut checker = Checker {
        schema: &schema,
        problems,
    };
    checker.value("", tree, &schema);
}

/// The legal keys of each section, and of the mapping that is being checked.
pub(super) struct SectionKeys {
    sections: Vec<(Section, Vec<String>)>,
    pub(super) here: Vec<String>,
}

impl SectionKeys {
    pub(super) fn of(&self, section: Section) -> &[String] {
        let known = self.sections.iter().find(|(known, _)| *known == section);
        known.map_or(&[], |(_, keys)| keys)
    }
}

struct Checker<'a> {
    schema: &'a Value,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, path: &str, value: &Value, outer: &'a Value) {
        let schema = self.resolve(outer);
        if value.is_null() && self.allows_null(schema) {
            return;
        }
        let (object, array) = (
            self.variant(schema, "object"),
            self.variant(schema, "array"),
        );
        match (value, object, array) {
            (Value::Object(keys), Some(schema), _) => self.object(path, keys, schema),
            (Value::Array(items), _, Some(schema)) => self.array(path, items, schema, outer),
            _ if self.fits(value, schema) => {}
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
                    let keys = self.section_keys(schema);
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
        let schema = self.resolve(outer);
        let choices = self.choices(schema);
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
        let what = format!("must be {}", self.expected(schema));
        let problem = Problem::new(path, what, remedy).found(value);
        self.problems.push(problem);
    }

    /// Whether a value that is neither object nor array is of the right type and within its range.
    fn fits(&self, value: &Value, schema: &'a Value) -> bool {
        if let Some(constant) = schema.get("const") {
            return value == constant;
        }
        if let Some(variants) = variants(schema) {
            return variants
                .iter()
                .any(|variant| self.fits(value, self.resolve(variant)));
        }
        match value {
            Value::Bool(_) => is_type(schema, "boolean"),
            Value::String(_) => is_type(schema, "string"),
            Value::Number(number) if is_type(schema, "integer") => {
                let fits_u32 = || {
                    number
                        .as_u64()
                        .is_none_or(|number| u32::try_from(number).is_ok())
                };
                let fits_i64 = || number.as_i64().is_some();
                let representable = match schema["format"].as_str() {
                    Some("uint32") => fits_u32(),
                    Some("int64") => fits_i64(),
                    _ => true,
                };
                !number.is_f64() && representable && in_range(number.as_f64(), schema)
            }
            Value::Number(number) => is_type(schema, "number") && in_range(number.as_f64(), schema),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }

    /// What the schema asks for, in words.
    fn expected(&self, schema: &'a Value) -> String {
        let choices = self.choices(schema);
        if !choices.is_empty() {
            return format!("one of {}", choices.join(", "));
        }
        if let Some(variants) = variants(schema) {
            let words = variants.iter().map(|variant| self.resolve(variant));
            let words = words
                .filter(|variant| !self.allows_null(variant))
                .map(|variant| self.expected(variant));
            return words.collect::<Vec<_>>().join(" or ");
        }
        if is_type(schema, "array") {
            return self.expected_list(schema);
        }
        let word = [
            ("boolean", "true or false"),
            ("string", "text"),
            ("integer", "a whole number"),
            ("number", "a number"),
            ("object", "a mapping of keys to values"),
        ];
        let word = word
            .iter()
            .find(|(name, _)| is_type(schema, name))
            .map_or("a value", |(_, word)| word);
        format!("{word}{}", range_in_words(schema))
    }

    fn expected_list(&self, schema: &'a Value) -> String {
        let item = schema["prefixItems"].get(0).unwrap_or(&schema["items"]);
        let item = self.expected(self.resolve(item));
        match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
            (Some(least), Some(most)) if least == most => {
                format!("a list of {least} items, each {item}")
            }
            (Some(least), _) => format!("a list of at least {least} items, each {item}"),
            (None, _) => format!("a list of items, each {item}"),
        }
    }

    /// The words of an enumeration; empty for anything else.
    fn choices(&self, schema: &'a Value) -> Vec<&'a str> {
        let variants = variants(schema)
            .unwrap_or_default()
            .iter()
            .map(|variant| self.resolve(variant));
        let mut words = Vec::new();
        for variant in variants {
            match &variant["const"] {
                Value::String(word) => words.push(word.as_str()),
                _ => words.extend(self.choices(variant)),
            }
        }
        words
    }

    /// The schema itself or the one of its variants that is of type `name`.
    fn variant(&self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        if is_type(schema, name) {
            return Some(schema);
        }
        let mut variants = variants(schema)?
            .iter()
            .map(|variant| self.resolve(variant));
        variants.find(|variant| is_type(variant, name))
    }

    fn allows_null(&self, schema: &'a Value) -> bool {
        self.variant(schema, "null").is_some()
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self
                .schema
                .pointer(reference.trim_start_matches('#'))
                .unwrap_or(schema),
            None => schema,
        }
    }

    fn section_keys(&self, here: &Value) -> SectionKeys {
        let keys_of = |schema: &Value| {
            let properties = schema["properties"].as_object();
            properties
                .into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect()
        };
        let sections = Section::ALL.map(|section| {
            let property = &self.schema["properties"][section.key()];
            let schema = match section {
                Section::Root => self.schema,
                Section::Datasets => self.resolve(&property["items"]),
                _ => self.resolve(property),
            };
            (section, keys_of(schema))
        });
        SectionKeys {
            sections: sections.to_vec(),
            here: keys_of(here),
        }
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

fn variants(schema: &Value) -> Option<&[Value]> {
    let list = schema["anyOf"]
        .as_array()
        .or_else(|| schema["oneOf"].as_array());
    list.map(Vec::as_slice)
}

fn is_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(only) => only == name,
        Value::Array(names) => names.iter().any(|known| known == name),
        _ => false,
    }
}

fn in_range(number: Option<f64>, schema: &Value) -> bool {
    let Some(number) = number else { return false };
    let holds = |key: &str, test: fn(&f64, &f64) -> bool| {
        schema[key]
            .as_f64()
            .is_none_or(|bound| test(&number, &bound))
    };
    holds("minimum", f64::ge)
        && holds("maximum", f64::le)
        && holds("exclusiveMinimum", f64::gt)
        && holds("exclusiveMaximum", f64::lt)
}

fn range_in_words(schema: &Value) -> String {
    let words = [
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ];
    let bounds = words
        .iter()
        .filter_map(|(key, word)| Some(format!("{word} {}", schema.get(key)?)));
    let bounds: Vec<String> = bounds.collect();
    match bounds.is_empty() {
        true => String::new(),
        false => format!(", {}", bounds.join(" and ")),
    }
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
        assert!(with("resources", json!({"zzzzzz": 1}))[0].ends_with("the keys here are workers"));
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
        walk("recipe", &schema);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            walk(name, definition);
        }
    }
}
