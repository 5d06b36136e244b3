//! Files that are absent or damaged.

use std::path::Path;

use super::checkpoint::Checkpoint;
use super::{assert_refused, golden, load};

/// A copy of the golden folder.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::read(&golden("tiny_llama")).write(folder.path());
    folder
}

#[test]
fn a_path_that_is_no_model_is_refused() {
    assert_refused(
        load(Path::new("/nowhere/llama")),
        &["/nowhere/llama", "does not exist", "model.base_model"],
    );
    let folder = folder();
    assert_refused(
        load(&folder.path().join("config.json")),
        &["config.json", ".gguf", "folder"],
    );
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_refused(load(folder.path()), &["missing model.safetensors"]);
    std::fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    assert_refused(
        load(folder.path()),
        &["missing model.safetensors", "safe_serialization"],
    );
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert_refused(load(folder.path()), &["missing config.json"]);
    std::fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    assert_refused(load(folder.path()), &["LoRA adapter", "base model"]);
    std::fs::write(folder.path().join("a.gguf"), "").unwrap();
    assert_refused(load(folder.path()), &["GGUF files", "a.gguf"]);
}

#[test]
fn a_missing_shard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::read(&golden("tiny_llama")).write_shards(folder.path(), 3);
    std::fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    assert_refused(
        load(folder.path()),
        &["model-00002-of-00003.safetensors", "3 shards"],
    );
    std::fs::write(folder.path().join("model.safetensors.index.json"), "{}").unwrap();
    assert_refused(load(folder.path()), &["index.json", "weight_map"]);
    let outside = r#"{"weight_map": {"a": "../secret.safetensors"}}"#;
    std::fs::write(folder.path().join("model.safetensors.index.json"), outside).unwrap();
    assert_refused(load(folder.path()), &["../secret.safetensors", "outside"]);
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for keep in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        assert_refused(
            load(folder.path()),
            &["model.safetensors is damaged", "download"],
        );
    }
}

/// Writes a safetensors file with this header and 8 bytes of data.
fn write_header(folder: &Path, header: &str) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 8]);
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn a_corrupt_header_is_refused() {
    let folder = folder();
    for (header, part) in [
        ("[]", "not a JSON object"),
        ("{\"x\": ", "not a JSON object"),
        (r#"{"x": {"dtype": "F32"}}"#, "tensor `x`"),
        (
            r#"{"x": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}"#,
            "4..12",
        ),
        (
            r#"{"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}"#,
            "8..0",
        ),
        (
            r#"{"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}"#,
            "[3]",
        ),
        (
            r#"{"x": {"dtype": "F32", "shape": [9223372036854775807, 4], "data_offsets": [0, 8]}}"#,
            "8 bytes",
        ),
    ] {
        write_header(folder.path(), header);
        assert_refused(load(folder.path()), &["model.safetensors is damaged", part]);
    }
    let mut bytes = u64::MAX.to_le_bytes().to_vec();
    bytes.extend([0; 64]);
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    assert_refused(
        load(folder.path()),
        &["header claims 18446744073709551615 bytes"],
    );
}
