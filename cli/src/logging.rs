//! Where log lines go: standard error, filtered by `WEFT_LOG`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging. `WEFT_LOG` (as in `WEFT_LOG=debug` or `WEFT_LOG=weft_worker=debug`) overrides `level`.
pub(crate) fn start(level: LevelFilter) {
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("WEFT_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A line that standard error does not take would be told with `eprintln!`, which panics where nobody reads.
        .log_internal_errors(false)
        .init();
}
