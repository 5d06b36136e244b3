//! What `weft k8s render` refuses and what it warns of.

use std::fs;

use weft_tests::process::{Finished, Weft};
use weft_tests::quickstart::Quickstart;

const GOOD: [(&str, &str); 3] = [
    ("--workers", "1..4"),
    ("--image", "weft:dev"),
    ("--storage", "shared"),
];

/// Renders with what is good, but for one option.
fn render(changed: &[(&str, &str)], more: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let kept = GOOD
        .iter()
        .filter(|(option, _)| !changed.iter().any(|(other, _)| other == option));
    let options = kept
        .chain(changed)
        .map(|(option, value)| format!("{option}={value}"));
    Weft::new(folder.path(), ["k8s", "render"])
        .args([Quickstart::recipe()])
        .args(options)
        .args(more)
        .finish()
}

#[test]
fn what_is_no_name_amount_or_number_is_refused_with_what_is_one() {
    for (option, value, remedy) in [
        ("--workers", "8..2", "2..8"),
        ("--workers", "0", "MIN..MAX"),
        ("--image", "", "registry.example/weft"),
        ("--name", "Medical_1", "medical-1"),
        ("--namespace", "a.b", "letter or digit at both ends"),
        ("--storage", "a b", "letter or digit"),
        ("--shm", "1GB", "16Gi"),
        ("--worker-resources", "cpu=4", "cpu=4,memory=16Gi"),
        ("--gpu-resource", "gpu", "nvidia.com/gpu"),
        ("--node-selector", "pool", "KEY=VALUE"),
        ("--toleration", "a=b:Never", "NoExecute"),
        ("--image-pull-policy", "Sometimes", "IfNotPresent"),
    ] {
        render(&[(option, value)], &[]).ended_with(2, &[option, remedy]);
    }
}

#[test]
fn all_that_is_wrong_with_a_recipe_and_its_place_is_told_together() {
    let wrong = [
        "--start-with=9",
        "--set=training.output_dir=/outputs",
        "--set=training.storage=file:///mnt/share",
    ];
    render(&[], &wrong).ended_with(
        10,
        &[
            "3 problems",
            "--start-with 9 lies outside --workers 1..4",
            "training.output_dir = /outputs: lies outside the volume",
            "training.storage = file:///mnt/share: lies outside the volume",
        ],
    );
    let wrong = [
        "--set=lora.r=0",
        "--set=model.base_model=../model",
        "--set=model.tokeniser=x",
    ];
    render(&[], &wrong).ended_with(
        10,
        &[
            "3 problems",
            "lora.r",
            "leads out of the recipe's folder",
            "tokenizer",
        ],
    );
}

#[test]
fn a_volume_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let weft = Weft::new(folder.path(), ["k8s", "render"])
        .args([Quickstart::recipe()])
        .args(["--workers", "2", "--image", "weft:dev"]);
    weft.finish().ended_with(2, &["--storage"]);
}

#[test]
fn files_need_not_be_here_and_what_to_mind_is_said_beside_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("recipe.yaml");
    let text = "model: {base_model: /opt/llama}\ndatasets: [{path: rows.csv}]\n\
                resources: {workers: {min: 1, max: 2}}\n";
    fs::write(&recipe, text).unwrap();
    let finished = Weft::new(folder.path(), ["k8s", "render"])
        .args([recipe])
        .args(
            GOOD.iter()
                .map(|(option, value)| format!("{option}={value}")),
        )
        .args(["--set", "training.storage=s3://bucket/runs"])
        .finish();
    finished.ended_with(
        0,
        &[
            "warning: connections between the pods are neither encrypted nor authenticated",
            "resources.workers.max to 4, in place of 2",
            "model.base_model = /opt/llama lies outside the volume",
            "no --secret says with which key",
        ],
    );
    assert!(
        !finished.printed.contains("warning"),
        "{}",
        finished.printed
    );
    assert!(finished.printed.contains("path: /data/rows.csv"));
}

#[test]
fn a_manifest_goes_into_a_file_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let printed = render(&[], &[]).printed;
    for (output, file) in [("", "weft.yaml"), ("job.yaml", "job.yaml")] {
        let output = format!("--output={}", folder.path().join(output).display());
        let finished = render(&[], &[&output]);
        assert_eq!(finished.succeeded().printed, "");
        let written = fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!(written.trim_end(), printed.trim_end());
    }
}
