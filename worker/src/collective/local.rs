//! One worker alone.

use weft_common::id::Rank;

use super::{Cancel, Collective, CollectiveError};

/// The collective of a world of one: the sum is what is already there.
#[derive(Debug, Default)]
pub struct Local;

impl Collective for Local {
    fn world(&self) -> u32 {
        1
    }

    fn rank(&self) -> Rank {
        Rank(0)
    }

    fn all_reduce_sum(&mut self, _buf: &mut [i64], cancel: &Cancel) -> Result<(), CollectiveError> {
        if cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_of_one_keeps_its_numbers_until_cancelled() {
        let cancel = Cancel::new();
        let mut buf = [i64::MIN, -1, 0, 7];
        Local.all_reduce_sum(&mut buf, &cancel).unwrap();
        assert_eq!(buf, [i64::MIN, -1, 0, 7]);

        cancel.cancel();
        let refused = Local.all_reduce_sum(&mut buf, &cancel);
        assert!(matches!(refused, Err(CollectiveError::Cancelled)));
    }
}
