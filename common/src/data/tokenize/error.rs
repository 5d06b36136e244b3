//! Why a tokenizer cannot be used.

use std::io;
use std::path::PathBuf;

use crate::data::chat::{TemplateError, builtin_names};
use crate::gguf::GgufError;

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The folder holds no `tokenizer.json`.
    #[error(
        "{} has no tokenizer.json{}; copy it from the model's repository, or set model.tokenizer to a folder that has one",
        folder.display(),
        if *.sentencepiece { " (a tokenizer.model alone cannot be read)" } else { "" }
    )]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// Whether a `tokenizer.model` is there.
        sentencepiece: bool,
    },
    /// A file cannot be read.
    #[error("tokenizer file {} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file's content is not what it should be.
    #[error("tokenizer {origin} cannot be used: {detail}; copy or convert it again")]
    Invalid {
        /// The file.
        origin: String,
        /// What is wrong.
        detail: String,
    },
    /// A GGUF file has a tokenizer of a kind that is not known.
    #[error(
        "{} has a tokenizer of kind {kind}, which weft cannot read (it reads {known}); set model.tokenizer to a folder with the model's tokenizer.json",
        path.display()
    )]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// The kind's name in the file.
        kind: String,
        /// The kinds that can be read.
        known: String,
    },
    /// The GGUF file itself is broken.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// `model.chat_template` is neither a built-in name nor a file.
    #[error(
        "model.chat_template `{name}` is neither `auto`, nor a built-in template ({}), nor a file",
        builtin_names()
    )]
    UnknownTemplate {
        /// What the recipe says.
        name: String,
    },
    /// The template itself is unusable.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The template is laid out with tokens that the tokenizer would spell out letter by letter.
    #[error(
        "chat template {template} needs tokens that tokenizer {origin} lacks: {}; choose a model.chat_template that fits the model, or `auto`",
        missing.join(", ")
    )]
    LacksTokens {
        /// The template's name.
        template: String,
        /// The tokenizer's file.
        origin: String,
        /// The tokens.
        missing: Vec<String>,
    },
    /// Conversations need a template and there is none.
    #[error(
        "tokenizer {origin} has no chat template; set model.chat_template to one of {}, or to a .jinja file",
        builtin_names()
    )]
    NoTemplate {
        /// The tokenizer's file.
        origin: String,
    },
}
