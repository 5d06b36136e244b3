//! Names and labels of objects.

use serde_json::{Value, json};

use super::Deployment;

/// What a part of the job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Component {
    /// The coordinator.
    Coordinator,
    /// The workers.
    Worker,
    /// What all share.
    Shared,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Shared => "shared",
        }
    }
}

/// The `metadata` of an object.
pub(super) fn metadata(deployment: &Deployment, name: &str, component: Component) -> Value {
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = &deployment.namespace {
        metadata["namespace"] = json!(namespace.as_str());
    }
    metadata["labels"] = labels(deployment, component);
    metadata
}

/// The labels of an object or a pod.
pub(super) fn labels(deployment: &Deployment, component: Component) -> Value {
    let mut labels = selector(deployment, component);
    labels["app.kubernetes.io/part-of"] = json!("weft");
    labels["app.kubernetes.io/version"] = json!(env!("CARGO_PKG_VERSION"));
    labels["app.kubernetes.io/managed-by"] = json!("weft-k8s-render");
    labels
}

/// The labels by which pods are found; they never change.
pub(super) fn selector(deployment: &Deployment, component: Component) -> Value {
    json!({
        "app.kubernetes.io/name": "weft",
        "app.kubernetes.io/instance": deployment.name.as_str(),
        "app.kubernetes.io/component": component.as_str(),
    })
}

/// What whoever looks at an object that opens a port must know.
pub(super) fn plaintext() -> Value {
    json!({
        "weft-transport": "plaintext: neither encrypted nor authenticated; only for networks that are trusted",
    })
}
