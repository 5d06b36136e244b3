//! Which linears get an adapter.

use weft_common::recipe::TargetModules;

use crate::model::{Projection, Spec};

/// An adapter that cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoraError {
    /// Rank zero.
    #[error("lora.r is 0; an adapter needs a rank of at least 1")]
    ZeroRank,
    /// A target names no module.
    #[error("lora.target_modules `{target}` matches no linear of this model; it has {}", .modules.join(", "))]
    NoMatch {
        /// What was asked for.
        target: String,
        /// The modules that exist.
        modules: Vec<&'static str>,
    },
    /// No target at all.
    #[error("lora.target_modules is empty; name at least one of {}", .modules.join(", "))]
    NoTarget {
        /// The modules that exist.
        modules: Vec<&'static str>,
    },
    /// Not a regular expression.
    #[error("lora.target_modules `{pattern}` is not a valid regular expression: {reason}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The targeted projections of each layer, as `(layer, projection)` in forward order.
///
/// A name matches the last parts of a module's path (`q_proj`, `self_attn.q_proj`); a regular expression must match the
/// whole path (`model\.layers\.[0-3]\..*_proj`), as in PEFT.
///
/// # Errors
/// If a target matches nothing, with the modules that exist.
pub fn targeted(
    spec: &Spec,
    targets: &TargetModules,
) -> Result<Vec<(usize, Projection)>, LoraError> {
    let every =
        || (0..spec.layers).flat_map(|layer| Projection::ALL.map(|projection| (layer, projection)));
    let found: Vec<_> = match targets {
        TargetModules::Pattern(text) if text == "all-linear" => return Ok(every().collect()),
        TargetModules::Pattern(text) => {
            let pattern = whole_path(text)?;
            every()
                .filter(|&(layer, projection)| pattern.is_match(&path(layer, projection)))
                .collect()
        }
        TargetModules::Names(names) => {
            require_each(names)?;
            let named =
                |projection: Projection| names.iter().any(|name| is_named(projection, name));
            every()
                .filter(|&(_, projection)| named(projection))
                .collect()
        }
    };
    match (found.is_empty(), targets) {
        (true, TargetModules::Pattern(text)) => Err(LoraError::NoMatch {
            target: text.clone(),
            modules: modules(),
        }),
        _ => Ok(found),
    }
}

/// Hugging Face's path of a linear.
pub(super) fn path(layer: usize, projection: Projection) -> String {
    format!("model.layers.{layer}.{}", projection.module())
}

fn whole_path(text: &str) -> Result<regex::Regex, LoraError> {
    regex::Regex::new(&format!("^(?:{text})$")).map_err(|error| LoraError::Pattern {
        pattern: text.to_owned(),
        reason: error.to_string(),
    })
}

fn require_each(names: &[String]) -> Result<(), LoraError> {
    if names.is_empty() {
        return Err(LoraError::NoTarget { modules: modules() });
    }
    let missing = |name: &&String| {
        !Projection::ALL
            .iter()
            .any(|&projection| is_named(projection, name))
    };
    match names.iter().find(missing) {
        Some(name) => Err(LoraError::NoMatch {
            target: name.clone(),
            modules: modules(),
        }),
        None => Ok(()),
    }
}

fn is_named(projection: Projection, name: &str) -> bool {
    let module = projection.module();
    module == name
        || module
            .strip_suffix(name)
            .is_some_and(|front| front.ends_with('.'))
}

fn modules() -> Vec<&'static str> {
    Projection::ALL
        .map(|projection| projection.module().rsplit('.').next().unwrap_or_default())
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests_support::toy;

    fn names(list: &[&str]) -> TargetModules {
        TargetModules::Names(list.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn names_match_the_last_parts_of_a_path() {
        let found = targeted(&toy(), &names(&["q_proj", "mlp.down_proj"])).unwrap();
        let q_and_down = [Projection::Q, Projection::Down];
        assert_eq!(
            found,
            [0, 1].map(|layer| q_and_down.map(|p| (layer, p))).concat()
        );
    }

    #[test]
    fn all_linear_is_all_seven() {
        let found = targeted(&toy(), &TargetModules::Pattern("all-linear".to_owned())).unwrap();
        assert_eq!(found.len(), 14);
    }

    #[test]
    fn a_pattern_must_match_the_whole_path() {
        let pattern = |text: &str| targeted(&toy(), &TargetModules::Pattern(text.to_owned()));
        assert_eq!(
            pattern(r".*\.1\..*\.(q|v)_proj").unwrap(),
            [(1, Projection::Q), (1, Projection::V)]
        );
        assert!(matches!(pattern("q_proj"), Err(LoraError::NoMatch { .. })));
        assert!(matches!(pattern("("), Err(LoraError::Pattern { .. })));
    }

    #[test]
    fn a_target_that_matches_nothing_names_those_that_exist() {
        let error = targeted(&toy(), &names(&["q_proj", "qkv_proj"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`qkv_proj`")
                && text.contains("q_proj, k_proj, v_proj, o_proj, gate_proj"),
            "{text}"
        );
        assert!(targeted(&toy(), &names(&["proj"])).is_err());
        assert!(targeted(&toy(), &names(&[])).is_err());
    }
}
