//! Rows of random tokens, made as they are asked for.

use weft_common::data::Row;
use weft_common::id::SlotId;
use weft_common::plan::SlotPlan;

use super::StepSettings;
use crate::counter::Counter;
use crate::train::session::RowSource;

/// As many rows as there are numbers, all of one length, every token supervised.
pub(super) struct RandomRows {
    vocab: usize,
    tokens: usize,
    random: Counter,
}

impl RandomRows {
    /// Rows of `tokens` tokens below `vocab`.
    pub(super) fn new(vocab: usize, tokens: usize) -> Self {
        Self {
            vocab,
            tokens,
            random: Counter::new(1, "rows"),
        }
    }
}

impl RowSource for RandomRows {
    fn row(&self, index: u32) -> Row {
        let first = u64::from(index) * self.tokens as u64;
        let token = |i: u64| (self.random.unit(first + i) * self.vocab as f64) as u32;
        Row {
            tokens: (0..self.tokens as u64).map(token).collect(),
            supervised: vec![true; self.tokens],
        }
    }
}

/// The micro-batches of step `step`; no row comes twice.
pub(super) fn slots(settings: &StepSettings, step: u64) -> Vec<SlotPlan> {
    let rows_per_step = settings.micro_batch * settings.accumulation;
    let first = (step as u32).wrapping_mul(rows_per_step);
    let slot = |slot: u32| {
        let first = first.wrapping_add(slot * settings.micro_batch);
        SlotPlan {
            slot: SlotId(slot),
            rows: (0..settings.micro_batch)
                .map(|row| first.wrapping_add(row))
                .collect(),
            tokens: settings.slot_tokens() as u64,
            // Nothing comes before a row's first token that could predict it.
            supervised_tokens: u64::from(settings.micro_batch)
                * u64::from(settings.sequence_length.saturating_sub(1)),
        }
    };
    (0..settings.accumulation).map(slot).collect()
}
