//! Manifests are what they were, and say what a cluster needs to hear.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use weft_tests::process::binary;
use weft_tests::repository;

use crate::tools;

const GOLDEN: [&str; 3] = ["gpu.yaml", "everything.yaml", "cpu.yaml"];

pub(crate) fn golden_folder() -> PathBuf {
    repository().join("tests/fixtures/deploy")
}

/// The objects of a manifest.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let objects = documents.map(|document| Value::deserialize(document).unwrap());
    objects.filter(|object| !object.is_null()).collect()
}

/// The object of that kind.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("there is no {kind}"))
}

fn golden(name: &str) -> Vec<Value> {
    objects(&fs::read_to_string(golden_folder().join(name)).unwrap())
}

/// What becomes a pod: the StatefulSet's and the Job's template.
fn templates(objects: &[Value]) -> Vec<&Value> {
    let kinds = ["StatefulSet", "Job"];
    let templates = kinds.map(|kind| &object(objects, kind)["spec"]["template"]);
    templates.to_vec()
}

fn names(list: &Value) -> BTreeSet<&str> {
    let entries = list.as_array().unwrap().iter();
    entries
        .map(|entry| entry["name"].as_str().unwrap())
        .collect()
}

#[test]
fn manifests_are_the_golden_ones() {
    let folder = tempfile::tempdir().unwrap();
    let renew = Command::new("bash")
        .arg(golden_folder().join("renew.sh"))
        .arg(folder.path())
        .env("WEFT", binary())
        .output()
        .unwrap();
    tools::succeeded(&renew);
    for name in GOLDEN {
        let read = |folder: &Path| fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            read(folder.path()) == read(&golden_folder()),
            "{name} differs; look at it after `WEFT={} tests/fixtures/deploy/renew.sh`",
            binary().display()
        );
    }
}

#[test]
fn pods_have_no_rights_and_change_nothing_of_their_image() {
    for name in GOLDEN {
        for template in templates(&golden(name)) {
            let spec = &template["spec"];
            assert_eq!(spec["automountServiceAccountToken"], false);
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
            assert_ne!(spec["securityContext"]["runAsUser"], 0);
            assert_eq!(
                spec["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            for container in spec["containers"].as_array().unwrap() {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false);
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert_eq!(security["capabilities"]["drop"][0], "ALL");
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
}

#[test]
fn all_that_is_mounted_is_there_and_all_that_is_there_is_mounted() {
    for name in GOLDEN {
        let objects = golden(name);
        for template in templates(&objects) {
            let spec = &template["spec"];
            let mounted = names(&spec["containers"][0]["volumeMounts"]);
            assert_eq!(mounted, names(&spec["volumes"]), "{name}");
            for volume in spec["volumes"].as_array().unwrap() {
                if let Some(map) = volume["configMap"]["name"].as_str() {
                    assert_eq!(object(&objects, "ConfigMap")["metadata"]["name"], map);
                }
                let claim = volume["persistentVolumeClaim"]["claimName"].as_str();
                if let Some(claim) = claim.filter(|claim| *claim != "shared") {
                    let made = object(&objects, "PersistentVolumeClaim");
                    assert_eq!(made["metadata"]["name"], claim);
                    assert_eq!(made["spec"]["accessModes"][0], "ReadWriteMany");
                }
            }
        }
    }
}

#[test]
fn names_fit_together() {
    for name in GOLDEN {
        let objects = golden(name);
        let service = object(&objects, "Service");
        let set = object(&objects, "StatefulSet");
        let pod = &set["spec"]["template"];
        assert_eq!(set["spec"]["serviceName"], service["metadata"]["name"]);
        for selector in [
            &service["spec"]["selector"],
            &set["spec"]["selector"]["matchLabels"],
        ] {
            for (key, value) in selector.as_object().unwrap() {
                assert_eq!(&pod["metadata"]["labels"][key], value, "{name}");
            }
        }
        let port = &pod["spec"]["containers"][0]["ports"][0];
        assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
        let url = format!(
            "http://{}:{}",
            service["metadata"]["name"].as_str().unwrap(),
            service["spec"]["ports"][0]["port"]
        );
        let worker = &object(&objects, "Job")["spec"]["template"]["spec"]["containers"][0];
        let arguments = worker["args"].as_array().unwrap();
        assert!(arguments.iter().any(|word| *word == url), "{name}: {url}");
        for object in &objects {
            let whole = object["metadata"]["namespace"].as_str();
            assert_eq!(whole, (name == "gpu.yaml").then_some("training"));
        }
    }
}

/// What a server refuses although each value has its type.
#[test]
fn the_job_is_elastic_and_replaces_workers_that_are_killed() {
    for (name, pods) in [("gpu.yaml", 4), ("everything.yaml", 3), ("cpu.yaml", 2)] {
        let objects = golden(name);
        let job = &object(&objects, "Job")["spec"];
        assert_eq!(job["completionMode"], "Indexed");
        assert_eq!(
            (&job["completions"], &job["parallelism"]),
            (&pods.into(), &pods.into())
        );
        // A policy for failed pods asks for both.
        assert_eq!(job["template"]["spec"]["restartPolicy"], "Never");
        assert_eq!(job["podReplacementPolicy"], "Failed");
        let worker = &job["template"]["spec"]["containers"][0];
        let rules = job["podFailurePolicy"]["rules"].as_array().unwrap();
        let codes = |action: &str| -> Vec<u64> {
            let rules = rules.iter().filter(|rule| rule["action"] == action);
            let lists = rules.filter_map(|rule| rule["onExitCodes"]["values"].as_array());
            lists.flatten().filter_map(Value::as_u64).collect()
        };
        assert_eq!(codes("Ignore"), [30]);
        let hopeless = codes("FailIndex");
        assert!(
            hopeless.contains(&21) && hopeless.is_sorted(),
            "{hopeless:?}"
        );
        assert_eq!(rules[0]["onPodConditions"][0]["type"], "DisruptionTarget");
        for rule in rules.iter().filter(|rule| rule["onExitCodes"].is_object()) {
            assert_eq!(rule["onExitCodes"]["containerName"], worker["name"]);
        }
        // A worker takes 50 s at most to be let go.
        let grace = job["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
        assert!(grace.unwrap() > 50);
    }
}

#[test]
fn a_worker_has_one_gpu_and_room_for_what_gpus_exchange() {
    for (name, resource) in [
        ("gpu.yaml", "nvidia.com/gpu"),
        ("everything.yaml", "nvidia.com/mig-1g.18gb"),
    ] {
        let objects = golden(name);
        let spec = &object(&objects, "Job")["spec"]["template"]["spec"];
        assert_eq!(spec["containers"][0]["resources"]["limits"][resource], "1");
        assert_eq!(spec["tolerations"][0]["key"], resource);
        let volumes = spec["volumes"].as_array().unwrap();
        let shm = volumes
            .iter()
            .find(|volume| volume["name"] == "shm")
            .unwrap();
        assert_eq!(shm["emptyDir"]["medium"], "Memory");
    }
    let cpu = golden("cpu.yaml");
    let spec = &object(&cpu, "Job")["spec"]["template"]["spec"];
    assert!(spec["tolerations"].is_null());
    assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "2");
}
