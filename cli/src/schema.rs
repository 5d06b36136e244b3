//! `weft schema`: the recipe's keys, generated from the types, as JSON schema or as the tables of `docs/recipe.md`.

use serde_json::Value;
use weft_common::recipe;

use crate::exit::{Exit, Failure};
use crate::output::print;

/// Arguments of `weft schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prints tables in Markdown, one a section
    #[arg(long)]
    markdown: bool,
}

/// Prints the schema.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let schema = recipe::schema();
    if args.markdown {
        return print::part(markdown(schema)).map(drop);
    }
    let text = serde_json::to_string_pretty(schema)
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    print::line(text).map(drop)
}

/// One table a section of the recipe.
fn markdown(schema: &Value) -> String {
    let mut text = String::new();
    let mut shown: Vec<&Value> = Vec::new();
    for (section, entry) in properties(schema) {
        let object = object_of(schema, entry);
        if shown.iter().any(|shown| std::ptr::eq(*shown, object)) {
            text.push_str(&format!(
                "## {section}\n\n{}\n\n",
                description(entry, object)
            ));
            continue;
        }
        shown.push(object);
        text.push_str(&format!(
            "## {section}\n\n{}\n\n",
            description(entry, object)
        ));
        text.push_str("| key | default | meaning |\n| --- | --- | --- |\n");
        rows("", schema, object, &mut text);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// A row for each key of `object`; keys of mappings within it are written with a dot.
fn rows(prefix: &str, schema: &Value, object: &Value, text: &mut String) {
    for (key, entry) in properties(object) {
        let inner = object_of(schema, entry);
        if inner.get("properties").is_some() {
            rows(&format!("{prefix}{key}."), schema, inner, text);
            continue;
        }
        let default = entry
            .get("default")
            .filter(|value| !value.is_null() && *value != "");
        let default = default
            .map(|value| format!("`{value}`"))
            .unwrap_or_default();
        let meaning = description(entry, inner);
        let choices = choices(inner);
        text.push_str(&format!(
            "| `{prefix}{key}` | {default} | {meaning}{choices} |\n"
        ));
    }
}

fn properties(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// What a property is: itself, what it refers to, or what the items of its list are.
fn object_of<'a>(schema: &'a Value, entry: &'a Value) -> &'a Value {
    let referred = |value: &'a Value| {
        let pointer = value.get("$ref")?.as_str()?.strip_prefix('#')?;
        schema.pointer(pointer)
    };
    let first_named = |list: &'a Value| list.as_array()?.iter().find_map(referred);
    referred(entry)
        .or_else(|| entry.get("items").and_then(referred))
        .or_else(|| entry.get("anyOf").and_then(first_named))
        .unwrap_or(entry)
}

/// The property's own description, else its type's, on one line.
fn description(entry: &Value, object: &Value) -> String {
    let of = |value: &Value| {
        value
            .get("description")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let text = of(entry).or_else(|| of(object)).unwrap_or_default();
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// The values of an enumeration with their meaning.
fn choices(object: &Value) -> String {
    let variants = object.get("oneOf").and_then(Value::as_array);
    let named = variants.into_iter().flatten().filter_map(|variant| {
        let name = variant.get("const")?.as_str()?;
        Some(format!("`{name}`: {}", description(variant, variant)))
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        return String::new();
    }
    format!("<br>{}", named.join("<br>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_tables_with_its_choices() {
        let text = markdown(recipe::schema());
        for part in [
            "## model",
            "| `base_model` |",
            "## datasets",
            "| `lr_scheduler_type` | `\"linear\"` |",
            "`cosine`: Half a cosine down to zero.",
            "| `workers.max` |",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_documented_keys_are_the_real_ones() {
        let documented = include_str!("../../docs/recipe.md");
        let tables = documented
            .split_once("<!-- weft schema --markdown -->\n\n")
            .map(|(_, tables)| tables);
        assert_eq!(
            tables,
            Some(markdown(recipe::schema()).as_str()),
            "renew the end of docs/recipe.md with `weft schema --markdown`"
        );
    }
}
