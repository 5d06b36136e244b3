//! Cuts a step's rows into slots.
//!
//! Longest row first, each to the least filled slot (Graham's LPT rule, 1969): its fullest slot is at most 4/3 of the
//! best possible, and on row lengths as they occur the slots come out within a few tokens of each other. Where the rule
//! overfills a slot, one more slot is taken.

use std::cmp::Reverse;

/// How a step may be cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotLimits {
    /// No slot holds more tokens.
    pub(super) slot_tokens: u64,
    /// At least so many slots, where there are so many rows.
    pub(super) min_slots: u32,
}

/// Assigns rows to slots: for each slot the positions in `row_tokens` that it holds, ascending. No slot is empty.
///
/// Every row must have at least one token and at most `slot_tokens`; the planner refuses others before.
pub(super) fn cut(row_tokens: &[u32], limits: SlotLimits) -> Vec<Vec<usize>> {
    let tokens: u64 = row_tokens.iter().copied().map(u64::from).sum();
    let by_tokens = usize::try_from(tokens.div_ceil(limits.slot_tokens)).unwrap_or(usize::MAX);
    let wanted = usize::try_from(limits.min_slots).unwrap_or(usize::MAX);
    let fewest = by_tokens.max(wanted).min(row_tokens.len());

    let mut longest_first: Vec<usize> = (0..row_tokens.len()).collect();
    longest_first.sort_by_key(|&position| Reverse(row_tokens[position]));
    (fewest..=row_tokens.len())
        .find_map(|slots| assign(row_tokens, &longest_first, slots, limits.slot_tokens))
        .expect("with a slot for every row, each slot holds one row, and none exceeds slot_tokens")
}

/// `None` when a slot would overflow.
fn assign(
    row_tokens: &[u32],
    longest_first: &[usize],
    slots: usize,
    slot_tokens: u64,
) -> Option<Vec<Vec<usize>>> {
    let mut filled = vec![0u64; slots];
    let mut rows = vec![Vec::new(); slots];
    for &position in longest_first {
        // The first of equally filled slots, so that the answer is one and the same everywhere.
        let slot = (0..slots).min_by_key(|&slot| filled[slot])?;
        filled[slot] += u64::from(row_tokens[position]);
        if filled[slot] > slot_tokens {
            return None;
        }
        rows[slot].push(position);
    }
    rows.iter_mut().for_each(|rows| rows.sort_unstable());
    Some(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut_into(row_tokens: &[u32], slot_tokens: u64, min_slots: u32) -> Vec<Vec<usize>> {
        cut(
            row_tokens,
            SlotLimits {
                slot_tokens,
                min_slots,
            },
        )
    }

    #[test]
    fn short_rows_share_one_slot_when_one_is_enough() {
        assert_eq!(cut_into(&[10, 20, 30], 100, 1), [[0, 1, 2]]);
    }

    #[test]
    fn as_many_slots_are_cut_as_workers_may_come() {
        assert_eq!(cut_into(&[10, 20, 30, 40], 100, 2), [[0, 3], [1, 2]]);
    }

    #[test]
    fn there_are_no_more_slots_than_rows() {
        assert_eq!(cut_into(&[10, 10], 100, 8), [[0], [1]]);
    }

    #[test]
    fn one_more_slot_is_taken_where_the_rows_do_not_fit_by_the_sum_alone() {
        // 180 tokens would be two slots of 100, but no two rows of 60 fit into one.
        assert_eq!(cut_into(&[60, 60, 60], 100, 1), [[0], [1], [2]]);
    }

    proptest! {
        #[test]
        fn no_row_is_lost_and_no_slot_overflows(
            row_tokens in prop::collection::vec(1u32..=64, 1..80),
            slot_tokens in 64u64..512,
            min_slots in 1u32..12,
        ) {
            let slots = cut_into(&row_tokens, slot_tokens, min_slots);
            let mut seen: Vec<usize> = slots.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..row_tokens.len()).collect::<Vec<_>>());
            prop_assert!(slots.len() >= row_tokens.len().min(min_slots as usize));
            for rows in &slots {
                let filled: u64 = rows.iter().map(|&row| u64::from(row_tokens[row])).sum();
                prop_assert!(!rows.is_empty() && filled <= slot_tokens);
                prop_assert!(rows.is_sorted());
            }
        }

        #[test]
        fn slots_are_balanced(row_tokens in prop::collection::vec(1u32..=64, 12..80), min_slots in 1u32..6) {
            let slots = cut_into(&row_tokens, 1 << 20, min_slots);
            let filled: Vec<u64> =
                slots.iter().map(|rows| rows.iter().map(|&row| u64::from(row_tokens[row])).sum()).collect();
            let (least, most) = (*filled.iter().min().unwrap(), *filled.iter().max().unwrap());
            prop_assert!(most - least <= 64, "{filled:?}");
        }
    }
}
