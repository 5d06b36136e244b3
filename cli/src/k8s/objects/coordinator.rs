//! The coordinator: a StatefulSet of one, which comes back under the same name and goes on.

use serde_json::{Value, json};

use super::metadata::{Component, labels, metadata, plaintext, selector};
use super::{Deployment, PORT, pod, recipe};
use crate::k8s::pods::VOLUME;

const RECIPE_FOLDER: &str = "/etc/weft";

/// It goes at once when told to: what it must not lose is on the volume.
const GRACE_SECONDS: u32 = 30;

/// The name by which workers find it. It is known before the pod is ready, so that no worker is told that there is no
/// such name and remembers that.
pub(super) fn service(deployment: &Deployment) -> Value {
    let mut metadata = metadata(
        deployment,
        &deployment.coordinator(),
        Component::Coordinator,
    );
    metadata["annotations"] = plaintext();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": selector(deployment, Component::Coordinator),
            "ports": [{ "name": "grpc", "port": PORT, "targetPort": "grpc", "protocol": "TCP", "appProtocol": "grpc" }],
        },
    })
}

/// The coordinator's pod.
pub(super) fn stateful_set(deployment: &Deployment) -> Value {
    let mut spec = pod::spec(deployment);
    let (mut volumes, mut mounts) = pod::volumes(deployment);
    volumes.push(json!({ "name": "recipe", "configMap": { "name": recipe::name(deployment) } }));
    mounts.push(json!({ "name": "recipe", "mountPath": RECIPE_FOLDER, "readOnly": true }));
    let recipe = format!("{RECIPE_FOLDER}/{}", recipe::FILE);
    let workers = deployment.workers.max.to_string();
    let listen = format!("0.0.0.0:{PORT}");
    // On the volume: prepared once, there after a restart.
    let cache = format!("{VOLUME}/.weft-cache");
    let mut container = pod::container(
        deployment,
        "coordinator",
        &[
            "coordinator",
            &recipe,
            "--workers",
            &workers,
            "--listen",
            &listen,
            "--insecure",
            "--service",
            "--resume",
            "--cache",
            &cache,
        ],
    );
    let asks = &deployment.coordinator_resources;
    let (cpu, memory) = (asks.cpu.to_string(), asks.memory.to_string());
    let asks =
        json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "memory": memory } });
    container.insert("resources".into(), asks);
    let ports = json!([{ "name": "grpc", "containerPort": PORT, "protocol": "TCP" }]);
    container.insert("ports".into(), ports);
    container.extend(probes());
    container.insert("volumeMounts".into(), json!(mounts));
    spec.insert("terminationGracePeriodSeconds".into(), json!(GRACE_SECONDS));
    spec.insert("containers".into(), json!([container]));
    spec.insert("volumes".into(), json!(volumes));
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(deployment, &deployment.coordinator(), Component::Coordinator),
        "spec": {
            "replicas": 1,
            "serviceName": deployment.coordinator(),
            // A pod that cannot start must not keep its successor from starting.
            "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": selector(deployment, Component::Coordinator) },
            "template": {
                "metadata": {
                    "labels": labels(deployment, Component::Coordinator),
                    "annotations": plaintext(),
                },
                "spec": spec,
            },
        },
    })
}

/// The coordinator listens once it has looked at model and data and prepared the data, which may take half an hour.
fn probes() -> [(String, Value); 3] {
    let probe = |period: u32, failures: u32| {
        json!({
            "grpc": { "port": PORT },
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        })
    };
    [
        ("startupProbe".to_owned(), probe(5, 360)),
        ("readinessProbe".to_owned(), probe(5, 2)),
        ("livenessProbe".to_owned(), probe(10, 6)),
    ]
}
