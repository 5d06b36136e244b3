//! The mean loss over all supervised tokens, whoever computed which row.

use crate::train::SlotLoss;

/// Binary digits after the point. A row's loss is rounded to these once, as it is added.
const FRACTION_BITS: i32 = 40;

/// Losses of rows, summed exactly: integers are added, so that neither the order nor the number of workers changes a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExactLoss {
    sum: i128,
    tokens: u64,
    rows: u64,
    not_finite: u64,
}

impl ExactLoss {
    /// That of one row.
    #[must_use]
    pub fn of_row(loss: SlotLoss) -> Self {
        let scaled = loss.loss_sum * 2_f64.powi(FRACTION_BITS);
        let finite = scaled.is_finite();
        Self {
            // A saturating cast; a row's loss is far below 2^80.
            sum: if finite { scaled.round() as i128 } else { 0 },
            tokens: loss.supervised,
            rows: 1,
            not_finite: u64::from(!finite),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sum: self.sum.wrapping_add(other.sum),
            tokens: self.tokens + other.tokens,
            rows: self.rows + other.rows,
            not_finite: self.not_finite + other.not_finite,
        }
    }

    /// Mean of −log p over supervised tokens; NaN where a row has no finite loss, or nothing is supervised.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.not_finite > 0 || self.tokens == 0 {
            return f64::NAN;
        }
        self.sum as f64 / 2_f64.powi(FRACTION_BITS) / self.tokens as f64
    }

    /// e to the mean.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// Supervised tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(loss_sum: f64, supervised: u64) -> ExactLoss {
        ExactLoss::of_row(SlotLoss {
            loss_sum,
            supervised,
        })
    }

    #[test]
    fn order_and_grouping_do_not_change_a_bit() {
        let rows: Vec<_> = (1..400)
            .map(|i| row(f64::from(i).sin().abs() * 10_f64.powi(i % 9), 3))
            .collect();
        let all = |rows: &mut dyn Iterator<Item = ExactLoss>| {
            rows.fold(ExactLoss::default(), ExactLoss::plus)
        };
        let forward = all(&mut rows.iter().copied());
        let groups: Vec<_> = rows
            .rchunks(7)
            .map(|rows| all(&mut rows.iter().rev().copied()))
            .collect();
        assert_eq!(all(&mut groups.into_iter()), forward);
        assert_eq!((forward.rows(), forward.tokens()), (399, 3 * 399));
    }

    #[test]
    fn it_is_the_mean_over_tokens_and_not_over_rows() {
        let loss = row(9.0, 9).plus(row(3.0, 1));
        assert!((loss.mean() - 1.2).abs() < 1e-12);
        assert!((loss.perplexity() - 1.2_f64.exp()).abs() < 1e-11);
        assert!(ExactLoss::default().mean().is_nan());
        assert!(loss.plus(row(f64::NAN, 1)).mean().is_nan());
    }
}
