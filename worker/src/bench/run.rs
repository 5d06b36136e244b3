//! Runs the steps.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use weft_common::checkpoint::InputDigests;
use weft_common::id::{Digest, Step};

use super::cost::StepShape;
use super::floor::DeviceRates;
use super::report::{Spread, StepReport};
use super::rows::{RandomRows, slots};
use super::{BenchModel, Measured, StepSettings, cuda, resident};
use crate::agent::{Engine, EngineError, SumHealth};
use crate::collective::{Cancel, Local};
use crate::device::Device;
use crate::generate::GenerateError;
use crate::model::loader::{LoadError, LoadOptions, check_context, load, read_spec};
use crate::model::{ModelWeights, RandomFormat, Spec};
use crate::ops::DeviceError;
use crate::train::cpu_for_job;
use crate::train::session::{Trainer, TrainerError, TrainerParts};

/// Called after each step, from the measuring thread, with its number from 0, its seconds and its mean loss.
pub type StepDone<'a> = &'a dyn Fn(u64, f64, f64);

/// A measurement that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No model there, or rows longer than it can see.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// Rows longer than the model can see.
    #[error(transparent)]
    Context(anyhow::Error),
    /// Model, adapter and device do not go together.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Model and adapter do not go together.
    #[error(transparent)]
    Generate(anyhow::Error),
    /// A generation.
    #[error(transparent)]
    Generation(#[from] GenerateError),
    /// A step.
    #[error(transparent)]
    Step(#[from] EngineError),
}

/// A model in host memory, about to be measured.
pub(super) struct Job<'a> {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) spec: Spec,
    pub(super) weights: ModelWeights,
    pub(super) weights_seconds: f64,
    pub(super) done: StepDone<'a>,
}

/// Measures steps of `model` on `device`. `done` hears of each step.
///
/// # Errors
/// What kept the measurement from its end.
pub fn measure_step(
    model: &BenchModel,
    settings: &StepSettings,
    device: &Device,
    done: StepDone<'_>,
) -> Result<StepReport, BenchError> {
    let start = Instant::now();
    let (spec, weights) = weights(model, settings.sequence_length)?;
    let job = Job {
        model: model.name(),
        device: device.to_string(),
        spec,
        weights,
        weights_seconds: start.elapsed().as_secs_f64(),
        done,
    };
    match device {
        Device::Cpu { .. } => {
            let recipe = settings.recipe(&job.model);
            let cpu = cpu_for_job(&recipe, &job.spec, &job.weights).map_err(TrainerError::from)?;
            measure(cpu, job, settings)
        }
        Device::Cuda { gpu, kernels } => cuda::measure((gpu, kernels), job, settings),
    }
}

/// A model's dimensions and weights, its linears in NF4, for rows of so many tokens.
pub(super) fn weights(model: &BenchModel, tokens: u32) -> Result<(Spec, ModelWeights), BenchError> {
    let fits = |spec: &Spec| {
        check_context(spec, tokens as usize).map_err(|error| BenchError::Context(error.into()))
    };
    let random = |spec: Spec| {
        fits(&spec)?;
        let weights = ModelWeights::random(&spec, 1, RandomFormat::Nf4);
        Ok((spec, weights))
    };
    let folder = |folder: &Path| {
        let options = LoadOptions {
            load_in_4bit: true,
            // Nothing compares it with another's.
            digest: Some(Digest::of(b"measured")),
        };
        let loaded = load(folder, &options, &|_| ())?;
        fits(&loaded.spec)?;
        Ok((loaded.spec, loaded.weights))
    };
    match model {
        BenchModel::Preset(preset) => random(preset.spec()),
        BenchModel::RandomLike(path) => random(read_spec(path)?),
        BenchModel::Folder(path) => folder(path),
    }
}

