//! `--set key.path=value`.

use serde_json::{Map, Value};

use super::section::Section;
use super::{Problem, aliases, source};

/// Lays `sets` over a tree whose keys are canonical already. Keys may be spelled as in a recipe; a value is YAML.
pub(super) fn apply(tree: &mut Value, sets: &[String], problems: &mut Vec<Problem>) {
    for set in sets {
        if let Err(problem) = apply_one(tree, set) {
            problems.push(problem);
        }
    }
}

fn apply_one(tree: &mut Value, set: &str) -> Result<(), Problem> {
    let refused = |what: String| {
        Problem::new(
            format!("--set {set}"),
            what,
            "write it as `--set training.max_steps=60`",
        )
    };
    let (path, text) = set
        .split_once('=')
        .ok_or_else(|| refused("has no `=`".to_owned()))?;
    let value = source::yaml(text)
        .map_err(|error| refused(format!("the value is not valid YAML: {error}")))?;
    let path = canonical_path(path.trim());
    if path.iter().any(String::is_empty) {
        return Err(refused("the key path has an empty part".to_owned()));
    }
    let mut place = tree;
    for key in &path {
        place = descend(place, key).map_err(refused)?;
    }
    *place = value;
    Ok(())
}

/// Splits at dots, and gives the section and the key within it their canonical names.
fn canonical_path(path: &str) -> Vec<String> {
    let mut keys: Vec<String> = path.split('.').map(|key| key.trim().to_owned()).collect();
    keys[0] = aliases::canonical(Section::Root, &keys[0]).to_owned();
    if let Some(section) = Section::from_key(&keys[0]) {
        let at = if section == Section::Datasets { 2 } else { 1 };
        if let Some(key) = keys.get_mut(at) {
            *key = aliases::canonical(section, key).to_owned();
        }
    }
    keys
}

/// The place of `key` under `place`, made where there is none yet.
fn descend<'a>(place: &'a mut Value, key: &str) -> Result<&'a mut Value, String> {
    let index = key.parse::<usize>();
    if place.is_null() {
        *place = match index {
            Ok(_) => Value::Array(Vec::new()),
            Err(_) => Value::Object(Map::new()),
        };
    }
    match place {
        Value::Object(keys) => Ok(keys.entry(key).or_insert(Value::Null)),
        Value::Array(items) => {
            let count = items.len();
            let index =
                index.map_err(|_| format!("`{key}` is no position in a list of {count}"))?;
            if index > count {
                return Err(format!(
                    "position {index} lies past the end of a list of {count}"
                ));
            }
            if index == count {
                items.push(Value::Null);
            }
            Ok(&mut items[index])
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err(format!("`{key}` lies under {place}, which has no keys"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(mut tree: Value, set: &str) -> Result<Value, Problem> {
        apply_one(&mut tree, set).map(|()| tree)
    }

    #[test]
    fn a_value_is_yaml_and_replaces_the_recipes() {
        let tree = json!({"training": {"max_steps": -1}});
        assert_eq!(
            set(tree.clone(), "training.max_steps=60").unwrap(),
            json!({"training": {"max_steps": 60}})
        );
        let both = json!({"training": {"max_steps": -1}, "lora": {"target_modules": ["q_proj", "v_proj"]}});
        assert_eq!(
            set(tree, "lora.target_modules=[q_proj, v_proj]").unwrap(),
            both
        );
    }

    #[test]
    fn an_item_of_a_list_is_named_by_its_position() {
        let tree = json!({"datasets": [{"path": "a"}, {"path": "b"}]});
        let limited = set(tree.clone(), "dataset.1.max_samples=5").unwrap();
        assert_eq!(
            limited,
            json!({"datasets": [{"path": "a"}, {"path": "b", "limit": 5}]})
        );
        assert_eq!(
            set(tree.clone(), "datasets.2.path=c").unwrap()["datasets"][2],
            json!({"path": "c"})
        );
        assert!(
            set(tree.clone(), "datasets.4.path=c")
                .unwrap_err()
                .to_string()
                .contains("list of 2")
        );
        assert!(
            set(tree, "datasets.path=c")
                .unwrap_err()
                .to_string()
                .contains("`path` is no position")
        );
    }

    #[test]
    fn another_spelling_overrides_the_same_key() {
        let tree = json!({"model": {"max_seq_length": 2048}});
        assert_eq!(
            set(tree, "model_config.cutoff_len=64").unwrap(),
            json!({"model": {"max_seq_length": 64}})
        );
    }

    #[test]
    fn what_is_no_assignment_is_refused_in_its_own_words() {
        for text in [
            "training.max_steps",
            "=3",
            "training..seed=3",
            "lora.r.x=[",
            "lora.r=[1",
        ] {
            let problem = set(json!({"lora": {"r": 8}}), text)
                .unwrap_err()
                .to_string();
            assert!(problem.contains(text), "{problem}");
        }
    }
}
