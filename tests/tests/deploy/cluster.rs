//! The commands of rendered manifests do on this machine what they are to do in pods.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use weft_tests::cluster::own_loopback;
use weft_tests::files;
use weft_tests::process::{Running, Weft};
use weft_tests::quickstart::Quickstart;
use weft_tests::repository;

use crate::manifests::{object, objects};

/// What workers find in the recipe, so that a run on one machine has the same.
const BOUNDS: &str = "resources.workers={min: 1, max: 3}";

/// Rendered manifests whose volume is a folder, and whose network is loopback.
pub(crate) struct OffCluster {
    quickstart: Quickstart,
    objects: Vec<Value>,
    /// Where the coordinator listens: a free port at first, then always that one.
    listen: String,
    caches: u32,
}

impl OffCluster {
    /// Renders the quickstart for CPUs, and puts what lies in the recipe's folder onto the volume.
    pub(crate) fn new(steps: u32) -> Self {
        let quickstart = Quickstart::new()
            .set(format!("training.max_steps={steps}"))
            .set(BOUNDS);
        let rendered = quickstart
            .weft("k8s render")
            .args(["--workers", "1..3", "--image", "weft:dev", "--cpu"])
            .args(["--storage", "shared"])
            .finish();
        let objects = objects(&rendered.succeeded().printed);
        let off = Self {
            quickstart,
            objects,
            listen: format!("{}:0", own_loopback()),
            caches: 0,
        };
        let volume = off.volume();
        files::copy_folder(
            &repository().join("examples/quickstart/model"),
            &volume.join("model"),
        )
        .unwrap();
        let rows = "medical_qa.jsonl";
        fs::copy(
            repository().join("examples/quickstart").join(rows),
            volume.join(rows),
        )
        .unwrap();
        let recipe = object(&off.objects, "ConfigMap")["data"]["recipe.yaml"].as_str();
        let recipe = off.mapped(recipe.unwrap());
        fs::create_dir(off.quickstart.folder().join("etc")).unwrap();
        fs::write(off.quickstart.folder().join("etc/recipe.yaml"), recipe).unwrap();
        off
    }

    fn volume(&self) -> PathBuf {
        self.quickstart.folder().join("data")
    }

    /// A word of the manifests, with the places of this machine.
    fn mapped(&self, word: &str) -> String {
        let folder = self.quickstart.folder().display();
        word.replace("/data", &format!("{folder}/data"))
            .replace("/etc/weft", &format!("{folder}/etc"))
            .replace(
                "/var/cache/weft",
                &format!("{folder}/cache-{}", self.caches),
            )
            .replace("0.0.0.0:7117", &self.listen)
            .replace("weft-coordinator:7117", &self.listen)
    }

    fn start(&self, kind: &str) -> Weft {
        let spec = &object(&self.objects, kind)["spec"]["template"]["spec"];
        let container = &spec["containers"][0];
        assert_eq!(container["command"], serde_json::json!(["weft"]));
        let arguments = container["args"].as_array().unwrap().iter();
        let arguments = arguments.map(|word| self.mapped(word.as_str().unwrap()));
        Weft::new(&self.quickstart.folder().join("unused"), arguments)
            .env("WEFT_LOG", "info,weft_coordinator=debug")
    }

    /// Starts the coordinator's pod, as it were.
    pub(crate) fn coordinator(&mut self) -> Running {
        let mut coordinator = self.start("StatefulSet").start();
        let line = coordinator.wait_for("listening on http://");
        self.listen = line.rsplit('/').next().unwrap().to_owned();
        coordinator
    }

    /// Starts a worker's pod, as it were.
    pub(crate) fn worker(&mut self) -> Running {
        self.caches += 1;
        // In a pod there are as many cores as it asks for.
        self.start("Job").args(["--threads", "1"]).start()
    }

    /// Where the coordinator answers.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The result is that of `weft run` on one machine.
    pub(crate) fn came_to_the_same(&self) {
        let run = self.quickstart.run("run", 1).finish();
        run.succeeded();
        let adapter = self
            .volume()
            .join("outputs/quickstart/adapter/adapter_model.safetensors");
        let adapter = files::sha256(&adapter).unwrap();
        assert_eq!(adapter, self.quickstart.adapter("run"));
    }
}

fn code(mut process: Running) -> Option<i32> {
    process.await_end();
    process.exit_code()
}

#[test]
fn the_job_comes_to_what_a_run_comes_to_and_its_workers_end_with_it() {
    let mut off = OffCluster::new(6);
    let mut coordinator = off.coordinator();
    let workers = [off.worker(), off.worker()];
    coordinator.wait_for("adapter in");
    for worker in workers {
        assert_eq!(code(worker), Some(0), "a Job counts it as done");
    }
    // A pod that found no room until now.
    assert_eq!(code(off.worker()), Some(0));
    assert!(coordinator.is_alive(), "it would be started again");
    coordinator.terminate();
    assert_eq!(code(coordinator), Some(0));
    // It may be moved all the same.
    let mut again = off.coordinator();
    again.wait_until_said("the job is over");
    assert_eq!(code(off.worker()), Some(0));
    again.terminate();
    assert_eq!(code(again), Some(0));
    off.came_to_the_same();
}

#[test]
fn a_worker_that_is_told_to_go_leaves_without_loss_and_is_replaced() {
    let mut off = OffCluster::new(20);
    let mut coordinator = off.coordinator();
    let (mut first, second) = (off.worker(), off.worker());
    first.wait_for("attached");
    coordinator.wait_for("world=2");
    coordinator.wait_for("step committed");
    first.terminate();
    assert_eq!(code(first), Some(30), "a Job replaces it");
    let mut third = off.worker();
    third.wait_for("attached");
    coordinator.wait_for("adapter in");
    assert!(
        !coordinator
            .said()
            .iter()
            .any(|line| line.contains("member lost")),
        "it left by itself"
    );
    for worker in [second, third] {
        assert_eq!(code(worker), Some(0));
    }
    off.came_to_the_same();
}

#[test]
fn a_coordinator_that_is_told_to_go_leaves_its_workers_and_goes_on_when_it_is_back() {
    let mut off = OffCluster::new(20);
    let mut coordinator = off.coordinator();
    let worker = off.worker();
    coordinator.wait_for("step committed step=3");
    coordinator.terminate();
    assert_eq!(code(coordinator), Some(0));
    assert!(worker.is_alive());
    let mut again = off.coordinator();
    again.wait_for("adapter in");
    assert_eq!(code(worker), Some(0));
    let said = again.said().join("\n");
    assert!(
        !said.contains("step committed step=2 ") && !said.contains("step committed step=1 "),
        "no step is computed twice:\n{said}"
    );
    off.came_to_the_same();
}
