//! What the pods of coordinator and workers have in common.

use serde_json::{Map, Value, json};

use super::Deployment;
use crate::k8s::pods::VOLUME;

/// The user of `deploy/Containerfile`.
const USER: u32 = 65_532;

/// The most that temporary files may take of the node's disk.
const TMP: &str = "1Gi";

/// Whom a pod runs as and where its image comes from.
pub(super) fn spec(deployment: &Deployment) -> Map<String, Value> {
    let mut spec = Map::new();
    // Nobody here talks to the cluster.
    spec.insert("automountServiceAccountToken".into(), json!(false));
    if let Some(account) = &deployment.service_account {
        spec.insert("serviceAccountName".into(), json!(account.as_str()));
    }
    if let Some(secret) = &deployment.pull_secret {
        let secrets = json!([{ "name": secret.as_str() }]);
        spec.insert("imagePullSecrets".into(), secrets);
    }
    let security = json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    spec.insert("securityContext".into(), security);
    spec
}

/// A container of the image that runs `weft` with `arguments`.
pub(super) fn container(
    deployment: &Deployment,
    name: &str,
    arguments: &[&str],
) -> Map<String, Value> {
    let mut container = Map::new();
    let mut put = |key: &str, value: Value| container.insert(key.into(), value);
    put("name", json!(name));
    put("image", json!(deployment.image.as_str()));
    put("imagePullPolicy", json!(deployment.pull_policy.as_str()));
    put("command", json!(["weft"]));
    put("args", json!(arguments));
    if let Some(secret) = &deployment.secret {
        put(
            "envFrom",
            json!([{ "secretRef": { "name": secret.as_str() } }]),
        );
    }
    // The last lines of a container that failed are in its pod's status, where people look first.
    put("terminationMessagePolicy", json!("FallbackToLogsOnError"));
    let security = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    put("securityContext", security);
    container
}

/// Volumes of every pod, and where they are mounted.
pub(super) fn volumes(deployment: &Deployment) -> (Vec<Value>, Vec<Value>) {
    let volumes = vec![
        json!({ "name": "data", "persistentVolumeClaim": { "claimName": deployment.claim() } }),
        json!({ "name": "tmp", "emptyDir": { "sizeLimit": TMP } }),
    ];
    let mounts = vec![
        json!({ "name": "data", "mountPath": VOLUME }),
        json!({ "name": "tmp", "mountPath": "/tmp" }),
    ];
    (volumes, mounts)
}
