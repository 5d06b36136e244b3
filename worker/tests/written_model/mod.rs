//! A checkpoint of any size, written as Hugging Face does.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use half::bf16;
use weft_worker::model::{Projection, Spec};

/// Numbers that are written again and again: no whole number of blocks, so that no two of a matrix are alike.
const PERIOD: u32 = 4_000_037;

/// Writes a Llama in bf16 and gives the bytes of its weights' file.
pub(crate) fn write(folder: &Path, spec: &Spec) -> u64 {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": spec.vocab, "hidden_size": spec.hidden,
        "intermediate_size": spec.ffn, "num_hidden_layers": spec.layers, "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads, "tie_word_embeddings": spec.tied_head,
        "max_position_embeddings": spec.context,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors(spec) {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry =
            serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors")).unwrap());
    let header_len = header.len() as u64;
    file.write_all(&header_len.to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let period: Vec<u8> = (0..PERIOD)
        .flat_map(|i| bf16::from_f32((i as f32 * 0.618).sin() * 0.05).to_le_bytes())
        .collect();
    let mut left = end;
    while left > 0 {
        let now = left.min(period.len());
        file.write_all(&period[..now]).unwrap();
        left -= now;
    }
    file.flush().unwrap();
    8 + header_len + end as u64
}

fn tensors(spec: &Spec) -> Vec<(String, Vec<usize>)> {
    let table = |name: &str| (format!("{name}.weight"), vec![spec.vocab, spec.hidden]);
    let mut tensors = vec![table("model.embed_tokens")];
    tensors.push(("model.norm.weight".to_owned(), vec![spec.hidden]));
    tensors.extend((!spec.tied_head).then(|| table("lm_head")));
    for layer in 0..spec.layers {
        let name = |module: &str| format!("model.layers.{layer}.{module}.weight");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push((name(norm), vec![spec.hidden]));
        }
        for projection in Projection::ALL {
            let (rows, cols) = spec.shape(projection);
            tensors.push((name(projection.module()), vec![rows, cols]));
        }
    }
    tensors
}
