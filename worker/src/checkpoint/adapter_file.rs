//! `adapter_model.safetensors`: the adapter's matrices under PEFT's names.

use super::CheckpointError;
use super::tensors::{Named, Numbers, Reader, encode};
use crate::lora::{Adapter, AdapterLayout};

/// The file's name, as PEFT expects it.
pub const ADAPTER_MODEL_FILE: &str = "adapter_model.safetensors";

/// The file's bytes: a function of the adapter alone.
#[must_use]
pub fn adapter_model(adapter: &Adapter) -> Vec<u8> {
    let named: Vec<Named<'_>> = adapter
        .layout()
        .tensors()
        .iter()
        .map(|tensor| Named {
            name: tensor.name.clone(),
            shape: vec![tensor.rows, tensor.cols],
            numbers: Numbers::F32(&adapter.values()[tensor.range()]),
        })
        .collect();
    encode(&named)
}

/// Reads the numbers of an adapter with this layout.
///
/// # Errors
/// The file is damaged, or its matrices are not exactly the layout's.
pub fn read_adapter_model(
    bytes: &[u8],
    layout: &AdapterLayout,
) -> Result<Vec<f32>, CheckpointError> {
    let mut reader = Reader::new(ADAPTER_MODEL_FILE, bytes)?;
    let mut values = Vec::with_capacity(layout.len());
    for tensor in layout.tensors() {
        values.extend(reader.f32(tensor.name.clone(), &[tensor.rows, tensor.cols])?);
    }
    reader.finish()?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use weft_common::recipe::{LoraSection, TargetModules};

    use super::*;
    use crate::model::tests_support::toy;

    fn adapter(r: u32, targets: &[&str]) -> Adapter {
        let names = targets.iter().map(|&name| name.to_owned()).collect();
        let lora = LoraSection {
            r,
            target_modules: TargetModules::Names(names),
            ..LoraSection::default()
        };
        Adapter::new(&toy(), &lora, 3).unwrap()
    }

    #[test]
    fn an_adapter_survives_the_file() {
        let adapter = adapter(4, &["q_proj", "down_proj"]);
        let bytes = adapter_model(&adapter);
        assert_eq!(
            &read_adapter_model(&bytes, adapter.layout()).unwrap(),
            adapter.values()
        );
    }

    #[test]
    fn the_header_is_what_peft_writes() {
        let bytes = adapter_model(&adapter(4, &["q_proj"]));
        let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        assert_eq!(header["__metadata__"], serde_json::json!({"format": "pt"}));
        let entry = &header["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"];
        assert_eq!(entry["dtype"], "F32");
        assert_eq!(entry["shape"], serde_json::json!([4, toy().hidden]));
    }

    #[test]
    fn another_adapter_s_file_is_refused_by_tensor() {
        let ours = adapter(4, &["q_proj"]);
        let refusal =
            |other: &Adapter| read_adapter_model(&adapter_model(other), ours.layout()).unwrap_err();
        let fewer = refusal(&adapter(4, &["k_proj"]));
        assert!(
            matches!(&fewer, CheckpointError::NoTensor { tensor, .. } if tensor.contains("q_proj")),
            "{fewer}"
        );
        let more = refusal(&adapter(4, &["q_proj", "v_proj"]));
        assert!(
            matches!(&more, CheckpointError::UnknownTensor { tensor, .. } if tensor.contains("v_proj")),
            "{more}"
        );
        let other_rank = refusal(&adapter(8, &["q_proj"]));
        assert!(
            matches!(&other_rank, CheckpointError::Mismatch { .. }),
            "{other_rank}"
        );
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let adapter = adapter(4, &["q_proj"]);
        let bytes = adapter_model(&adapter);
        for length in [0, 7, 20, bytes.len() - 1] {
            let refused = read_adapter_model(&bytes[..length], adapter.layout());
            assert!(
                matches!(refused, Err(CheckpointError::Tensors { .. })),
                "{length}"
            );
        }
    }
}
