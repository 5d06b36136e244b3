//! Objects as a file for `kubectl apply -f`.

use super::objects::Deployment;
use super::pods::{Files, VOLUME};

/// The file: what to know first, then the objects.
///
/// # Errors
/// An object cannot be written as YAML.
pub(super) fn manifest(
    deployment: &Deployment,
    files: &Files,
    output_dir: &str,
) -> Result<String, serde_yaml_ng::Error> {
    let mut text = head(deployment, files, output_dir);
    for object in deployment.objects() {
        text.push_str("---\n");
        text.push_str(&serde_yaml_ng::to_string(&object)?);
    }
    Ok(text)
}

/// Comments for who reads the file, or has to run it.
fn head(deployment: &Deployment, files: &Files, output_dir: &str) -> String {
    let (coordinator, worker) = (deployment.coordinator(), deployment.worker());
    let claim = deployment.claim();
    let mut lines = vec![
        format!(
            "weft {}: a coordinator and {} workers for one recipe. For Kubernetes 1.31 or newer.",
            env!("CARGO_PKG_VERSION"),
            deployment.workers
        ),
        String::new(),
        "Connections between the pods are neither encrypted nor authenticated yet: keep others out of their network."
            .to_owned(),
        String::new(),
        format!("Claim {claim}, which all nodes must be able to mount, must hold at its root, seen at {VOLUME} in the pods:"),
    ];
    lines.extend(files.on_volume.iter().map(|(key, path)| {
        let below = path.strip_prefix(VOLUME).unwrap_or(path);
        format!("  {} ({key})", below.trim_start_matches('/'))
    }));
    lines.extend(
        files
            .elsewhere
            .iter()
            .map(|(key, path)| format!("The image must hold {path} ({key}).")),
    );
    lines.push(format!("Results go to {output_dir}."));
    lines.push(String::new());
    lines.push(format!(
        "Follow:  kubectl logs -f statefulset/{coordinator}"
    ));
    lines.push(format!(
        "Resize:  kubectl patch job {worker} -p '{{\"spec\":{{\"completions\":N,\"parallelism\":N}}}}', N from {}",
        deployment.workers
    ));
    lines.push(format!(
        "Stop:    kubectl delete job/{worker} statefulset/{coordinator}; applied again, it goes on"
    ));
    let comment = |line: String| format!("{}\n", format!("# {line}").trim_end());
    lines.into_iter().map(comment).collect()
}
