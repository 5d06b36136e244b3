//! Generation against forward passes over the whole sequence.

use std::ops::ControlFlow;
use std::path::Path;

use weft_common::recipe::LoraSection;

use super::{GenerateError, GenerateOptions, Generated, Generator, Sampling, StopReason};
use crate::lora::Adapter;
use crate::model::loader::{WeightFormat, place};
use crate::model::tests_support::{random_weights, toy};
use crate::model::{Model, logits};
use crate::ops::Cpu;
use crate::train::PackedBatch;

const PROMPT: [u32; 5] = [3, 14, 15, 92, 65];

fn model() -> Model {
    Model::new(Cpu::new(), toy(), random_weights(&toy(), 11)).unwrap()
}

/// An adapter that changes what the model says: B is not zero.
fn adapter() -> Adapter {
    let lora = LoraSection {
        r: 4,
        lora_alpha: 8.0,
        ..LoraSection::default()
    };
    let mut adapter = Adapter::new(&toy(), &lora, 5).unwrap();
    for (index, value) in adapter.values_mut().iter_mut().enumerate() {
        *value += (index as f32 * 0.7).sin() * 0.1;
    }
    adapter
}

fn generate(model: &Model, adapter: Option<&Adapter>, options: &GenerateOptions) -> Generated {
    let generator = Generator::new(model, adapter);
    generator
        .generate(&PROMPT, options, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap() as u32
}

#[test]
fn greedy_with_a_cache_is_greedy_without_one() {
    let (model, adapter) = (model(), adapter());
    let options = GenerateOptions {
        max_new_tokens: 24,
        ..GenerateOptions::default()
    };
    let mut texts = Vec::new();
    for adapter in [None, Some(&adapter)] {
        let generated = generate(&model, adapter, &options);
        assert_eq!(generated.stop, StopReason::MaxNewTokens);
        let mut sequence = PROMPT.to_vec();
        for &token in &generated.tokens {
            let batch = PackedBatch::from_tokens(&sequence);
            let last = batch.len() as u32 - 1;
            assert_eq!(
                token,
                argmax(&logits(&model, adapter, &batch, &[last])),
                "after {sequence:?}"
            );
            sequence.push(token);
        }
        assert_eq!(sequence.len(), PROMPT.len() + 24);
        texts.push(generated.tokens);
    }
    assert_ne!(texts[0], texts[1], "the adapter changes the text");
}

#[test]
fn cached_logits_equal_those_of_the_whole_sequence() {
    let (model, adapter) = (model(), adapter());
    let mut decode = super::decode::Decode::new(&model, Some(&adapter), 16);
    let mut sequence = PROMPT.to_vec();
    decode.prefill(&PROMPT);
    for token in [1, 96, 40, 40, 7] {
        let batch = PackedBatch::from_tokens(&sequence);
        let whole = logits(&model, Some(&adapter), &batch, &[batch.len() as u32 - 1]);
        let cached = decode.logits();
        assert_eq!(decode.likeliest(), Some(argmax(&cached)));
        for (cached, whole) in cached.iter().zip(whole) {
            assert!(
                (cached - whole).abs() <= 1e-4 * (1.0 + whole.abs()),
                "{cached} {whole}"
            );
        }
        sequence.push(token);
        decode.append(token);
    }
}

#[test]
fn it_stops_at_a_stop_token_without_returning_it() {
    let model = model();
    let all = generate(&model, None, &GenerateOptions::default()).tokens;
    let stop = all[6];
    let first = all.iter().position(|&token| token == stop).unwrap();
    let options = GenerateOptions {
        stop_ids: vec![stop],
        ..GenerateOptions::default()
    };
    let generated = generate(&model, None, &options);
    assert_eq!(generated.stop, StopReason::StopToken(stop));
    assert_eq!(generated.tokens, all[..first]);
}

#[test]
fn it_stops_at_the_end_of_the_context() {
    let model = model();
    let options = GenerateOptions {
        max_new_tokens: 1000,
        ..GenerateOptions::default()
    };
    let generated = generate(&model, None, &options);
    assert_eq!(generated.stop, StopReason::Context);
    assert_eq!(generated.tokens.len(), toy().context - PROMPT.len());
}

#[test]
fn the_caller_sees_every_token_and_may_stop() {
    let model = model();
    let mut seen = Vec::new();
    let generated = Generator::new(&model, None)
        .generate(&PROMPT, &GenerateOptions::default(), &mut |token| {
            seen.push(token);
            if seen.len() == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(
        (generated.tokens, generated.stop),
        (seen, StopReason::Caller)
    );
}

#[test]
fn sampled_text_repeats_with_its_seed() {
    let model = model();
    let options = |seed| GenerateOptions {
        sampling: Some(Sampling {
            seed,
            ..Sampling::default()
        }),
        ..GenerateOptions::default()
    };
    assert_eq!(
        generate(&model, None, &options(1)),
        generate(&model, None, &options(1))
    );
    assert_ne!(
        generate(&model, None, &options(1)),
        generate(&model, None, &options(2))
    );
}

#[test]
fn what_cannot_be_used_is_refused() {
    let model = model();
    let refused = |prompt: &[u32], options: &GenerateOptions| {
        let generator = Generator::new(&model, None);
        generator
            .generate(prompt, options, &mut |_| ControlFlow::Continue(()))
            .unwrap_err()
    };
    let options = GenerateOptions::default();
    assert_eq!(refused(&[], &options), GenerateError::EmptyPrompt);
    let too_long = refused(&[1; 257], &options);
    assert_eq!(
        too_long,
        GenerateError::PromptTooLong {
            prompt: 257,
            context: 256
        }
    );
    assert_eq!(
        refused(&[1, 97], &options),
        GenerateError::UnknownToken {
            token: 97,
            vocab: 97
        }
    );
    for sampling in [
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        Sampling {
            top_p: 1.5,
            ..Sampling::default()
        },
        Sampling {
            min_p: f32::NAN,
            ..Sampling::default()
        },
    ] {
        let options = GenerateOptions {
            sampling: Some(sampling),
            ..GenerateOptions::default()
        };
        assert!(matches!(
            refused(&[1], &options),
            GenerateError::Option { .. }
        ));
    }
}

#[test]
fn a_damaged_model_is_noticed() {
    let mut weights = random_weights(&toy(), 11);
    weights.final_norm[0] = f32::NAN;
    let model = Model::new(Cpu::new(), toy(), weights).unwrap();
    let generated =
        Generator::new(&model, None).generate(&PROMPT, &GenerateOptions::default(), &mut |_| {
            ControlFlow::Continue(())
        });
    assert_eq!(
        generated.unwrap_err(),
        GenerateError::NotFinite {
            tokens: PROMPT.len()
        }
    );
}

/// A text that transformers wrote greedily. The golden was made by `make_greedy.py` beside it.
#[derive(serde::Deserialize)]
struct Written {
    model: String,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

#[test]
fn greedy_text_in_f32_is_that_of_transformers() {
    #[derive(serde::Deserialize)]
    struct Golden {
        texts: Vec<Written>,
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let goldens = root.join("tests/fixtures/golden");
    let golden = std::fs::read(goldens.join("greedy.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    for Written {
        model,
        prompt,
        tokens,
    } in golden.texts
    {
        let folder = match model.as_str() {
            "quickstart" => root.join("examples/quickstart/model"),
            name => goldens.join(name),
        };
        let options = GenerateOptions {
            max_new_tokens: tokens.len(),
            ..GenerateOptions::default()
        };
        // Whichever way products with one vector go.
        for cpu in [Cpu::new(), Cpu::new().for_generation()] {
            let loaded = place(cpu, &folder, WeightFormat::Kept, &|_| ()).unwrap();
            let go_on = &mut |_| ControlFlow::Continue(());
            let generated = Generator::new(&loaded, None).generate(&prompt, &options, go_on);
            assert_eq!(
                generated.unwrap().tokens,
                tokens,
                "{model} after {prompt:?}"
            );
        }
    }
}
