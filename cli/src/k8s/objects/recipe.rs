//! The recipe, as a file for the coordinator.

use serde_json::{Value, json};

use super::Deployment;
use super::metadata::{Component, metadata};

/// The file's name.
pub(super) const FILE: &str = "recipe.yaml";

/// A ConfigMap that cannot be changed: nothing else could go on with the job. Another recipe is another job, with another
/// name.
pub(super) fn config_map(deployment: &Deployment) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(deployment, &name(deployment), Component::Shared),
        "immutable": true,
        "data": { FILE: deployment.recipe_yaml },
    })
}

/// The ConfigMap's name.
pub(super) fn name(deployment: &Deployment) -> String {
    format!("{}-recipe", deployment.name)
}
