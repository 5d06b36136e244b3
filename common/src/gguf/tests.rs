//! The container reader against files built here byte by byte, whole and broken.

use std::path::PathBuf;

use super::{GgmlType, GgufFile, Value};

/// Builds a file with two metadata entries and one Q4_0 tensor of 2×32.
#[derive(Clone)]
struct Sample {
    version: u32,
    tensor_count: u64,
    tensor_type: u32,
    array_count: u64,
    dims: Vec<u64>,
    data: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            version: 3,
            tensor_count: 1,
            tensor_type: 2,
            array_count: 2,
            dims: vec![32, 2],
            data: (0..36).collect(),
        }
    }
}

impl Sample {
    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        text(&mut out, "general.architecture");
        out.extend(8u32.to_le_bytes());
        text(&mut out, "llama");
        text(&mut out, "tokenizer.ggml.tokens");
        out.extend(9u32.to_le_bytes());
        out.extend(8u32.to_le_bytes());
        out.extend(self.array_count.to_le_bytes());
        text(&mut out, "a");
        text(&mut out, "b");
        text(&mut out, "w");
        out.extend((self.dims.len() as u32).to_le_bytes());
        self.dims
            .iter()
            .for_each(|dim| out.extend(dim.to_le_bytes()));
        out.extend(self.tensor_type.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }

    fn open(&self) -> Result<GgufFile, String> {
        open_bytes(&self.bytes())
    }
}

fn open_bytes(bytes: &[u8]) -> Result<GgufFile, String> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(GgufFile::is_gguf(&path), bytes.starts_with(b"GGUF"));
    GgufFile::open(&path).map_err(|error| error.to_string())
}

#[test]
fn metadata_and_tensors_are_read_back() {
    let file = Sample::default().open().unwrap();
    assert_eq!(file.version(), 3);
    assert_eq!(file.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(
        file.strings("tokenizer.ggml.tokens").unwrap(),
        Some(vec!["a", "b"])
    );
    let tensor = file.tensor("w").unwrap();
    assert_eq!(tensor.dims, [2, 32]);
    assert_eq!((tensor.kind, tensor.elements()), (GgmlType::Q4_0, 64));
    assert_eq!(file.bytes(tensor), (0..36).collect::<Vec<u8>>());
}

#[test]
fn every_truncation_is_an_error_that_says_where() {
    let bytes = Sample::default().bytes();
    for len in 0..bytes.len() {
        let error = open_bytes(&bytes[..len]).unwrap_err();
        let expected = if len < 4 {
            "instead of \"GGUF\""
        } else {
            "truncated"
        };
        assert!(error.contains(expected), "{len}: {error}");
    }
}

#[test]
fn no_flipped_byte_makes_the_reader_panic() {
    let bytes = Sample::default().bytes();
    for position in 0..bytes.len() {
        for value in [0x00, 0x7f, 0xff] {
            let mut broken = bytes.clone();
            broken[position] = value;
            if let Ok(file) = open_bytes(&broken) {
                file.tensors()
                    .iter()
                    .for_each(|tensor| assert!(file.bytes(tensor).len() <= bytes.len()));
            }
        }
    }
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
    let huge = Sample {
        tensor_count: u64::MAX,
        ..Sample::default()
    };
    assert!(huge.open().unwrap_err().contains("tensor directory"));
    let huge = Sample {
        array_count: u64::MAX / 2,
        ..Sample::default()
    };
    assert!(huge.open().unwrap_err().contains("tokenizer.ggml.tokens"));
    let huge = Sample {
        dims: vec![u64::MAX - 31, 1 << 40],
        ..Sample::default()
    };
    assert!(huge.open().unwrap_err().contains("impossible"));
}

#[test]
fn an_unreadable_tensor_type_is_named_with_the_readable_ones() {
    let sample = Sample {
        tensor_type: 23,
        ..Sample::default()
    };
    let error = sample.open().unwrap_err();
    assert!(
        error.contains("tensor w has type IQ4_XS (number 23)"),
        "{error}"
    );
    assert!(error.contains("Q4_K"), "{error}");
}

#[test]
fn an_old_container_version_is_refused_with_the_remedy() {
    let sample = Sample {
        version: 1,
        ..Sample::default()
    };
    assert!(
        sample
            .open()
            .unwrap_err()
            .contains("version 1 is not supported")
    );
}

#[test]
fn a_value_of_another_type_is_named() {
    let file = Sample::default().open().unwrap();
    let error = file.u64("general.architecture").unwrap_err().to_string();
    assert!(
        error.contains("`general.architecture` is text, expected an unsigned integer"),
        "{error}"
    );
    let error = file.required("llama.block_count", file.u64("llama.block_count").unwrap());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("`llama.block_count` is missing")
    );
    assert_eq!(
        file.metadata().get("general.architecture"),
        Some(&Value::String("llama".to_owned()))
    );
}
