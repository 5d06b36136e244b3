//! Loading holds the finished model and a few megabytes, whatever the checkpoint's size. One test, so that the process
//! it measures does nothing else.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use half::bf16;
use weft_worker::model::loader::{LoadOptions, load};

const MEBIBYTE: u64 = 1 << 20;
const VOCAB: usize = 8192;
const HIDDEN: usize = 512;
const FFN: usize = 1536;
const LAYERS: usize = 6;

#[test]
fn loading_in_4_bits_peaks_near_the_finished_model() {
    let folder = tempfile::tempdir().unwrap();
    let file_bytes = write_checkpoint(folder.path());
    let options = LoadOptions {
        load_in_4bit: true,
        digest: None,
    };
    // Threads and their buffers exist before the measurement, as they do in a worker.
    rayon::broadcast(|_| ());
    let before = resident_bytes();
    // Resets the peak to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let model = load(folder.path(), &options, &|_| {}).unwrap();
    let peak = model.report.peak_resident_bytes.unwrap() - before;
    let weights = model.report.weight_bytes;
    println!(
        "file {} MiB, weights {} MiB, peak while loading {} MiB",
        file_bytes / MEBIBYTE,
        weights / MEBIBYTE,
        peak / MEBIBYTE
    );
    assert!(weights < file_bytes / 2, "the linears are in 4 bits");
    // A thread's piece is 1.5 MiB in both forms, its chunk of the digest 1 MiB.
    let buffers = 4 * MEBIBYTE * rayon::current_num_threads() as u64;
    assert!(
        peak <= weights + buffers + 4 * MEBIBYTE,
        "{peak} bytes at the peak for {weights} bytes of weights"
    );
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    1024 * line
        .trim()
        .strip_suffix(" kB")
        .unwrap()
        .trim()
        .parse::<u64>()
        .unwrap()
}

fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (module, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.v_proj", vec![HIDDEN / 2, HIDDEN]),
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

/// Writes a tied Llama in bf16, in small pieces, and returns the size of its weights on disk.
fn write_checkpoint(folder: &Path) -> u64 {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": true,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors() {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(
            name,
            serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}),
        );
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for index in 0..end / 2 {
        let value = bf16::from_f32((index as f32 * 0.618).sin() * 0.05);
        file.write_all(&value.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    (8 + header.len() + end) as u64
}
