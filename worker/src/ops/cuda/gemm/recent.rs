//! A bounded memory of what was made for a key.

use std::collections::HashMap;
use std::hash::Hash;

/// Keeps so many entries at most: for a new one, that which was asked for least recently goes.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    time: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            time: 0,
            entries: HashMap::new(),
        }
    }

    /// What is kept for the key, else what `make` makes.
    pub(super) fn get_or_make<E>(
        &mut self,
        key: K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<&V, E> {
        self.time += 1;
        if !self.entries.contains_key(&key) {
            let made = make()?;
            if self.entries.len() >= self.most {
                self.forget_oldest();
            }
            self.entries.insert(key, (self.time, made));
        }
        let entry = self.entries.get_mut(&key);
        let (used, value) = entry.expect("it was there or was put there above");
        *used = self.time;
        Ok(value)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
        let oldest = oldest.map(|(key, _)| *key);
        oldest.and_then(|key| self.entries.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_is_made_again() {
        let mut recent = Recent::new(2);
        let mut made = Vec::new();
        for key in [1, 2, 1, 3, 1, 2] {
            let make = || {
                made.push(key);
                Ok::<_, Infallible>(key * 10)
            };
            assert_eq!(*recent.get_or_make(key, make).unwrap(), key * 10);
        }
        assert_eq!(made, [1, 2, 3, 2]);
    }
}
