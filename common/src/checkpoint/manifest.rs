//! `MANIFEST.json`: what a checkpoint consists of and what it belongs to.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Epoch, JobId, Step, Term};
use crate::storage::FileEntry;

/// The manifest's name.
pub const MANIFEST_FILE: &str = "MANIFEST.json";

/// What this version writes. Grows when an older reader would misread the folder.
const FORMAT_VERSION: u32 = 1;

/// Digests of everything that the state depends on. Training goes on from a checkpoint only where all are the same,
/// because otherwise the result would be that of no recipe at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDigests {
    /// [`Recipe::digest`](crate::recipe::Recipe::digest).
    pub recipe: Digest,
    /// The frozen base as loaded.
    pub base_model: Digest,
    /// The prepared dataset.
    pub dataset: Digest,
    /// The tokenizer.
    pub tokenizer: Digest,
    /// The chat template.
    pub template: Digest,
}

/// What the coordinator tells the worker that writes a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// Whose state it is.
    pub job: JobId,
    /// The step that training goes on with: so many updates are in the state.
    pub step: Step,
    /// Generation of the membership that computed it.
    pub epoch: Epoch,
    /// Incarnation of the coordinator that asked for it.
    pub term: Term,
    /// What the state depends on.
    pub inputs: InputDigests,
    /// The fixed-point scale 2^S of the gradient sum, as S.
    pub fixed_point_bits: u32,
    /// `training.seed`, for people; the recipe's digest covers it.
    pub seed: u64,
    /// Workers at that time, for people; any number may resume.
    pub world_size: u32,
}

impl CheckpointMeta {
    /// Whether training can go on from here under `inputs` and `fixed_point_bits`.
    ///
    /// # Errors
    /// Everything that differs, with its remedy.
    pub fn check_compatible(
        &self,
        inputs: &InputDigests,
        fixed_point_bits: u32,
    ) -> Result<(), Incompatible> {
        let saved = &self.inputs;
        let digests = [
            (Difference::Recipe, saved.recipe == inputs.recipe),
            (Difference::BaseModel, saved.base_model == inputs.base_model),
            (Difference::Dataset, saved.dataset == inputs.dataset),
            (Difference::Tokenizer, saved.tokenizer == inputs.tokenizer),
            (Difference::Template, saved.template == inputs.template),
            (
                Difference::FixedPoint,
                self.fixed_point_bits == fixed_point_bits,
            ),
        ];
        let differences = digests
            .into_iter()
            .filter(|(_, equal)| !equal)
            .map(|(what, _)| what);
        let differences: Vec<Difference> = differences.collect();
        if differences.is_empty() {
            return Ok(());
        }
        let step = self.step;
        Err(Incompatible { step, differences })
    }
}

/// The content of `MANIFEST.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the folder's format.
    pub format_version: u32,
    /// Version of weft that wrote it, for people.
    pub weft_version: String,
    /// What the state belongs to.
    #[serde(flatten)]
    pub meta: CheckpointMeta,
    /// Digest of adapter and optimizer state, which all members agreed on.
    pub state_digest: Digest,
    /// The other files, sorted by name.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// The manifest of a folder with these files.
    #[must_use]
    pub fn new(meta: CheckpointMeta, state_digest: Digest, mut files: Vec<FileEntry>) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            format_version: FORMAT_VERSION,
            weft_version: env!("CARGO_PKG_VERSION").to_owned(),
            meta,
            state_digest,
            files,
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// If it is no manifest, or one of a version that this weft cannot read.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        /// Read first, because everything else may differ between versions.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } = serde_json::from_slice(bytes)?;
        if format_version != FORMAT_VERSION {
            return Err(ManifestError::Version {
                found: format_version,
            });
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The manifest as it is written.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self)
            .expect("a manifest holds only numbers, text and lists");
        text + "\n"
    }
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not all fields.
    #[error("{MANIFEST_FILE} is damaged")]
    Syntax(#[from] serde_json::Error),
    /// Written by a weft with another format.
    #[error(
        "{MANIFEST_FILE} has format version {found}, but this weft reads {FORMAT_VERSION}; use the weft that wrote it"
    )]
    Version {
        /// The version it has.
        found: u32,
    },
}

/// A checkpoint that belongs to something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatible {
    /// The checkpoint's step.
    pub step: Step,
    /// At least one.
    pub differences: Vec<Difference>,
}

/// What differs from the time of the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// A setting that decides the result.
    Recipe,
    /// The base model's weights.
    BaseModel,
    /// The rows.
    Dataset,
    /// The tokenizer's files.
    Tokenizer,
    /// The chat template.
    Template,
    /// The fixed-point scale of the gradient sum.
    FixedPoint,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Recipe => "a setting of the recipe that decides the result",
            Self::BaseModel => "the base model",
            Self::Dataset => "the dataset",
            Self::Tokenizer => "the tokenizer",
            Self::Template => "the chat template",
            Self::FixedPoint => "the precision of the gradient sum",
        })
    }
}

impl std::fmt::Display for Incompatible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let differences: Vec<String> = self.differences.iter().map(Difference::to_string).collect();
        write!(
            f,
            "the checkpoint of step {} cannot be resumed: since then there is another value of {}; put it back as it was, \
             or start anew in another training.output_dir",
            self.step,
            differences.join(", and of ")
        )
    }
}

impl std::error::Error for Incompatible {}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::checkpoint) fn meta(step: u64) -> CheckpointMeta {
        let digest = |text: &str| Digest::of(text.as_bytes());
        CheckpointMeta {
            job: "job-1".parse().unwrap(),
            step: Step(step),
            epoch: Epoch(2),
            term: Term(1),
            inputs: InputDigests {
                recipe: digest("recipe"),
                base_model: digest("base"),
                dataset: digest("dataset"),
                tokenizer: digest("tokenizer"),
                template: digest("template"),
            },
            fixed_point_bits: 40,
            seed: 3407,
            world_size: 3,
        }
    }

    #[test]
    fn a_manifest_survives_being_written() {
        let manifest = Manifest::new(meta(50), Digest::of(b"state"), vec![]);
        assert_eq!(
            Manifest::parse(manifest.to_json().as_bytes()).unwrap(),
            manifest
        );
    }

    #[test]
    fn another_format_version_is_refused_whatever_else_it_holds() {
        let error = Manifest::parse(br#"{"format_version": 2, "novel": []}"#).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("format version 2, but this weft reads 1"),
            "{error}"
        );
    }

    #[test]
    fn all_that_differs_is_named() {
        let manifest = Manifest::new(meta(50), Digest::of(b"state"), vec![]);
        assert_eq!(manifest.meta.check_compatible(&meta(50).inputs, 40), Ok(()));
        let mut inputs = meta(50).inputs;
        inputs.dataset = Digest::of(b"more rows");
        let error = manifest.meta.check_compatible(&inputs, 32).unwrap_err();
        assert_eq!(
            error.differences,
            [Difference::Dataset, Difference::FixedPoint]
        );
        let text = error.to_string();
        assert!(
            text.contains("step 50") && text.contains("of the dataset, and of the precision"),
            "{text}"
        );
    }
}
