//! Buffers that ops need for a moment, kept for the next call.

use std::sync::{Mutex, PoisonError};

/// Buffers not in use. A call takes one and gives it back; no lock is held while it works.
#[derive(Debug, Default)]
pub(super) struct ScratchPool {
    free: Mutex<Vec<Vec<f32>>>,
}

impl ScratchPool {
    /// Lends `len` elements, contents unspecified.
    pub(super) fn with<R>(&self, len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
        let mut buffer = self.lock().pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        let result = work(&mut buffer[..len]);
        self.lock().push(buffer);
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<f32>>> {
        // A buffer's contents are unspecified anyway, so a panic elsewhere leaves nothing to distrust.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
