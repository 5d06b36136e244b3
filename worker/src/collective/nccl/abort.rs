//! An abort that does not return ends the process.

#![allow(
    unsafe_code,
    reason = "ends the process without its libraries' farewells"
)]

use std::ffi::c_int;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tracing::error;

/// The exit code of a worker that hangs.
pub const HUNG_EXIT_CODE: i32 = 22;

unsafe extern "C" {
    /// What is registered to be done at the end is left out: CUDA and NCCL would wait for the very thread that hangs.
    safe fn _exit(status: c_int) -> !;
}

/// Does `work`; where it has not returned `within`, the process ends.
pub(super) fn or_exit<T>(within: Duration, work: impl FnOnce() -> T) -> T {
    let (done, heard) = channel::<()>();
    let watchdog = thread::Builder::new()
        .name("weft-nccl-abort".to_owned())
        .spawn(move || {
            if heard.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
                error!(
                    ?within,
                    "NCCL does not abort; this process ends, and its supervisor starts it again"
                );
                _exit(HUNG_EXIT_CODE);
            }
        });
    let result = work();
    drop(done);
    match watchdog {
        // It returns at once, and does not panic.
        Ok(watchdog) => drop(watchdog.join()),
        Err(error) => error!(%error, "NCCL was aborted without a watchdog"),
    }
    result
}
