use serde_json::Value;

use super::*;
use crate::export::{HalfType, MergeBase};
use crate::model::{DenseValues, FrozenLinear};
use crate::quant::Nf4Matrix;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_merged_folder_computes_what_base_and_adapter_do_but_for_16_bits() {
    let fixture = Fixture::new();
    let request = fixture.request(Format::Merged16Bit);
    let summary = export(&request).unwrap();
    let found = error(
        &logits_of(&request.output, false, None),
        &fixture.unmerged(false),
    );
    assert!(found < 1e-2, "{found}");
    assert_eq!(summary.files[0].name, "model.safetensors");
    assert_eq!(
        names(&request.output),
        [
            "README.md",
            "chat_template.jinja",
            "config.json",
            "export.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let config = json(&request.output.join("config.json"));
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert!(config["quantization_config"].is_null());
    let half = Request {
        half: Some(HalfType::F16),
        overwrite: true,
        ..request
    };
    export(&half).unwrap();
    let finer = error(
        &logits_of(&half.output, false, None),
        &fixture.unmerged(false),
    );
    assert!(finer < found / 2.0, "{finer}");
}

#[test]
fn the_4_bit_folder_holds_what_quantizing_the_16_bit_one_gives() {
    let fixture = Fixture::new();
    let (four, sixteen) = (
        fixture.request(Format::Merged4Bit),
        fixture.request(Format::Merged16Bit),
    );
    export(&four).unwrap();
    export(&sixteen).unwrap();
    let options = LoadOptions::default();
    let stored = load(&four.output, &options, &|_| {}).unwrap();
    let merged = load(&sixteen.output, &options, &|_| {}).unwrap();
    for (four, sixteen) in stored.weights.layers.iter().zip(&merged.weights.layers) {
        let (FrozenLinear::Nf4(found), FrozenLinear::Dense(dense)) =
            (&four.down.weight, &sixteen.down.weight)
        else {
            panic!("4 bits there, 16 bits here");
        };
        let mut values = vec![0.0; dense.rows * dense.cols];
        dense.rows_into(0..dense.rows, &mut values);
        let expected = Nf4Matrix::quantize(dense.rows, dense.cols, &values);
        assert_eq!(
            (found.packed(), found.absmax()),
            (expected.packed(), expected.absmax())
        );
        assert_eq!(found.dtype(), crate::quant::StoredDtype::Bf16);
    }
    assert!(matches!(stored.weights.embed.values, DenseValues::Bf16(_)));
    let quantization = &json(&four.output.join("config.json"))["quantization_config"];
    assert_eq!(quantization["bnb_4bit_quant_type"], "nf4");
}

#[test]
fn the_nf4_that_is_merged_into_is_bit_for_bit_what_training_loads() {
    use crate::model::Projection;
    use crate::model::loader::{Part, TensorRole, with_checkpoint};
    let options = LoadOptions {
        load_in_4bit: true,
        digest: None,
    };
    let trained = load(&base(), &options, &|_| {}).unwrap();
    with_checkpoint(&base(), |checkpoint| {
        for projection in Projection::ALL {
            let role = TensorRole::Layer(2, Part::Weight(projection));
            let tensor = checkpoint.tensor(role)?.as_trained()?;
            let (rows, cols) = tensor.size();
            let (mut found, mut expected) = (vec![0.0; rows * cols], vec![0.0; rows * cols]);
            tensor.read(0, &mut found)?;
            let FrozenLinear::Nf4(matrix) = &trained.weights.layers[2].linear(projection).weight
            else {
                panic!("training in 4 bits");
            };
            matrix.dequantize_rows_into(0..rows, &mut expected);
            assert_eq!(found, expected, "{projection:?}");
        }
        Ok::<_, ExportError>(())
    })
    .unwrap();
}

#[test]
fn a_gguf_base_becomes_a_folder_that_computes_the_same() {
    let fixture = Fixture::new();
    let first = fixture.request(Format::Gguf);
    export(&first).unwrap();
    // The merged model as the base of the same adapter once more.
    let base = first.output.join("small-F32.gguf");
    let again = Request {
        base: Some(base.clone()),
        merge_base: Some(MergeBase::Stored),
        half: Some(HalfType::F16),
        ..fixture.request(Format::Merged16Bit)
    };
    export(&again).unwrap();
    let expected = logits_of(&base, false, Some(&fixture.adapter));
    let found = error(&logits_of(&again.output, false, None), &expected);
    assert!(found < 2e-3, "{found}");
    let config = json(&again.output.join("config.json"));
    assert_eq!(config["rms_norm_eps"].as_f64(), Some(1e-5));
    assert_eq!(config["eos_token_id"], 2);
}

#[test]
fn an_exported_adapter_keeps_its_bytes_and_calls_its_base_as_asked() {
    let fixture = Fixture::new();
    let request = Request {
        base_name: Some("owner/model".to_owned()),
        ..fixture.request(Format::Adapter)
    };
    export(&request).unwrap();
    let bytes = |folder: &Path| fs::read(folder.join(ADAPTER_MODEL_FILE)).unwrap();
    assert_eq!(bytes(&request.output), bytes(&fixture.adapter_path()));
    let config = json(&request.output.join(ADAPTER_CONFIG_FILE));
    assert_eq!(config["base_model_name_or_path"], "owner/model");
    let card = fs::read_to_string(request.output.join("README.md")).unwrap();
    assert!(
        card.starts_with("---\nbase_model: owner/model\nlibrary_name: peft\n"),
        "{card}"
    );
}
