//! The JSON schema that the recipe's types generate, and questions to it.

use std::sync::LazyLock;

use serde_json::Value;

use super::Recipe;
use super::section::Section;

/// The JSON schema of a recipe, with descriptions, ranges and defaults. It is made once: that takes longer than to hold a
/// recipe against it, and a queue reads thousands.
#[must_use]
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Recipe).to_value());
    &SCHEMA
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

/// The whole schema; the parts that its methods are asked about are parts of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema<'a>(pub(super) &'a Value);

impl<'a> Schema<'a> {
    /// Whether a value that is neither object nor array is of the right type and within its range.
    pub(super) fn fits(&self, value: &Value, schema: &'a Value) -> bool {
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
    pub(super) fn expected(&self, schema: &'a Value) -> String {
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
    pub(super) fn choices(&self, schema: &'a Value) -> Vec<&'a str> {
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
    pub(super) fn variant(&self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        if is_type(schema, name) {
            return Some(schema);
        }
        let mut variants = variants(schema)?
            .iter()
            .map(|variant| self.resolve(variant));
        variants.find(|variant| is_type(variant, name))
    }

    pub(super) fn allows_null(&self, schema: &'a Value) -> bool {
        self.variant(schema, "null").is_some()
    }

    pub(super) fn resolve(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self
                .0
                .pointer(reference.trim_start_matches('#'))
                .unwrap_or(schema),
            None => schema,
        }
    }

    pub(super) fn section_keys(&self, here: &Value) -> SectionKeys {
        let keys_of = |schema: &Value| {
            let properties = schema["properties"].as_object();
            properties
                .into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect()
        };
        let sections = Section::ALL.map(|section| {
            let property = &self.0["properties"][section.key()];
            let schema = match section {
                Section::Root => self.0,
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
