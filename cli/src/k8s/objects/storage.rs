//! The volume that all pods share.

use serde_json::{Value, json};

use super::metadata::{Component, metadata};
use super::{Deployment, Storage};

/// The claim of the job's own, if there is to be one.
pub(super) fn claim(deployment: &Deployment) -> Option<Value> {
    let Storage::New { size, class } = &deployment.storage else {
        return None;
    };
    let mut spec = json!({
        "accessModes": ["ReadWriteMany"],
        "resources": { "requests": { "storage": size.to_string() } },
    });
    if let Some(class) = class {
        spec["storageClassName"] = json!(class.as_str());
    }
    Some(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(deployment, &deployment.claim(), Component::Shared),
        "spec": spec,
    }))
}
