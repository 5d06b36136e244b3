//! The coordinator's probes.

use serde_json::Value;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use weft_tests::process::Running;

use crate::cluster::OffCluster;
use crate::manifests::{golden_folder, object, objects};

async fn serving(url: String, service: &str) -> ServingStatus {
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let asked = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(channel).check(asked).await.unwrap();
    answer.into_inner().status()
}

#[test]
fn what_the_probes_ask_is_answered() {
    let text = std::fs::read_to_string(golden_folder().join("gpu.yaml")).unwrap();
    let objects = objects(&text);
    let pod = &object(&objects, "StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mut off = OffCluster::new(1);
    let coordinator: Running = off.coordinator();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let grpc = &container[probe]["grpc"];
        assert_eq!(grpc["port"], container["ports"][0]["containerPort"]);
        let service = grpc.get("service").and_then(Value::as_str);
        let status = runtime.block_on(serving(off.url(), service.unwrap_or_default()));
        assert_eq!(status, ServingStatus::Serving, "{probe}");
    }
    drop(coordinator);
}
