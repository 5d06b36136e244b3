//! Makes the tiny model of the quickstart: a Llama of about a million parameters that has read simple English.
//!
//! The rooms, in the order in which the work passes through them: [`corpus`] writes documents from hand-written text and
//! grammars, [`tokenizer`] learns a byte-level BPE vocabulary from them, [`model`] is the network over candle's plain
//! operations, [`pretrain`] teaches it the documents, and [`export`] writes the Hugging Face folder. Every random choice
//! comes from one [`rng::Rng`], so the same seed and corpus give the same files on the same machine.

pub mod config;
pub mod corpus;
pub mod export;
pub mod model;
pub mod pretrain;
pub mod rng;
pub mod tokenizer;

use std::path::Path;

use anyhow::Result;

use crate::config::{ModelConfig, Schedule};
use crate::corpus::Corpus;
use crate::rng::Rng;

/// Everything that decides the made model, apart from the corpus.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Seed of the documents, the starting weights and their order.
    pub seed: u64,
    /// Shape of the network.
    pub model: ModelConfig,
    /// How long and how fast it learns.
    pub schedule: Schedule,
}

/// Makes the model from the corpus folder and writes it into `out`; `log` receives one line of progress at a time.
///
/// # Errors
///
/// A corpus that cannot be read or has a mistake in a grammar, or an output folder that cannot be written.
pub fn make(plan: &Plan, corpus: &Path, out: &Path, log: &dyn Fn(&str)) -> Result<()> {
    let corpus = Corpus::load(corpus)?;
    let tokenizer = tokenizer::train(&corpus, &mut Rng::new(plan.seed), plan.model.vocab_size)?;
    let weights = pretrain::pretrain(plan, &corpus, &tokenizer, log)?;
    export::write_folder(out, &plan.model, &tokenizer, &weights)
}
