//! Generation as `weft generate` does it, against what reading the weights takes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use serde::Serialize;
use weft_common::recipe::LoraSection;

use super::run::{BenchError, weights};
use super::{BenchModel, Measured};
use crate::counter::Counter;
use crate::device::Device;
use crate::generate::{GenerateError, GenerateOptions, Generator};
use crate::lora::Adapter;
use crate::model::{Model, ModelWeights, Spec};
use crate::ops::cuda::Cuda;
use crate::ops::{Cpu, Ops};

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GenerateSettings {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that are generated after it.
    pub new_tokens: u32,
    /// The adapter's rank, on all seven linears; 0 without one.
    pub rank: u32,
    /// How often; the fastest counts.
    pub repeats: u32,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerateReport {
    /// Whose dimensions.
    pub model: String,
    /// Where.
    pub device: String,
    /// What was generated.
    pub settings: GenerateSettings,
    /// From the prompt to the first token.
    pub prefill_seconds: f64,
    /// Tokens of the prompt a second.
    pub prefill_tokens_per_second: f64,
    /// Median of what a token after the first takes.
    pub decode_seconds_per_token: f64,
    /// Tokens a second after the first.
    pub decode_tokens_per_second: f64,
    /// Bytes of weights that a token reads.
    pub weight_bytes: u64,
    /// Bytes a second, read and written, of a copy on the device.
    pub copy_bytes_per_second: f64,
    /// What reading the weights takes at that rate.
    pub floor_seconds_per_token: f64,
    /// The floor as a share of what a token takes.
    pub floor_share: f64,
    /// Seconds a token of each class of work, where the device can tell; noting them slows it down.
    pub device_seconds: BTreeMap<&'static str, f64>,
}

/// Measures generation with `model` on `device`.
///
/// # Errors
/// What kept the measurement from its end.
pub fn measure_generation(
    model: &BenchModel,
    settings: &GenerateSettings,
    device: &Device,
) -> Result<GenerateReport, BenchError> {
    let (spec, weights) = weights(model, settings.prompt_tokens + settings.new_tokens)?;
    let names = (model.name(), device.to_string());
    match device {
        Device::Cpu { .. } => {
            let cpu = Cpu::new().for_generation();
            measure(cpu, (spec, weights), names, settings)
        }
        Device::Cuda { gpu, kernels } => {
            let place = (gpu, kernels.as_path());
            let cuda = Cuda::for_generation(place, (&spec, settings.rank as usize))?;
            measure(cuda, (spec, weights), names, settings)
        }
    }
}

fn measure<B: Measured>(
    backend: B,
    (spec, weights): (Spec, ModelWeights),
    (model_name, device): (String, String),
    settings: &GenerateSettings,
) -> Result<GenerateReport, BenchError> {
    let copy_bytes_per_second = backend.copy_bytes();
    let adapter = random_adapter(&spec, settings.rank)?;
    let weight_bytes = bytes_of_a_token(&weights) + adapter.as_ref().map_or(0, adapter_bytes::<B>);
    let model = Model::new(backend, spec, weights)
        .map_err(|error| BenchError::Generate(anyhow::Error::from(error)))?;
    let adapter = adapter.map(|adapter| adapter.map(|values| model.ops().upload_adapter(values)));
    let generator = Generator::new(&model, adapter.as_ref());
    // Kernels are loaded and clocks go up.
    times(&generator, model.spec(), settings)?;
    let mut runs = Vec::new();
    for _ in 0..settings.repeats.max(1) {
        runs.push(times(&generator, model.spec(), settings)?);
    }
    let fastest = |of: fn(&(f64, f64)) -> f64| runs.iter().map(of).fold(f64::INFINITY, f64::min);
    let (prefill, token) = (fastest(|run| run.0), fastest(|run| run.1));
    let floor = weight_bytes as f64 / copy_bytes_per_second;
    Ok(GenerateReport {
        model: model_name,
        device,
        settings: *settings,
        prefill_seconds: prefill,
        prefill_tokens_per_second: f64::from(settings.prompt_tokens) / prefill,
        decode_seconds_per_token: token,
        decode_tokens_per_second: 1.0 / token,
        weight_bytes,
        copy_bytes_per_second,
        floor_seconds_per_token: floor,
        floor_share: floor / token,
        device_seconds: profile(&model, adapter.as_ref(), settings)?,
    })
}

/// Seconds to the first token, and the median of those between tokens.
fn times<O: Ops>(
    generator: &Generator<'_, O>,
    spec: &Spec,
    settings: &GenerateSettings,
) -> Result<(f64, f64), GenerateError> {
    let start = Instant::now();
    let mut at = Vec::new();
    let options = GenerateOptions {
        max_new_tokens: settings.new_tokens as usize,
        ..GenerateOptions::default()
    };
    generator.generate(&prompt(spec, settings), &options, &mut |_| {
        at.push(start.elapsed().as_secs_f64());
        ControlFlow::Continue(())
    })?;
    let mut between: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    between.sort_unstable_by(f64::total_cmp);
    let median = between.get(between.len() / 2).copied();
    Ok((
        at.first().copied().unwrap_or(f64::NAN),
        median.unwrap_or(f64::NAN),
    ))
}

/// Seconds a token of each class of work: those of a whole generation, less the prefill's.
fn profile<B: Measured>(
    model: &Model<B>,
    adapter: Option<&Adapter<B::Params>>,
    settings: &GenerateSettings,
) -> Result<BTreeMap<&'static str, f64>, GenerateError> {
    let generator = Generator::new(model, adapter);
    let seconds = |new_tokens| {
        model.ops().start_profile();
        let settings = GenerateSettings {
            new_tokens,
            ..*settings
        };
        times(&generator, model.spec(), &settings)?;
        Ok::<_, GenerateError>(model.ops().end_profile())
    };
    let (one, all) = (seconds(1)?, seconds(settings.new_tokens)?);
    let tokens = f64::from(settings.new_tokens.saturating_sub(1).max(1));
    let decode = |(class, seconds): (&'static str, f64)| {
        let prefill = one.get(class).copied().unwrap_or(0.0);
        (class, (seconds - prefill).max(0.0) / tokens)
    };
    Ok(all.into_iter().map(decode).collect())
}

