//! A checkpoint in memory: read from a folder, changed by a test, written as one or more safetensors files.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

/// Tensors and configuration.
#[derive(Clone)]
pub(super) struct Checkpoint {
    pub(super) config: Value,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Tensor {
    pub(super) fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: bytemuck::cast_slice(values).to_vec(),
        }
    }

    pub(super) fn u8(bytes: Vec<u8>) -> Self {
        Self {
            dtype: Dtype::U8,
            shape: vec![bytes.len()],
            bytes,
        }
    }

    /// The values of a float tensor, read without the loader.
    pub(super) fn values(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => (self.bytes.chunks(4))
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            Dtype::BF16 => {
                let bits = self
                    .bytes
                    .chunks(2)
                    .map(|b| u16::from_le_bytes(b.try_into().unwrap()));
                bits.map(|bits| f32::from_bits(u32::from(bits) << 16))
                    .collect()
            }
            other => panic!("{other:?} holds no floats here"),
        }
    }
}

impl Checkpoint {
    pub(super) fn read(folder: &Path) -> Self {
        let config = std::fs::read(folder.join("config.json")).unwrap();
        Self {
            config: serde_json::from_slice(&config).unwrap(),
            tensors: read_tensors(&folder.join("model.safetensors")),
        }
    }

    pub(super) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors
            .get_mut(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Writes `config.json` and one file of weights.
    pub(super) fn write(&self, folder: &Path) {
        self.write_config(folder);
        write_tensors(&folder.join("model.safetensors"), &self.tensors);
    }

    /// Writes `config.json`, `count` files of weights, and their index.
    pub(super) fn write_shards(&self, folder: &Path, count: usize) {
        self.write_config(folder);
        let mut shards = vec![BTreeMap::new(); count];
        let mut weight_map = serde_json::Map::new();
        let file = |shard: usize| format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        for (index, (name, tensor)) in self.tensors.iter().enumerate() {
            shards[index % count].insert(name.clone(), tensor.clone());
            weight_map.insert(name.clone(), file(index % count).into());
        }
        for (index, tensors) in shards.iter().enumerate() {
            write_tensors(&folder.join(file(index)), tensors);
        }
        let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": weight_map});
        std::fs::write(
            folder.join("model.safetensors.index.json"),
            index.to_string(),
        )
        .unwrap();
    }

    fn write_config(&self, folder: &Path) {
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
    }
}

pub(super) fn read_tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |view: TensorView<'_>| Tensor {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, owned(view)))
        .collect()
}

fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let view = |t: &'_ Tensor| {
        TensorView::new(
            t.dtype,
            t.shape.clone(),
            Box::leak(t.bytes.clone().into_boxed_slice()),
        )
        .unwrap()
    };
    let views = tensors.iter().map(|(name, tensor)| (name, view(tensor)));
    safetensors::serialize_to_file(views, None, path).unwrap();
}
