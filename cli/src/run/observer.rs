//! Turns what the coordinator tells into what a person sees and what stays in the output folder.

use std::io;
use std::time::Instant;

use weft_common::storage::write_atomic;
use weft_coordinator::{EpochReport, Happening, Notice, StepReport};
use weft_worker::cuda::GpuFacts;

use crate::output::banner::Banner;
use crate::output::folder::OutputFolder;
use crate::output::memory::{self, Hardware, Resident, counted};
use crate::output::metrics::{Metrics, StepRecord};
use crate::output::print;
use crate::output::progress::{Audience, Progress};
use crate::output::report::Page;
use crate::output::timeline::{Entry, Timeline};
use crate::output::trainer::Summary;

/// What the observer needs to know of the run.
#[derive(Debug, Clone)]
pub(crate) struct RunFacts {
    /// What is about to run.
    pub(crate) banner: Banner,
    /// What the trainer's files say beyond the steps; the runtime is filled in at the end.
    pub(crate) summary: Summary,
    /// Optimizer steps of one pass over the data.
    pub(crate) steps_per_epoch: u64,
    /// Who reads what is printed; nobody where a job is one of many.
    pub(crate) audience: Option<Audience>,
    /// The GPUs that workers of this machine compute on.
    pub(crate) gpus: Vec<GpuFacts>,
}

/// Follows one run.
#[derive(Debug)]
pub(crate) struct Observer {
    facts: RunFacts,
    folder: OutputFolder,
    metrics: Metrics,
    timeline: Timeline,
    hardware: Hardware,
    progress: Option<Progress>,
    /// Set when the members are connected.
    started: Option<Instant>,
    start_bytes: u64,
    peak_bytes: u64,
}

impl Observer {
    /// Opens the metrics of a run that goes on after `committed` steps.
    pub(crate) fn new(facts: RunFacts, folder: OutputFolder, committed: u64) -> io::Result<Self> {
        Ok(Self {
            metrics: Metrics::resume(&folder.metrics(), committed)?,
            timeline: Timeline::open(&folder.timeline())?,
            hardware: match facts.gpus.as_slice() {
                [] => Hardware::cpu(),
                gpus => Hardware::gpus(gpus),
            },
            facts,
            folder,
            progress: None,
            started: None,
            start_bytes: 0,
            peak_bytes: 0,
        })
    }

    /// Takes in one notice. `resident` is what the worker processes of this machine use, where they are this run's own.
    pub(crate) fn notice(&mut self, notice: &Notice, resident: Option<Resident>) -> io::Result<()> {
        if let Some(resident) = self.of_device(resident) {
            self.peak_bytes = self.peak_bytes.max(resident.peak_bytes);
        }
        let committed = self.metrics.records().last().map_or(0, |last| last.step);
        if let Some(entry) = Entry::of(notice, committed) {
            self.timeline.push(entry);
        }
        match notice {
            Notice::EpochFormed(epoch) if self.started.is_none() => self.begin(epoch, resident),
            Notice::RolledBack { to, .. } => {
                self.say_of(notice);
                let path = self.folder.metrics();
                return self.metrics.rewind(&path, to.0);
            }
            Notice::StepCommitted(step) => {
                self.say_of(notice);
                return self.step(step);
            }
            // This run's own workers are on their way already.
            Notice::Waiting(_) if resident.is_some() => {}
            Notice::EpochFormed(_)
            | Notice::MemberLost(_)
            | Notice::Waiting(_)
            | Notice::CheckpointFailed { .. }
            | Notice::CheckpointOverdue(_)
            | Notice::GpuSick { .. }
            | Notice::GpuConcern { .. }
            | Notice::Draining(_) => self.say_of(notice),
            Notice::Ended(_) => {
                if let Some(progress) = &self.progress {
                    progress.finish();
                }
            }
            Notice::Planned { .. }
            | Notice::Admitted
            | Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::CheckpointSaved { .. } => {}
        }
        Ok(())
    }

    fn say_of(&self, notice: &Notice) {
        if let Some(happening) = Happening::of(notice) {
            self.say(&happening.line());
        }
    }