fn prompt(spec: &Spec, settings: &GenerateSettings) -> Vec<u32> {
    let random = Counter::new(1, "prompt");
    let below = |i| (random.bits(i) % spec.vocab as u64) as u32;
    (0..u64::from(settings.prompt_tokens)).map(below).collect()
}

/// One whose branches are not zero.
fn random_adapter(spec: &Spec, rank: u32) -> Result<Option<Adapter>, BenchError> {
    if rank == 0 {
        return Ok(None);
    }
    let lora = LoraSection {
        r: rank,
        ..LoraSection::default()
    };
    let adapter = Adapter::new(spec, &lora, 1);
    let mut adapter = adapter.map_err(|error| BenchError::Generate(error.into()))?;
    let random = Counter::new(1, "adapter");
    for (i, value) in (0..).zip(adapter.values_mut()) {
        *value = 0.01 * random.normal(i) as f32;
    }
    Ok(Some(adapter))
}

/// Of all linears, and of the head.
fn bytes_of_a_token(weights: &ModelWeights) -> u64 {
    let linears: usize = weights
        .layers
        .iter()
        .map(|layer| layer.bytes(|w| w.bytes()))
        .sum();
    let head = weights.head.as_ref().unwrap_or(&weights.embed).bytes();
    (linears + head) as u64
}

fn adapter_bytes<B: Measured>(adapter: &Adapter) -> u64 {
    (adapter.values().len() * B::ELEMENT_BYTES) as u64
}
