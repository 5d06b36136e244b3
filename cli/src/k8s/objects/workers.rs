//! The workers: an elastic Indexed Job, which replaces pods that are killed, can be given another number of them, and is
//! complete when the coordinator has sent all of them home.

use serde_json::{Value, json};

use super::metadata::{Component, labels, metadata};
use super::{Deployment, PORT, WorkerDevice, pod};

/// A worker finishes its micro-batch and has its leave granted within 50 s.
const GRACE_SECONDS: u32 = 60;

/// Pods of one index that may fail by themselves. Those that were killed or told to go do not count.
const FAILURES: u32 = 6;

/// Data and model are looked at before the coordinator listens.
const CONNECT_WITHIN: &str = "1800";

/// For datasets and states on their way; the node's disk.
const CACHE: &str = "/var/cache/weft";

/// Exit codes that the same command gives again: a wrong command line, recipe, data, model, and a coordinator that
/// refuses the worker.
const HOPELESS: [u32; 5] = [2, 10, 11, 12, 21];

/// A worker that left because it was told to stop.
const LEFT: u32 = 30;

/// The Job.
pub(super) fn job(deployment: &Deployment) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(deployment, &deployment.worker(), Component::Worker),
        "spec": {
            "completionMode": "Indexed",
            "completions": deployment.start_with,
            "parallelism": deployment.start_with,
            "backoffLimitPerIndex": FAILURES,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": { "rules": rules() },
            "template": {
                "metadata": { "labels": labels(deployment, Component::Worker) },
                "spec": template(deployment),
            },
        },
    })
}

/// The first rule that fits decides; a failure that none fits counts against its index.
fn rules() -> Value {
    let disrupted = json!({ "type": "DisruptionTarget", "status": "True" });
    let ended_with =
        |codes: &[u32]| json!({ "containerName": "worker", "operator": "In", "values": codes });
    json!([
        { "action": "Ignore", "onPodConditions": [disrupted] },
        { "action": "Ignore", "onExitCodes": ended_with(&[LEFT]) },
        { "action": "FailIndex", "onExitCodes": ended_with(&HOPELESS) },
    ])
}

fn template(deployment: &Deployment) -> Value {
    let mut spec = pod::spec(deployment);
    let (mut volumes, mut mounts) = pod::volumes(deployment);
    volumes.push(json!({ "name": "cache", "emptyDir": {} }));
    mounts.push(json!({ "name": "cache", "mountPath": CACHE }));
    // What containers have otherwise, 64 MiB, is too little for NCCL.
    let shm = json!({ "medium": "Memory", "sizeLimit": deployment.shm.to_string() });
    volumes.push(json!({ "name": "shm", "emptyDir": shm }));
    mounts.push(json!({ "name": "shm", "mountPath": "/dev/shm" }));
    let coordinator = format!("http://{}:{PORT}", deployment.coordinator());
    let device = match &deployment.device {
        WorkerDevice::Gpu(_) => "cuda",
        WorkerDevice::Cpu => "cpu",
    };
    let mut container = pod::container(
        deployment,
        "worker",
        &[
            "worker",
            "--coordinator",
            &coordinator,
            "--device",
            device,
            "--cache",
            CACHE,
            "--connect-within",
            CONNECT_WITHIN,
            "--interrupted-on-stop",
        ],
    );
    container.insert("resources".into(), resources(deployment));
    container.insert("volumeMounts".into(), json!(mounts));
    // What the Job's rules ask for: a pod that failed is replaced, not restarted in place.
    spec.insert("restartPolicy".into(), json!("Never"));
    spec.insert("terminationGracePeriodSeconds".into(), json!(GRACE_SECONDS));
    place(deployment, &mut spec);
    spec.insert("containers".into(), json!([container]));
    spec.insert("volumes".into(), json!(volumes));
    Value::Object(spec)
}

fn resources(deployment: &Deployment) -> Value {
    let asks = &deployment.worker_resources;
    let (cpu, memory) = (asks.cpu.to_string(), asks.memory.to_string());
    let mut limits = json!({ "memory": memory });
    match &deployment.device {
        WorkerDevice::Gpu(resource) => limits[resource] = json!("1"),
        // A worker starts as many threads as it may use cores.
        WorkerDevice::Cpu => limits["cpu"] = json!(cpu),
    }
    json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": limits })
}

/// Which nodes workers run on. Spreading them costs nothing and keeps the loss of one node small, but a node's own
/// links are faster: that is left to the cluster.
fn place(deployment: &Deployment, spec: &mut serde_json::Map<String, Value>) {
    if !deployment.node_labels.is_empty() {
        let labels = deployment.node_labels.iter();
        let labels = labels.map(|label| (label.key.clone(), json!(label.value)));
        let labels: serde_json::Map<String, Value> = labels.collect();
        spec.insert("nodeSelector".into(), Value::Object(labels));
    }
    let mut tolerations = Vec::new();
    if let WorkerDevice::Gpu(resource) = &deployment.device {
        // Nodes with GPUs are often kept for pods that ask for one by a taint of this name.
        tolerations.push(json!({ "key": resource, "operator": "Exists", "effect": "NoSchedule" }));
    }
    for toleration in &deployment.tolerations {
        let mut entry = json!({ "key": toleration.key });
        match &toleration.value {
            Some(value) => {
                entry["operator"] = json!("Equal");
                entry["value"] = json!(value);
            }
            None => entry["operator"] = json!("Exists"),
        }
        if let Some(effect) = &toleration.effect {
            entry["effect"] = json!(effect);
        }
        tolerations.push(entry);
    }
    if !tolerations.is_empty() {
        spec.insert("tolerations".into(), json!(tolerations));
    }
}