/// Measures a job's steps on a backend.
pub(super) fn measure<B: Measured>(
    backend: B,
    job: Job<'_>,
    settings: &StepSettings,
) -> Result<StepReport, BenchError> {
    let spec = job.spec.clone();
    let mut shape = StepShape {
        spec: &spec,
        rank: settings.rank as usize,
        rows: settings.micro_batch as usize,
        row_tokens: settings.sequence_length as usize,
        slots: settings.accumulation as usize,
        recomputed_layers: 0,
        element_bytes: B::ELEMENT_BYTES,
    };
    // Before anything else takes the device's memory, so that no peak has it.
    let device_rates = DeviceRates::measure(&backend, &shape);
    resident::forget_peak();
    let start = Instant::now();
    let mut trainer = Trainer::new(
        backend,
        (job.spec, job.weights),
        parts(&job.model, &job.device, spec.vocab, settings),
    )?;
    let trainer_seconds = start.elapsed().as_secs_f64();
    let steps = Steps::of(&mut trainer, settings, job.done)?;
    let kept_layers = trainer.memory_plan().kept_layers();
    shape.recomputed_layers = spec.layers.saturating_sub(kept_layers);
    let (rates, floor_seconds) = device_rates.floor(&shape);
    let info = trainer.info();
    let step_seconds = Spread::of(steps.counted(settings));
    Ok(StepReport {
        model: job.model,
        parameters: info.base_params,
        adapter_parameters: info.adapter_params,
        device: job.device,
        settings: settings.clone(),
        layers: spec.layers,
        kept_layers,
        tokens_per_step: settings.step_tokens(),
        tokens_per_second: step_seconds.inverse(settings.step_tokens() as f64),
        step_seconds,
        weights_seconds: job.weights_seconds,
        trainer_seconds,
        first_loss: steps.first_loss.unwrap_or(f64::NAN),
        last_loss: steps.last_loss,
        uniform_loss: (spec.vocab as f64).ln(),
        grad_norm: steps.grad_norm,
        skipped_steps: steps.skipped,
        memory: info.memory.into(),
        device_memory_bytes: steps.device_memory_bytes,
        host_peak_bytes: steps.host_peak_bytes,
        flops: shape.flops(),
        bytes: shape.bytes(),
        rates,
        floor_seconds,
        seconds_by_class: steps.seconds_by_class,
        floor_share: floor_seconds.total / step_seconds.median,
    })
}

fn parts(model: &str, device: &str, vocab: usize, settings: &StepSettings) -> TrainerParts {
    let nothing = Digest::of(b"measured");
    TrainerParts {
        recipe: settings.recipe(model),
        total_steps: settings.total_steps() + 1,
        largest_slot_tokens: settings.slot_tokens(),
        inputs: InputDigests {
            recipe: nothing,
            base_model: nothing,
            dataset: nothing,
            tokenizer: nothing,
            template: nothing,
        },
        rows: Box::new(RandomRows::new(vocab, settings.sequence_length as usize)),
        device: device.to_owned(),
    }
}

/// What the steps gave so far.
#[derive(Default)]
struct Steps {
    seconds: Vec<f64>,
    first_loss: Option<f64>,
    last_loss: f64,
    grad_norm: f64,
    skipped: u32,
    device_memory_bytes: Option<u64>,
    host_peak_bytes: u64,
    seconds_by_class: BTreeMap<&'static str, f64>,
}

impl Steps {
    /// All steps, and one more that does not count, in which the device notes its parts: that takes time.
    fn of<B: Measured>(
        trainer: &mut Trainer<B>,
        settings: &StepSettings,
        done: StepDone<'_>,
    ) -> Result<Self, EngineError> {
        let mut steps = Self::default();
        for step in 0..settings.total_steps() {
            steps.run(trainer, settings, step, done)?;
            let device = trainer.backend().device_memory_bytes();
            steps.device_memory_bytes = steps.device_memory_bytes.max(device);
        }
        trainer.backend().start_profile();
        Self::default().run(trainer, settings, settings.total_steps(), &|_, _, _| ())?;
        steps.seconds_by_class = trainer.backend().end_profile();
        steps.host_peak_bytes = resident::peak_bytes();
        Ok(steps)
    }

    /// Seconds of the steps after the warm-up.
    fn counted(&self, settings: &StepSettings) -> &[f64] {
        let counted = self.seconds.get(settings.warmup as usize..);
        counted.unwrap_or_default()
    }

