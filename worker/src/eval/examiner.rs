//! A model on one device, asked row by row.

use std::ops::ControlFlow;
use std::sync::Arc;

use weft_common::data::Row;

use crate::generate::{GenerateError, GenerateOptions, Generator};
use crate::model::Model;
use crate::ops::DeviceError;
use crate::train::{Backend, MemoryPlan, PackedBatch, Pass, PassError, SlotLoss};

/// Which model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The base model alone.
    Base,
    /// The base model with its adapter; without an adapter the base model.
    Adapted,
}

/// A row that could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// Its loss.
    #[error(transparent)]
    Loss(#[from] PassError),
    /// Its answer.
    #[error(transparent)]
    Answer(#[from] GenerateError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Threads could not be started.
    #[error("cannot start threads: {0}; set --workers or --threads lower")]
    Threads(String),
}

/// A model that is asked. One row is one pass, so that a row's figures depend on nothing but the row.
pub trait Examiner: Send {
    /// Loss of a row's supervised tokens.
    ///
    /// # Errors
    /// A row that the model cannot read, or the device's.
    fn loss(&mut self, row: &Row, subject: Subject) -> Result<SlotLoss, EvalError>;

    /// What the model says to a prompt: always the likeliest token.
    ///
    /// # Errors
    /// A prompt that the model cannot read, or the device's.
    fn answer(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        subject: Subject,
    ) -> Result<Vec<u32>, EvalError>;
}

/// An examiner over any backend. The model may be shared by several.
pub struct ModelExaminer<B: Backend> {
    model: Arc<Model<B>>,
    /// What holds the adapter on the device.
    state: Option<B::State>,
    pass: Pass<B>,
}

impl<B: Backend> ModelExaminer<B> {
    /// An examiner of `model` with the adapter in `state`.
    #[must_use]
    pub fn new(model: Arc<Model<B>>, state: Option<B::State>) -> Self {
        Self {
            model,
            state,
            pass: Pass::new(MemoryPlan::recompute()),
        }
    }
}

impl<B: Backend> Examiner for ModelExaminer<B> {
    fn loss(&mut self, row: &Row, subject: Subject) -> Result<SlotLoss, EvalError> {
        let Self { model, state, pass } = self;
        let state = state.as_ref().filter(|_| subject == Subject::Adapted);
        let adapter = state.map(|state| model.ops().adapter(state));
        Ok(pass.loss(model, adapter, &PackedBatch::from_rows([row]))?)
    }

    fn answer(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        subject: Subject,
    ) -> Result<Vec<u32>, EvalError> {
        let Self { model, state, .. } = self;
        let state = state.as_ref().filter(|_| subject == Subject::Adapted);
        let adapter = state.map(|state| model.ops().adapter(state));
        let generated = Generator::new(model, adapter)
            .generate(prompt, options, &mut |_| ControlFlow::Continue(()))?;
        model.ops().health()?;
        Ok(generated.tokens)
    }
}
