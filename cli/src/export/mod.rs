//! `weft export`: what comes out of a training, for other programs.

mod args;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weft_worker::export::{self, Control, ExportError, Progress, Request};

pub(crate) use args::Args;

use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::signals::StopSignals;
use report::Watch;

/// Makes the exports one after another: each is there as soon as it is complete.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let requests = args.requests()?;
    let stop = Arc::new(AtomicBool::new(false));
    let _listener = listen(&stop)?;
    let mut summaries = Vec::new();
    for request in &requests {
        let watch = Watch::new(request);
        let progress = |progress: Progress| watch.on_progress(progress);
        let control = Control {
            stop: &stop,
            progress: &progress,
        };
        let summary = export::run(request, control).map_err(|error| failure(&error, request))?;
        watch.done(&summary);
        summaries.push(summary);
    }
    if args.json {
        let _ = print::line(report::json(&summaries)?)?;
        return Ok(());
    }
    for summary in &summaries {
        if print::line(report::text(summary))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Lets a request to stop end the export between two pieces, so that nothing half-written stays.
fn listen(stop: &Arc<AtomicBool>) -> Result<tokio::runtime::Runtime, Failure> {
    let environment = |error: std::io::Error| Failure::new(Exit::Environment, error);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(environment)?;
    let mut signals = {
        let _entered = runtime.enter();
        StopSignals::listen().map_err(environment)?
    };
    let stop = Arc::clone(stop);
    runtime.spawn(async move {
        signals.next().await;
        stop.store(true, Ordering::Relaxed);
        signals.next().await;
        // What is half-written is taken over by the next export.
        std::process::exit(Exit::Aborted as i32);
    });
    Ok(runtime)
}

fn failure(error: &ExportError, request: &Request) -> Failure {
    let exit = match error {
        ExportError::Adapter { .. }
        | ExportError::NoBase { .. }
        | ExportError::OtherBase { .. }
        | ExportError::OnlyNf4 { .. }
        | ExportError::Base(_)
        | ExportError::NotFinite { .. }
        | ExportError::TooLarge { .. }
        | ExportError::Unsupported { .. } => Exit::Model,
        ExportError::Tokenizer(_) | ExportError::GgufTokenizer { .. } => Exit::Data,
        ExportError::Exists { .. }
        | ExportError::Busy { .. }
        | ExportError::NoSpace { .. }
        | ExportError::Storage(_) => Exit::Environment,
        ExportError::Interrupted => Exit::Interrupted,
    };
    Failure::new(
        exit,
        format_args!("{} export: {error}", request.format.name()),
    )
}

/// `outputs/medical/adapter` → `outputs/medical/gguf`.
fn beside(adapter: &std::path::Path, format: &str) -> PathBuf {
    let parent = adapter
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from(format), |parent| parent.join(format))
}
