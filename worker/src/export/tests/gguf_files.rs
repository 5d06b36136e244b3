use weft_common::gguf::{GgufFile, Value};

use super::*;
use crate::export::MergeBase;

fn gguf(fixture: &Fixture, quantization: Quantization) -> PathBuf {
    let request = Request {
        quantizations: vec![quantization],
        output: fixture.folder.path().join(quantization.name()),
        ..fixture.request(Format::Gguf)
    };
    let summary = export(&request).unwrap();
    request.output.join(&summary.files[0].name)
}

#[test]
fn in_single_precision_a_merged_model_computes_what_base_and_adapter_do() {
    for lora in [
        "r: 4, lora_alpha: 8",
        "r: 5, lora_alpha: 2, use_rslora: true, target_modules: [q_proj, down_proj]",
    ] {
        let fixture = Fixture::with(lora);
        let merged = logits_of(&gguf(&fixture, Quantization::F32), false, None);
        let (expected, base) = (fixture.unmerged(false), logits_of(&base(), false, None));
        assert!(
            error(&merged, &expected) < 1e-5,
            "{}",
            error(&merged, &expected)
        );
        assert!(
            error(&base, &expected) > 1e-2,
            "the adapter changes something"
        );
    }
}

#[test]
fn merged_into_nf4_it_computes_what_training_in_4_bits_did() {
    let fixture = Fixture::new();
    let request = Request {
        merge_base: Some(MergeBase::Nf4),
        ..fixture.request(Format::Gguf)
    };
    let summary = export(&request).unwrap();
    assert_eq!(summary.merge_base, Some("nf4"));
    let merged = logits_of(&request.output.join("small-F32.gguf"), false, None);
    assert!(error(&merged, &fixture.unmerged(true)) < 1e-5);
    assert!(error(&merged, &fixture.unmerged(false)) > 1e-3);
}

#[test]
fn fewer_bits_leave_larger_errors_and_none_that_matter() {
    let fixture = Fixture::new();
    let expected = fixture.unmerged(false);
    let of = |quantization| {
        error(
            &logits_of(&gguf(&fixture, quantization), false, None),
            &expected,
        )
    };
    for (quantization, most) in [
        (Quantization::F16, 2e-3),
        (Quantization::Bf16, 2e-2),
        (Quantization::Q8_0, 3e-2),
        (Quantization::Q6K, 3e-2),
        (Quantization::Q5KM, 0.1),
        (Quantization::Q4KM, 0.15),
    ] {
        let found = of(quantization);
        assert!(found < most, "{quantization:?}: {found}");
    }
}

#[test]
fn several_quantizations_come_from_one_pass_with_a_modelfile_each() {
    let fixture = Fixture::new();
    let request = Request {
        quantizations: Quantization::ALL.to_vec(),
        ..fixture.request(Format::Gguf)
    };
    let summary = export(&request).unwrap();
    assert_eq!(summary.files.len(), 9);
    for file in &summary.files {
        let path = request.output.join(&file.name);
        assert_eq!(fs::metadata(&path).unwrap().len(), file.bytes);
        let read = GgufFile::open(&path).unwrap();
        assert_eq!(read.version(), 3);
        // One at a time, or together: the same bytes.
        let alone = gguf(
            &fixture,
            Quantization::named(&file.name[6..file.name.len() - 5]).unwrap(),
        );
        assert_eq!(
            fs::read(alone).unwrap(),
            fs::read(path).unwrap(),
            "{}",
            file.name
        );
    }
    let first = fs::read_to_string(request.output.join("Modelfile")).unwrap();
    assert!(first.starts_with("FROM ./small-F32.gguf\n"), "{first}");
    let last = fs::read_to_string(request.output.join("Modelfile.Q4_K_S")).unwrap();
    assert!(last.contains("PARAMETER stop \"<|im_end|>\""), "{last}");
}