    /// One step, as the agent runs it.
    fn run(
        &mut self,
        engine: &mut dyn Engine,
        settings: &StepSettings,
        step: u64,
        done: StepDone<'_>,
    ) -> Result<(), EngineError> {
        let slots = slots(settings, step);
        let supervised: u64 = slots.iter().map(|slot| slot.supervised_tokens).sum();
        let start = Instant::now();
        let mut loss_sum = 0.0;
        for slot in &slots {
            loss_sum += engine.compute_slot(Step(step), slot, supervised)?.loss_sum;
        }
        let health = engine.reduce(&mut Local, &Cancel::new())?.health;
        let applied = if health == SumHealth::Finite {
            engine.apply(Step(step))?
        } else {
            self.skipped += 1;
            engine.skip(Step(step))?
        };
        let seconds = start.elapsed().as_secs_f64();
        let loss = loss_sum / supervised.max(1) as f64;
        self.seconds.push(seconds);
        self.first_loss.get_or_insert(loss);
        self.last_loss = loss;
        self.grad_norm = applied.grad_norm;
        done(step, seconds, loss);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use weft_common::recipe::{Dtype, GradientCheckpointing};

    use super::*;
    use crate::model::Preset;

    fn settings() -> StepSettings {
        StepSettings {
            micro_batch: 2,
            accumulation: 3,
            sequence_length: 24,
            steps: 3,
            warmup: 1,
            rank: 4,
            checkpointing: GradientCheckpointing::Auto,
            dtype: Dtype::Auto,
            memory_limit_bytes: None,
        }
    }

    fn measured(settings: &StepSettings) -> StepReport {
        let device = Device::Cpu {
            threads: 1,
            memory_bytes: 0,
        };
        let model = BenchModel::Preset(Preset::Tiny);
        measure_step(&model, settings, &device, &|_, _, _| ()).unwrap()
    }

    #[test]
    fn a_measurement_has_a_plausible_loss_rate_and_floor() {
        let report = measured(&settings());
        assert!(
            (report.first_loss - report.uniform_loss).abs() < 0.5,
            "{report:?}"
        );
        assert!(
            report.grad_norm > 0.0 && report.skipped_steps == 0,
            "{report:?}"
        );
        assert_eq!((report.tokens_per_step, report.kept_layers), (144, 2));
        assert!(report.tokens_per_second.min <= report.tokens_per_second.median);
        assert!(
            report.floor_share.is_finite() && report.floor_share > 0.0,
            "{report:?}"
        );
        assert_eq!(report.device_memory_bytes, None);
        assert_eq!(report.adapter_parameters, {
            let spec = Preset::Tiny.spec();
            let shape = StepShape {
                spec: &spec,
                rank: 4,
                rows: 2,
                row_tokens: 24,
                slots: 3,
                recomputed_layers: 0,
                element_bytes: 4,
            };
            shape.adapter_parameters() as u64
        });
    }

    #[test]
    fn every_step_is_told_and_warm_up_does_not_count() {
        let told = Cell::new(0);
        let device = Device::Cpu {
            threads: 1,
            memory_bytes: 0,
        };
        let settings = StepSettings {
            warmup: 2,
            steps: 1,
            ..settings()
        };
        let report = measure_step(
            &BenchModel::Preset(Preset::Tiny),
            &settings,
            &device,
            &|step, seconds, _| {
                assert_eq!(step, told.get());
                told.set(step + 1);
                assert!(seconds > 0.0);
            },
        )
        .unwrap();
        assert_eq!(told.get(), 3);
        assert_eq!(report.step_seconds.min, report.step_seconds.max);
    }

    #[test]
    fn a_memory_limit_or_a_recipe_keeps_fewer_layers_at_the_same_loss() {
        let all = measured(&settings());
        let limited = measured(&StepSettings {
            memory_limit_bytes: Some(1),
            ..settings()
        });
        let recomputed = measured(&StepSettings {
            checkpointing: GradientCheckpointing::True,
            ..settings()
        });
        for report in [&limited, &recomputed] {
            assert_eq!(report.kept_layers, 1);
            assert_eq!(report.last_loss, all.last_loss);
            assert!(report.memory.activation_bytes < all.memory.activation_bytes);
            assert!(report.flops.recompute > 0.0);
        }
    }

    #[test]
    fn rows_longer_than_the_model_sees_are_refused() {
        let long = StepSettings {
            sequence_length: 8192,
            ..settings()
        };
        let device = Device::Cpu {
            threads: 1,
            memory_bytes: 0,
        };
        let refused = measure_step(
            &BenchModel::Preset(Preset::Tiny),
            &long,
            &device,
            &|_, _, _| (),
        );
        assert!(matches!(refused, Err(BenchError::Context(_))));
    }
}
