//! Engines for the agent.

use std::path::Path;

use weft_common::data::{ChatTokenizer, DataError, Prepared, Row};

use super::{Dataset, RowSource, open};
use crate::agent::{Engine, EngineError, EngineFactory, ErrorKind, JobSetup};

impl RowSource for Prepared {
    fn row(&self, index: u32) -> Row {
        Prepared::row(self, index)
    }
}

/// What the agent makes engines with: trainers on this machine's CPU, named `device` for people.
#[must_use]
pub fn engine_factory(device: String) -> EngineFactory {
    Box::new(move |setup| {
        let trainer = open(setup, read_dataset(setup)?, &device)?;
        Ok(Box::new(trainer) as Box<dyn Engine>)
    })
}

/// Opens the prepared rows and checks every byte of them.
fn read_dataset(setup: &JobSetup) -> Result<Dataset, EngineError> {
    let unreadable = |error: DataError| EngineError::new(ErrorKind::Data, error);
    let prepared = Prepared::open(&setup.dataset_dir).map_err(unreadable)?;
    prepared.verify().map_err(unreadable)?;
    let model = &setup.recipe.model;
    let tokenizer = ChatTokenizer::load(
        Path::new(&model.base_model),
        model.tokenizer.as_deref().map(Path::new),
        &model.chat_template,
    )
    .map_err(|error| EngineError::new(ErrorKind::Data, error))?;
    Ok(Dataset {
        stats: prepared.stats(),
        digest: prepared.digest(),
        tokenizer: tokenizer.digest(),
        template: tokenizer.template_digest(),
        rows: Box::new(prepared),
    })
}
