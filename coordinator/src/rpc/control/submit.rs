//! Handing a job in.

use std::path::PathBuf;
use std::time::Duration;

use tonic::Status;
use tonic::metadata::MetadataValue;
use weft_common::id::JobId;
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::{CheckpointRef, ErrorKind};
use weft_proto::v1;

use crate::config::{JobSpec, SubmitError, WorkersBefore};
use crate::engine::{Needs, OnNonFinite};
use crate::handle::CoordinatorHandle;
use crate::queue::StartFrom;
use crate::rpc::stopped;
use crate::view::JobView;

/// Workers of a cluster may still have to be scheduled.
const FORM_WITHIN: Duration = Duration::from_secs(600);

pub(super) async fn submit(
    coordinator: &CoordinatorHandle,
    request: v1::SubmitJobRequest,
) -> Result<JobView, Status> {
    let from = if request.resume_newest {
        StartFrom::Newest
    } else {
        StartFrom::Scratch
    };
    let spec = job_spec(request)?;
    coordinator.take_in(spec, from).await.map_err(refused)
}

fn job_spec(request: v1::SubmitJobRequest) -> Result<JobSpec, Status> {
    let recipe = Recipe::parse(&request.recipe_json, Format::Json)
        .map_err(|errors| Status::invalid_argument(errors.to_string()))?;
    let workers = match request.workers {
        0 => *recipe.worker_bounds().start(),
        workers => workers,
    };
    let output_dir = match request.output_dir.as_str() {
        "" => PathBuf::from(&recipe.training.output_dir),
        dir => PathBuf::from(dir),
    };
    Ok(JobSpec {
        id: JobId::generate(),
        name: request.name,
        workers,
        // A job of a queue starts with what it needs, and grows when workers are free.
        gang: Some(*recipe.worker_bounds().start()),
        priority: request.priority,
        needs: Needs {
            memory_bytes: request.worker_memory_bytes,
            labels: request.worker_labels.into_iter().collect(),
        },
        form_within: FORM_WITHIN,
        output_dir: std::path::absolute(&output_dir).unwrap_or(output_dir),
        resume: request.resume.map(CheckpointRef::from),
        workers_before: WorkersBefore::Gone,
        on_non_finite: OnNonFinite::default(),
        recipe,
    })
}

/// Something is wrong with the job: what, for people, and of which kind, for their tools.
fn unfit(kind: ErrorKind, text: String) -> Status {
    let mut status = Status::invalid_argument(text);
    let kind = MetadataValue::from_static(match kind {
        ErrorKind::Recipe => "recipe",
        ErrorKind::Model => "model",
        ErrorKind::Data => "data",
        ErrorKind::Memory | ErrorKind::Storage => "environment",
        ErrorKind::Checkpoint | ErrorKind::Collective | ErrorKind::Internal => "internal",
    });
    status.metadata_mut().insert("weft-problem", kind);
    status
}

/// The one place where a refused job becomes a status.
fn refused(error: SubmitError) -> Status {
    let text = error.to_string();
    match error {
        SubmitError::Stopped => stopped(),
        SubmitError::Workers { .. } => unfit(ErrorKind::Recipe, text),
        SubmitError::Unfit(found) => unfit(found.kind, text),
        SubmitError::Output { .. } => unfit(ErrorKind::Storage, text),
        SubmitError::Refused(_) | SubmitError::NoQueue => Status::failed_precondition(text),
        SubmitError::NotRecorded(_) => Status::resource_exhausted(text),
    }
}
