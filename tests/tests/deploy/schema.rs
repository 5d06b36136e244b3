//! A cluster would take the manifests, as far as its schemas tell.

use crate::manifests::golden_folder;
use crate::tools;

#[test]
fn manifests_pass_the_newest_schemas_strictly() {
    let Some(mut validate) = tools::python_tool("kubernetes_validate") else {
        return;
    };
    let files = ["gpu.yaml", "everything.yaml", "cpu.yaml"];
    let files = files.map(|name| golden_folder().join(name));
    let said = tools::succeeded(&validate.arg("--strict").args(&files).output().unwrap());
    for file in files {
        let passed = said.lines().filter(|line| {
            line.contains(&*file.to_string_lossy()) && line.to_lowercase().contains("pass")
        });
        assert!(passed.count() > 0, "{}: {said}", file.display());
    }
}

#[test]
fn the_schemas_find_what_is_wrong() {
    let Some(mut validate) = tools::python_tool("kubernetes_validate") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(golden_folder().join("gpu.yaml")).unwrap();
    let wrong = folder.path().join("wrong.yaml");
    std::fs::write(&wrong, text.replace("completionMode", "completionMood")).unwrap();
    let output = validate.arg("--strict").arg(wrong).output().unwrap();
    assert!(!output.status.success());
}
