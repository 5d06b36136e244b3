//! An adapter for llama.cpp, which adds it to a model as it runs. Source: llama.cpp `convert_lora_to_gguf.py`.

use std::path::Path;

use super::container::{Container, Tensor};
use super::mix::fallback;
use super::model::{GgufWriter, permute};
use super::{Quantization, architecture};
use crate::export::merge::Delta;
use crate::export::{Control, ExportError, PeftAdapter, Progress};
use crate::model::loader::{Part, TensorRole};
use crate::model::{Projection, Spec};

/// The files of an adapter, planned.
pub(crate) struct LoraFile<'a> {
    adapter: &'a PeftAdapter,
    spec: &'a Spec,
    files: Vec<(String, Vec<Tensor>, Container)>,
}

impl<'a> LoraFile<'a> {
    /// Plans a file `NAME-lora-QUANTIZATION.gguf` for each quantization.
    pub(crate) fn plan(
        adapter: &'a PeftAdapter,
        spec: &'a Spec,
        name: &str,
        quantizations: &[Quantization],
    ) -> Result<Self, ExportError> {
        architecture::check(spec)?;
        let plan = |&quantization: &Quantization| {
            // The runtime divides alpha by the rank and knows nothing of rsLoRA.
            let metadata = architecture::adapter(name, adapter.plain_alpha(), quantization);
            let tensors = tensors(adapter, quantization);
            let container = Container::new(&metadata, &tensors);
            let file = format!(
                "{name}-lora-{}.gguf",
                quantization.name().to_ascii_uppercase()
            );
            (file, tensors, container)
        };
        Ok(Self {
            adapter,
            spec,
            files: quantizations.iter().map(plan).collect(),
        })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files
            .iter()
            .map(|(_, _, container)| container.bytes)
            .sum()
    }

    /// Writes the files; gives their names and sizes.
    pub(crate) fn write(
        &self,
        folder: &Path,
        control: Control<'_>,
    ) -> Result<Vec<(String, u64)>, ExportError> {
        let mut written = Vec::new();
        for (name, tensors, container) in &self.files {
            let writer = GgufWriter::create(&folder.join(name), container)?;
            for (index, (linear, delta)) in self.adapter.deltas().enumerate() {
                Control::go_on(control.stop)?;
                let matrices = [delta.a.clone(), self.stored_b(linear.1, delta)];
                for (offset, values) in matrices.iter().enumerate() {
                    let tensor = 2 * index + offset;
                    let mut bytes = vec![0; tensors[tensor].bytes()];
                    tensors[tensor].kind.encode(values, &mut bytes);
                    writer.write(tensor, 0, &bytes)?;
                }
                (control.progress)(Progress {
                    done: index + 1,
                    total: tensors.len() / 2,
                });
            }
            writer.finish()?;
            written.push((name.clone(), container.bytes));
        }
        Ok(written)
    }

    /// B with its rows in the order in which the base model's lie.
    fn stored_b(&self, projection: Projection, delta: &Delta) -> Vec<f32> {
        let mut b = delta.b.clone();
        if matches!(projection, Projection::Q | Projection::K) {
            permute(&mut b, self.spec.head_dim, delta.rank);
        }
        b
    }
}

fn tensors(adapter: &PeftAdapter, quantization: Quantization) -> Vec<Tensor> {
    let pair = |((layer, projection), delta): ((usize, Projection), &Delta)| {
        let weight = TensorRole::Layer(layer, Part::Weight(projection)).gguf();
        let tensor = |suffix: &str, rows, cols| Tensor {
            name: format!("{weight}.{suffix}"),
            shape: vec![rows, cols],
            kind: fallback(quantization.usual(), cols),
        };
        [
            tensor("lora_a", delta.rank, delta.inputs),
            tensor("lora_b", delta.outputs, delta.rank),
        ]
    };
    adapter.deltas().flat_map(pair).collect()
}
