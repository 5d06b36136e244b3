use safetensors::SafeTensors;

use super::TensorType;

/// Made by `tests/export/ggml_blocks.py`.
const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/fixtures/golden/ggml_blocks.safetensors"
);

#[test]
fn blocks_are_those_of_ggml_byte_for_byte() {
    let bytes = std::fs::read(GOLDEN).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let values: Vec<f32> = golden
        .tensor("values")
        .unwrap()
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    for (name, kind) in [
        ("q8_0", TensorType::Q8_0),
        ("q5_0", TensorType::Q5_0),
        ("q5_1", TensorType::Q5_1),
        ("q4_k", TensorType::Q4K),
        ("q5_k", TensorType::Q5K),
        ("q6_k", TensorType::Q6K),
    ] {
        let expected = golden.tensor(name).unwrap();
        let mut found = vec![0xAA; kind.bytes(values.len())];
        kind.encode(&values, &mut found);
        let size = kind.bytes(kind.block());
        let differing: Vec<usize> = found
            .chunks(size)
            .zip(expected.data().chunks(size))
            .enumerate()
            .filter(|(_, (found, expected))| found != expected)
            .map(|(block, _)| block)
            .collect();
        assert_eq!(differing, Vec::<usize>::new(), "blocks of {name}");
    }
}

#[test]
fn floats_are_rounded_to_the_nearest() {
    let values = [1.0, -2.5, 65_504.0, 1e-3];
    for (kind, expected) in [
        (TensorType::F16, "003c00c1ff7b1914"),
        (TensorType::Bf16, "803f20c0804783 3a"),
        (TensorType::F32, "0000803f000020c000e07f476f12833a"),
    ] {
        let mut found = vec![0; kind.bytes(values.len())];
        kind.encode(&values, &mut found);
        assert_eq!(hex::encode(found), expected.replace(' ', ""), "{kind:?}");
    }
}
