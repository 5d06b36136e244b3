//! The sections of a recipe, as places where a key may stand.

use serde_json::{Map, Value};

/// The key beside `datasets` that holds the same.
pub(super) const EVAL_DATASETS: &str = "eval_datasets";

/// A place that keys belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Root,
    Model,
    Lora,
    Datasets,
    Training,
    Resources,
}

impl Section {
    pub(super) const ALL: [Self; 6] = [
        Self::Root,
        Self::Model,
        Self::Lora,
        Self::Datasets,
        Self::Training,
        Self::Resources,
    ];

    /// Its key in the recipe; empty for the root.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Model => "model",
            Self::Lora => "lora",
            Self::Datasets => "datasets",
            Self::Training => "training",
            Self::Resources => "resources",
        }
    }

    /// The section that a key of the root holds.
    pub(super) fn from_key(key: &str) -> Option<Self> {
        if key == EVAL_DATASETS {
            return Some(Self::Datasets);
        }
        Self::ALL
            .into_iter()
            .find(|section| *section != Self::Root && section.key() == key)
    }

    /// The key path of `key` in this section, for messages that mean no particular dataset.
    pub(super) fn path_of(self, key: &str) -> String {
        match self {
            Self::Root => key.to_owned(),
            Self::Datasets => format!("datasets[].{key}"),
            Self::Model | Self::Lora | Self::Training | Self::Resources => {
                format!("{}.{key}", self.key())
            }
        }
    }
}

/// Calls `visit` with the path and the keys of every place in the recipe that is a mapping, as it should be; what is
/// of another type is left for the schema to refuse.
pub(super) fn for_each(
    tree: &mut Value,
    mut visit: impl FnMut(Section, &str, &mut Map<String, Value>),
) {
    let Value::Object(root) = tree else { return };
    visit(Section::Root, "", root);
    for (key, value) in root {
        let Some(section) = Section::from_key(key) else {
            continue;
        };
        match value {
            Value::Object(keys) => visit(section, key, keys),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let Value::Object(keys) = item {
                        visit(section, &format!("{key}[{index}]"), keys);
                    }
                }
            }
            _ => {}
        }
    }
}

/// `key` under `parent`, as messages write it.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}
