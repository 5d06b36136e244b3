//! From text to one tree of values, whichever of the three languages it is written in.

use std::path::Path;

use serde_json::{Map, Number, Value};

use super::{Problem, json};

/// The largest recipe that is read; anything above is some other file.
const MAX_BYTES: u64 = 1 << 20;

/// The language of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
    /// TOML.
    Toml,
}

impl Format {
    /// By the file's extension; by its first line with content where the extension says nothing.
    #[must_use]
    pub fn of(path: &Path, text: &str) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("yaml" | "yml") => Self::Yaml,
            Some("json") => Self::Json,
            Some("toml") => Self::Toml,
            _ => Self::sniff(text),
        }
    }

    fn sniff(text: &str) -> Self {
        let mut lines = text.lines().map(str::trim);
        let Some(first) = lines.find(|line| !line.is_empty() && !line.starts_with('#')) else {
            return Self::Yaml;
        };
        let assigns = first
            .split_once('=')
            .is_some_and(|(key, _)| !key.contains(':'));
        match first.as_bytes() {
            [b'{', ..] => Self::Json,
            [b'[', ..] => Self::Toml,
            _ if assigns => Self::Toml,
            _ => Self::Yaml,
        }
    }
}

/// Reads the recipe's file.
pub(super) fn read(path: &Path) -> Result<String, Problem> {
    let refused = |what: String, remedy: &str| Problem::new("", what, remedy);
    let size = std::fs::metadata(path)
        .map_err(|error| {
            refused(
                format!("cannot be read: {error}"),
                "check the path and its permissions",
            )
        })?
        .len();
    if size > MAX_BYTES {
        return Err(refused(
            format!("is {size} bytes long, more than the {MAX_BYTES} of any recipe"),
            "give the recipe, not a data file",
        ));
    }
    std::fs::read_to_string(path).map_err(|error| {
        refused(
            format!("cannot be read: {error}"),
            "give a recipe in YAML, JSON or TOML",
        )
    })
}

/// Parses the text into a tree.
pub(super) fn parse(text: &str, format: Format) -> Result<Value, Problem> {
    let syntax = |language: &str, error: String| {
        let error = error.trim().replace('\n', " ");
        Problem::new(
            "",
            format!("is not valid {language}: {error}"),
            "correct the syntax there",
        )
    };
    match format {
        Format::Json => json::parse(text).map_err(|error| syntax("JSON", error)),
        Format::Toml => toml::from_str::<toml::Table>(text)
            .map(|table| from_toml(toml::Value::Table(table)))
            .map_err(|error| syntax("TOML", error.to_string())),
        Format::Yaml => yaml(text).map_err(|error| syntax("YAML", error)),
    }
}

/// Parses one YAML value, as `--set` takes it.
pub(super) fn yaml(text: &str) -> Result<Value, String> {
    let mut value: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    value.apply_merge().map_err(|error| error.to_string())?;
    from_yaml(value)
}

fn from_yaml(value: serde_yaml_ng::Value) -> Result<Value, String> {
    use serde_yaml_ng::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => from_float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(from_yaml).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(yaml_key(key)?, from_yaml(value)?);
            }
            Value::Object(map)
        }
        Yaml::Tagged(tagged) => {
            return Err(format!(
                "the tag `{}` has no meaning in a recipe",
                tagged.tag
            ));
        }
    })
}

fn yaml_key(key: serde_yaml_ng::Value) -> Result<String, String> {
    match from_yaml(key)? {
        Value::String(key) => Ok(key),
        // Column names may look like numbers or booleans.
        key @ (Value::Number(_) | Value::Bool(_)) => Ok(key.to_string()),
        key => Err(format!("`{key}` cannot be a key; keys are words")),
    }
}

fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => from_float(number),
        toml::Value::Boolean(value) => Value::Bool(value),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(from_toml).collect()),
        toml::Value::Table(entries) => {
            let entries = entries
                .into_iter()
                .map(|(key, value)| (key, from_toml(value)));
            Value::Object(entries.collect())
        }
    }
}

/// What JSON has no number for stays visible as text, so that the message can quote it.
fn from_float(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_three_languages_give_the_same_tree() {
        let tree = json!({"model": {"base_model": "m", "max_seq_length": 64}, "datasets": [{"path": "d.csv"}], "lr": 2e-4});
        let yaml =
            "model: {base_model: m, max_seq_length: 64}\ndatasets:\n- path: d.csv\nlr: 2e-4\n";
        let toml = "lr = 2e-4\n[model]\nbase_model = 'm'\nmax_seq_length = 64\n[[datasets]]\npath = 'd.csv'\n";
        assert_eq!(parse(yaml, Format::Yaml).unwrap(), tree);
        assert_eq!(parse(toml, Format::Toml).unwrap(), tree);
        assert_eq!(parse(&tree.to_string(), Format::Json).unwrap(), tree);
    }

    #[test]
    fn the_language_is_found_without_an_extension() {
        let of = |path: &str, text| Format::of(Path::new(path), text);
        assert_eq!(of("r.yml", "{}"), Format::Yaml);
        assert_eq!(of("r.JSON", ""), Format::Json);
        assert_eq!(of("recipe", "# weft\n\n{\"model\": 1}"), Format::Json);
        assert_eq!(of("recipe", "[model]\n"), Format::Toml);
        assert_eq!(of("recipe", "# a=b\nlr = 1\n"), Format::Toml);
        assert_eq!(of("recipe", "model:\n  base_model: a=b\n"), Format::Yaml);
    }

    #[test]
    fn a_key_given_twice_is_a_syntax_error_that_names_it() {
        let texts = [
            ("rank: 1\nrank: 2", Format::Yaml),
            ("rank = 1\nrank = 2", Format::Toml),
            (r#"{"rank": 1, "rank": 2}"#, Format::Json),
        ];
        for (text, format) in texts {
            let problem = parse(text, format).unwrap_err().to_string();
            assert!(
                problem.contains("rank") && problem.contains("duplicate"),
                "{problem}"
            );
        }
    }

    #[test]
    fn syntax_errors_name_the_line() {
        for (text, format) in [
            ("a: [1\nb: 2", Format::Yaml),
            ("a = [1\nb = 2", Format::Toml),
            ("{\n\"a\" 1}", Format::Json),
        ] {
            let problem = parse(text, format).unwrap_err().to_string();
            assert!(problem.contains("line 2"), "{problem}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_work_and_tags_do_not() {
        let text = "base: &base {r: 8}\nlora: {<<: *base, lora_alpha: 16}";
        assert_eq!(
            yaml(text).unwrap()["lora"],
            json!({"lora_alpha": 16, "r": 8})
        );
        assert!(yaml("r: !rank 8").unwrap_err().contains("!rank"));
    }

    #[test]
    fn numbers_that_json_lacks_stay_visible() {
        assert_eq!(
            yaml("learning_rate: .inf").unwrap()["learning_rate"],
            json!("inf")
        );
    }
}
