//! How fast a checkpoint of Llama-3-8B's layers is loaded, in host memory and onto a GPU.
//!
//! Writes the checkpoint into the folder for temporary files: `WEFT_TEST_LOAD_LAYERS=32` is Llama-3-8B with a vocabulary of
//! 32000, 14.5 GB. `--nocapture` shows the figures.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use half::bf16;
use weft_worker::model::Preset;
use weft_worker::model::loader::{LoadOptions, load, load_onto, model_digest};
use weft_worker::ops::Ops as _;
use weft_worker::ops::cuda::CudaOptions;

use crate::support::opened;

const HIDDEN: usize = 4096;
const FFN: usize = 14_336;
const KEYS: usize = 1024;
const VOCAB: usize = 32_000;

#[test]
fn a_checkpoint_as_large_as_asked_for_is_loaded() {
    let Some(layers) = std::env::var_os("WEFT_TEST_LOAD_LAYERS") else {
        println!("NOT RUN: set WEFT_TEST_LOAD_LAYERS to the layers to write and load, 436 MB each");
        return;
    };
    let layers: usize = layers.to_str().unwrap().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bytes = write_checkpoint(folder.path(), layers);
    let path = folder.path();
    let told = |what: &str, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        println!("{what}: {seconds:.2} s, {:.2} GB/s", bytes / 1e9 / seconds);
    };
    let start = Instant::now();
    let digest = model_digest(path).unwrap();
    told("digest alone", start);
    let options = |digest| LoadOptions {
        load_in_4bit: true,
        digest,
    };
    let start = Instant::now();
    drop(load(path, &options(Some(digest)), &|_| ()).unwrap());
    told("host, digest known", start);
    let start = Instant::now();
    drop(load(path, &options(None), &|_| ()).unwrap());
    told("host, with digest", start);
    for known in [Some(digest), None] {
        let Some(cuda) = opened(CudaOptions {
            ordinal: 0,
            head_dim: Preset::Llama3_8b.spec().head_dim,
            rank: 16,
            half: None,
            lean: false,
            memory_limit: None,
        }) else {
            return;
        };
        let before = cuda.used_memory().unwrap();
        let start = Instant::now();
        let placed = load_onto(cuda, path, &options(known), &|_| ()).unwrap();
        placed.model.ops().health().unwrap();
        match known {
            Some(_) => told("GPU, digest known", start),
            None => told("GPU, with digest", start),
        }
        let after = placed.model.ops().used_memory().unwrap();
        println!(
            "{} MiB of the GPU's memory for {} MiB of weights",
            (after - before) >> 20,
            placed.report.weight_bytes >> 20
        );
        assert_eq!(placed.digest, digest);
    }
}

fn tensors(layers: usize) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
        ("lm_head.weight".to_owned(), vec![VOCAB, HIDDEN]),
    ];
    for layer in 0..layers {
        for (module, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![KEYS, HIDDEN]),
            ("self_attn.v_proj", vec![KEYS, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![FFN, HIDDEN]),
            ("mlp.up_proj", vec![FFN, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, FFN]),
        ] {
            tensors.push((format!("model.layers.{layer}.{module}.weight"), shape));
        }
    }
    tensors
}

/// Writes a Llama in bf16 and gives its bytes.
fn write_checkpoint(folder: &Path, layers: usize) -> f64 {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": false,
        "max_position_embeddings": 8192,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors(layers) {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry =
            serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    // No whole number of blocks, so that no two of a matrix are alike.
    let piece: Vec<u8> = (0..4_000_037_u32)
        .flat_map(|i| bf16::from_f32((i as f32 * 0.618).sin() * 0.05).to_le_bytes())
        .collect();
    let mut left = end;
    while left > 0 {
        let now = left.min(piece.len());
        file.write_all(&piece[..now]).unwrap();
        left -= now;
    }
    file.flush().unwrap();
    end as f64
}
