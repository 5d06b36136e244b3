//! One micro-batch, packed: rows one after another, without padding.

use weft_common::data::Row;

/// Rows packed for one forward and backward pass. Tokens of different rows never see each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackedBatch {
    tokens: Vec<u32>,
    cu_seqlens: Vec<u32>,
    rows: Vec<u32>,
    targets: Vec<u32>,
}

impl PackedBatch {
    /// Packs rows in the order given. Empty rows are left out.
    #[must_use]
    pub fn from_rows<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut batch = Self {
            cu_seqlens: vec![0],
            ..Self::default()
        };
        for row in rows {
            batch.push(row);
        }
        batch
    }

    /// One row of which nothing is supervised.
    #[must_use]
    pub fn from_tokens(tokens: &[u32]) -> Self {
        let row = Row {
            tokens: tokens.to_vec(),
            supervised: vec![false; tokens.len()],
        };
        Self::from_rows([&row])
    }

    fn push(&mut self, row: &Row) {
        let start = self.len_u32();
        // Token i of the row is predicted at position i − 1, from what lies before it.
        for (before, (&token, &supervised)) in
            (start..).zip(row.tokens.iter().zip(&row.supervised).skip(1))
        {
            if supervised {
                self.rows.push(before);
                self.targets.push(token);
            }
        }
        self.tokens.extend_from_slice(&row.tokens);
        let end = self.len_u32();
        if end > start {
            self.cu_seqlens.push(end);
        }
    }

    fn len_u32(&self) -> u32 {
        u32::try_from(self.tokens.len()).expect("a micro-batch holds fewer than 2^32 tokens")
    }

    /// Token ids of all rows.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Row boundaries: row i is `cu_seqlens[i]..cu_seqlens[i + 1]`.
    #[must_use]
    pub fn cu_seqlens(&self) -> &[u32] {
        &self.cu_seqlens
    }

    /// Position of each token within its row.
    #[must_use]
    pub fn positions(&self) -> Vec<u32> {
        self.cu_seqlens
            .windows(2)
            .flat_map(|ends| 0..ends[1] - ends[0])
            .collect()
    }

    /// Where something supervised is predicted: `rows()[i]` predicts `targets()[i]`. Ascending.
    #[must_use]
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The tokens to predict.
    #[must_use]
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Supervised tokens.
    #[must_use]
    pub fn supervised(&self) -> u64 {
        self.targets.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tokens: &[u32], supervised: &[u8]) -> Row {
        Row {
            tokens: tokens.to_vec(),
            supervised: supervised.iter().map(|&s| s == 1).collect(),
        }
    }

    #[test]
    fn a_token_is_predicted_one_position_before_it() {
        let batch = PackedBatch::from_rows([&row(&[5, 6, 7], &[0, 0, 1]), &row(&[8, 9], &[0, 1])]);
        assert_eq!(batch.tokens(), [5, 6, 7, 8, 9]);
        assert_eq!(batch.cu_seqlens(), [0, 3, 5]);
        assert_eq!(batch.positions(), [0, 1, 2, 0, 1]);
        assert_eq!((batch.rows(), batch.targets()), (&[1, 3][..], &[7, 9][..]));
        assert_eq!(batch.supervised(), 2);
    }

    #[test]
    fn a_first_token_is_never_predicted_from_the_row_before() {
        let batch = PackedBatch::from_rows([&row(&[5, 6], &[0, 0]), &row(&[7, 8], &[1, 0])]);
        assert_eq!(batch.supervised(), 0);
    }

    #[test]
    fn an_empty_row_leaves_no_boundary() {
        let batch = PackedBatch::from_rows([&row(&[], &[]), &row(&[1], &[0])]);
        assert_eq!(batch.cu_seqlens(), [0, 1]);
    }
}