    /// Prints a line between, and never through, what else is shown.
    pub(crate) fn say(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.notice(text),
            None if self.facts.audience.is_some() => print::error(text),
            None => {}
        }
    }

    /// What processes hold of the host's memory, where that is what they compute in.
    fn of_device(&self, resident: Option<Resident>) -> Option<Resident> {
        resident.filter(|_| self.facts.gpus.is_empty())
    }

    fn begin(&mut self, epoch: &EpochReport, resident: Option<Resident>) {
        let engines = || epoch.members.iter().map(|(_, engine)| engine);
        let total: u64 = engines().map(|engine| engine.memory.total_bytes()).sum();
        let activations: u64 = engines().map(|e| e.memory.activation_bytes).sum();
        let resident = self.of_device(resident);
        self.start_bytes = resident.map_or(total - activations, |resident| resident.current_bytes);
        // A GPU's memory is planned: what a step takes is known before it.
        let planned = if self.facts.gpus.is_empty() {
            self.start_bytes
        } else {
            total
        };
        self.peak_bytes = self.peak_bytes.max(planned);
        let gpus = engines().map(|engine| engine.device.as_str());
        self.facts.banner.gpus = counted(gpus.filter(|device| !device.starts_with("cpu")));
        self.facts.banner.workers = u32::try_from(epoch.members.len()).unwrap_or(u32::MAX);
        if self.facts.audience == Some(Audience::People) {
            print::aside(format_args!(
                "{}\n{}",
                self.facts.banner,
                memory::before(&self.hardware, self.start_bytes)
            ));
        }
        let every = self.facts.summary.logging_steps;
        self.progress = self
            .facts
            .audience
            .map(|audience| Progress::new(audience, epoch.total_steps, epoch.step.0, every));
        self.started = Some(Instant::now());
    }

    fn step(&mut self, report: &StepReport) -> io::Result<()> {
        let step = report.step.0 + 1;
        let memory_bytes = self.memory(report);
        let step_seconds = report.timing.total.as_secs_f64();
        let record = StepRecord {
            step,
            epoch: step as f64 / self.facts.steps_per_epoch.max(1) as f64,
            loss: report.loss,
            grad_norm: report.grad_norm,
            learning_rate: report.learning_rate,
            rows: report.rows,
            tokens: report.tokens,
            supervised_tokens: report.supervised_tokens,
            step_seconds,
            tokens_per_second: report.tokens as f64 / step_seconds.max(f64::EPSILON),
            compute_seconds: report.timing.compute.as_secs_f64(),
            reduce_seconds: report.timing.reduce.as_secs_f64(),
            control_seconds: report.timing.control.as_secs_f64(),
            memory_bytes,
            workers: report.world,
        };
        if let Some(progress) = &self.progress {
            progress.step(&record);
        }
        self.metrics.push(record)
    }

    /// Memory in use at a step: of the GPUs by their drivers' count, or the peak of all workers together on CPUs.
    fn memory(&mut self, report: &StepReport) -> u64 {
        if self.facts.gpus.is_empty() {
            let members = report.members.iter();
            let reported = members.map(|member| member.peak_resident_bytes).sum();
            self.peak_bytes = self.peak_bytes.max(reported);
            return self.peak_bytes;
        }
        let counted = memory::counted_bytes(&report.members, self.facts.gpus.len());
        let used = counted.unwrap_or(self.peak_bytes);
        self.peak_bytes = self.peak_bytes.max(used);
        used
    }

    /// Writes `trainer_state.json`, `report.html`, and `trainer_stats.json` of a run that came to its end.
    pub(crate) fn write_trainer_files(&self, finished: bool) -> anyhow::Result<()> {
        let summary = Summary {
            train_runtime: self.runtime(),
            ..self.facts.summary.clone()
        };
        let records = self.metrics.records();
        write_atomic(&self.folder.trainer_state(), &summary.state(records)?)?;
        let page = Page {
            banner: &self.facts.banner,
            hardware: &self.hardware,
            start_bytes: self.start_bytes,
            peak_bytes: self.peak_bytes,
            train_seconds: summary.train_runtime,
            timeline: self.timeline.entries(),
        };
        write_atomic(&self.folder.report(), page.html(records).as_bytes())?;
        if finished {
            write_atomic(&self.folder.trainer_stats(), &summary.stats(records)?)?;
        }
        Ok(())
    }

    /// Prints time and memory.
    pub(crate) fn report(&self) {
        if self.facts.audience == Some(Audience::People) {
            let text = memory::after(
                &self.hardware,
                self.start_bytes,
                self.peak_bytes,
                self.runtime(),
            );
            print::aside(text);
        }
    }

    fn runtime(&self) -> f64 {
        self.started
            .map_or(0.0, |started| started.elapsed().as_secs_f64())
    }
}
