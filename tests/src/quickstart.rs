//! The quickstart's recipe, shortened, in a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Weft;
use crate::{files, repository};

/// A folder with its own cache, where the quickstart recipe runs shortened.
#[derive(Debug)]
pub struct Quickstart {
    folder: tempfile::TempDir,
    sets: Vec<String>,
}

impl Quickstart {
    /// Six steps with a checkpoint after every second one.
    ///
    /// # Panics
    /// The system gives no temporary folder.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("the system gives a temporary folder");
        let sets = [
            "training.max_steps=6",
            "training.save_steps=2",
            "training.logging_steps=1",
        ];
        Self {
            folder,
            sets: sets.map(str::to_owned).to_vec(),
        }
    }

    /// Changes a key of the recipe.
    #[must_use]
    pub fn set(mut self, assignment: impl Into<String>) -> Self {
        self.sets.push(assignment.into());
        self
    }

    /// The folder that everything of this test lies in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The output folder called `name`.
    #[must_use]
    pub fn output(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The recipe in the repository.
    #[must_use]
    pub fn recipe() -> PathBuf {
        repository().join("examples/quickstart/recipe.yaml")
    }

    /// A copy of the base model that a test may break.
    ///
    /// # Panics
    /// The model cannot be copied.
    #[must_use]
    pub fn model_copy(&self) -> PathBuf {
        let copy = self.folder().join("model-copy");
        files::copy_folder(&repository().join("examples/quickstart/model"), &copy)
            .expect("the model can be copied");
        copy
    }

    /// Writes a dataset that a test may break.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn dataset(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, text).expect("a temporary folder is writable");
        path
    }

    /// `weft SUBCOMMAND recipe --set …`.
    #[must_use]
    pub fn weft(&self, subcommand: &str) -> Weft {
        let mut arguments: Vec<OsString> = subcommand.split(' ').map(OsString::from).collect();
        arguments.push(Self::recipe().into());
        for set in &self.sets {
            arguments.extend(["--set".into(), set.into()]);
        }
        Weft::new(&self.folder().join("cache"), arguments)
    }

    /// `weft run` into the output folder `name`.
    #[must_use]
    pub fn run(&self, name: &str, workers: u32) -> Weft {
        let workers = workers.to_string();
        self.weft("run")
            .args(["--workers", &workers, "--output"])
            .args([self.output(name)])
    }

    /// SHA-256 of the adapter in the output folder `name`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn adapter(&self, name: &str) -> String {
        let path = self.output(name).join("adapter/adapter_model.safetensors");
        files::sha256(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl Default for Quickstart {
    fn default() -> Self {
        Self::new()
    }
}
