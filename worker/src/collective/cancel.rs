//! The handle by which another thread ends a collective's wait.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Ends waits from another thread, at once and for good. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    /// A handle that nobody has pulled yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every wait that holds this handle, now and later.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it was pulled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when it is pulled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + '_ {
        self.0.cancelled()
    }
}
