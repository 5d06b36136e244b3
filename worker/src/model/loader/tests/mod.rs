//! Loading, from outside: checkpoints written here, or by the real libraries, against what they were made of.

mod bad_files;
mod bad_models;
mod bitsandbytes;
mod checkpoint;
mod gguf;
mod hugging_face;
mod onto;

use std::path::{Path, PathBuf};

use super::{LoadError, LoadOptions, LoadedModel};
use crate::model::FrozenLinear;

/// A file or folder that the real libraries made.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/golden")
        .join(name)
}

fn load(path: &Path) -> Result<LoadedModel, LoadError> {
    super::load(path, &LoadOptions::default(), &|_| {})
}

fn load_in_4bit(path: &Path) -> Result<LoadedModel, LoadError> {
    let options = LoadOptions {
        load_in_4bit: true,
        digest: None,
    };
    super::load(path, &options, &|_| {})
}

/// Every value of a linear.
fn values(linear: &FrozenLinear) -> Vec<f32> {
    let mut out = vec![f32::NAN; linear.rows() * linear.cols()];
    linear.rows_into(0..linear.rows(), &mut out);
    out
}

/// The message of a load that must fail, which names `parts`.
#[track_caller]
fn assert_refused(result: Result<LoadedModel, LoadError>, parts: &[&str]) {
    let message = match result {
        Ok(_) => panic!("loaded, although it should name {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}