#[test]
fn the_file_says_all_that_llama_cpp_asks_for() {
    let fixture = Fixture::new();
    let file = GgufFile::open(&gguf(&fixture, Quantization::Q4KM)).unwrap();
    let text = |key: &str| file.str(key).unwrap().unwrap().to_owned();
    assert_eq!(text("general.architecture"), "llama");
    assert_eq!(text("general.name"), "small");
    assert_eq!(text("tokenizer.ggml.model"), "gpt2");
    assert_eq!(text("tokenizer.ggml.pre"), "smollm");
    assert!(!text("tokenizer.chat_template").contains("generation %}"));
    let count = |key: &str| file.u64(key).unwrap().unwrap() as usize;
    assert_eq!(count("general.file_type"), 15);
    assert_eq!(count("llama.block_count"), fixture.spec.layers);
    assert_eq!(count("llama.rope.dimension_count"), fixture.spec.head_dim);
    // `<|im_end|>` ends both a text and a turn here.
    assert_eq!(count("tokenizer.ggml.eos_token_id"), 2);
    assert_eq!(count("tokenizer.ggml.eot_token_id"), 2);
    assert_eq!(
        file.bool("tokenizer.ggml.add_bos_token").unwrap(),
        Some(false)
    );
    let tokens = file.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(tokens.len(), fixture.spec.vocab);
    let types = file.u64s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(types[..4], [3, 3, 3, 1]);
    assert!(file.tensor("output.weight").is_none(), "the head is tied");
}

#[test]
fn weft_s_own_reader_gets_the_tokenizer_back() {
    use weft_common::data::ChatTokenizer;
    let fixture = Fixture::new();
    let path = gguf(&fixture, Quantization::F16);
    let back = ChatTokenizer::load(&path, None, "auto").unwrap();
    let original = ChatTokenizer::load(&base(), None, "auto").unwrap();
    for text in [
        "What is anaemia?",
        " 12 345\n\n\tif (x) { y; }",
        "<|im_start|>user\nhé 日本<|im_end|>",
    ] {
        assert_eq!(
            back.encode(text, true),
            original.encode(text, true),
            "{text}"
        );
    }
    // A GGUF file has a place for what ends a text and what ends a turn, and none for a list.
    assert_eq!(back.eos_ids(), [2]);
    assert!(original.eos_ids().contains(&2));
}

#[test]
fn an_adapter_s_file_scales_rslora_and_permutes_queries_as_the_model_s_are() {
    let fixture = Fixture::with("r: 4, lora_alpha: 8, use_rslora: true");
    let request = fixture.request(Format::GgufLora);
    export(&request).unwrap();
    let file = GgufFile::open(&request.output.join("small-lora-F32.gguf")).unwrap();
    assert_eq!(
        file.metadata().get("adapter.lora.alpha"),
        Some(&Value::Float(16.0))
    );
    assert_eq!(file.str("general.type").unwrap(), Some("adapter"));
    let floats = |name: &str| -> Vec<f32> {
        let bytes = file.bytes(file.tensor(name).unwrap());
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    };
    let tensor = |suffix: &str| {
        let name = format!("base_model.model.model.layers.1.self_attn.q_proj.{suffix}");
        let tensors = fixture.adapter.layout().tensors();
        let tensor = tensors.iter().find(|tensor| tensor.name == name).unwrap();
        &fixture.adapter.values()[tensor.range()]
    };
    assert_eq!(
        floats("blk.1.attn_q.weight.lora_a"),
        tensor("lora_A.weight")
    );
    let (stored, b) = (
        floats("blk.1.attn_q.weight.lora_b"),
        tensor("lora_B.weight"),
    );
    // Rows 0, 32, 1, 33, … of a head of 64.
    for (position, row) in [(0, 0), (1, 32), (2, 1), (3, 33), (64, 64), (65, 96)] {
        assert_eq!(stored[position * 4..][..4], b[row * 4..][..4], "row {row}");
    }
}
