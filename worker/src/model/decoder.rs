//! A base model on a compute backend.

use std::convert::Infallible;

use super::{
    DenseMatrix, FrozenLinear, LayerWeights, LinearWeights, ModelWeights, Projection, Spec,
    SpecError,
};
use crate::ops::{Cpu, Ops};

/// A frozen model, ready to run.
pub struct Model<O: Ops = Cpu> {
    ops: O,
    spec: Spec,
    tensors: DeviceTensors<O>,
}

/// A model's tensors on the device.
pub(super) struct DeviceTensors<O: Ops> {
    pub(super) embed: O::Linear,
    pub(super) layers: Vec<DeviceLayer<O>>,
    pub(super) final_norm: O::Floats,
    pub(super) head: Option<O::Linear>,
}

/// One decoder layer on the device.
pub struct DeviceLayer<O: Ops> {
    /// Norm before attention, the family's offset added.
    pub attn_norm: O::Floats,
    /// Norm before the MLP, the family's offset added.
    pub mlp_norm: O::Floats,
    linears: [DeviceLinear<O>; 7],
}

/// One linear on the device.
pub struct DeviceLinear<O: Ops> {
    /// W.
    pub weight: O::Linear,
    /// One number an output, where there is a bias.
    pub bias: Option<O::Floats>,
}

/// Weights that do not fit the model's dimensions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The dimensions themselves are wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A tensor has another shape than the dimensions say.
    #[error("tensor `{tensor}` is {}x{}, the model's dimensions say {}x{}", .found.0, .found.1, .expected.0, .expected.1)]
    Shape {
        /// Which tensor.
        tensor: String,
        /// Rows and columns that the dimensions say.
        expected: (usize, usize),
        /// Rows and columns of the tensor.
        found: (usize, usize),
    },
    /// There are more or fewer layers.
    #[error("the model's dimensions say {expected} layers, its weights hold {found}")]
    Layers {
        /// Layers that the dimensions say.
        expected: usize,
        /// Layers that are there.
        found: usize,
    },
    /// A separate head is missing, or there is one that the dimensions call tied.
    #[error("the model's dimensions say that the head is {}, its weights say otherwise", if *.tied { "tied" } else { "separate" })]
    Head {
        /// What the dimensions say.
        tied: bool,
    },
}

impl<O: Ops> Model<O> {
    /// Checks the weights against the dimensions and moves them to the device.
    ///
    /// # Errors
    /// The first tensor that does not fit.
    pub fn new(ops: O, spec: Spec, weights: ModelWeights) -> Result<Self, ModelError> {
        check(&spec, &weights)?;
        let upload = |weight: FrozenLinear| Ok::<_, Infallible>(ops.upload_linear(weight));
        let layer = |layer: LayerWeights| {
            let Ok(layer) = layer.try_map(upload);
            DeviceLayer::new(&ops, &spec, layer)
        };
        let tensors = DeviceTensors {
            embed: ops.upload_embeddings(weights.embed, spec.tied_head),
            layers: weights.layers.into_iter().map(layer).collect(),
            final_norm: upload_norm(&ops, &spec, weights.final_norm),
            head: weights.head.map(|head| upload_table(&ops, head)),
        };
        Ok(Self::from_device(ops, spec, tensors))
    }

    /// A model of tensors that are on the device already and have the shapes of `spec`.
    pub(super) fn from_device(ops: O, spec: Spec, tensors: DeviceTensors<O>) -> Self {
        Self { ops, spec, tensors }
    }

    /// The backend.
    #[must_use]
    pub fn ops(&self) -> &O {
        &self.ops
    }

    /// The dimensions.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Token embeddings, vocabulary × hidden.
    #[must_use]
    pub fn embed(&self) -> &O::Linear {
        &self.tensors.embed
    }

    /// One layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> &DeviceLayer<O> {
        &self.tensors.layers[layer]
    }

    /// Norm before the head, the family's offset added.
    #[must_use]
    pub fn final_norm(&self) -> &O::Floats {
        &self.tensors.final_norm
    }

    /// The head, vocabulary × hidden; the embeddings where tied.
    #[must_use]
    pub fn head(&self) -> &O::Linear {
        let DeviceTensors { embed, head, .. } = &self.tensors;
        head.as_ref().unwrap_or(embed)
    }
}

/// A norm's weight, the family's offset added.
pub(super) fn upload_norm<O: Ops>(ops: &O, spec: &Spec, weight: Vec<f32>) -> O::Floats {
    ops.upload(weight.into_iter().map(|w| w + spec.norm_offset).collect())
}

/// A head of its own.
fn upload_table<O: Ops>(ops: &O, head: DenseMatrix) -> O::Linear {
    ops.upload_linear(FrozenLinear::Dense(head))
}

impl<O: Ops> DeviceLayer<O> {
    /// A layer of matrices that are on the device already; norms and biases are moved there.
    pub(super) fn new(ops: &O, spec: &Spec, layer: LayerWeights<O::Linear>) -> Self {
        let linear = |linear: LinearWeights<O::Linear>| DeviceLinear {
            weight: linear.weight,
            bias: linear.bias.map(|bias| ops.upload(bias)),
        };
        Self {
            attn_norm: upload_norm(ops, spec, layer.attn_norm),
            mlp_norm: upload_norm(ops, spec, layer.mlp_norm),
            linears: [
                layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down,
            ]
            .map(linear),
        }
    }

    /// The linear of one projection.
    #[must_use]
    pub fn linear(&self, projection: Projection) -> &DeviceLinear<O> {
        &self.linears[projection.index()]
    }
}

fn check(spec: &Spec, weights: &ModelWeights) -> Result<(), ModelError> {
    spec.validate()?;
    let table = (spec.vocab, spec.hidden);
    check_matrix("model.embed_tokens", table, &weights.embed)?;
    if let Some(head) = &weights.head {
        check_matrix("lm_head", table, head)?;
    }
    if spec.tied_head != weights.head.is_none() {
        return Err(ModelError::Head {
            tied: spec.tied_head,
        });
    }
    if weights.layers.len() != spec.layers {
        return Err(ModelError::Layers {
            expected: spec.layers,
            found: weights.layers.len(),
        });
    }
    check_vector("model.norm", spec.hidden, &weights.final_norm)?;
    weights
        .layers
        .iter()
        .enumerate()
        .try_for_each(|(index, layer)| check_layer(spec, index, layer))
}

fn check_layer(spec: &Spec, index: usize, layer: &LayerWeights) -> Result<(), ModelError> {
    let name = |module: &str| format!("model.layers.{index}.{module}");
    check_vector(&name("input_layernorm"), spec.hidden, &layer.attn_norm)?;
    check_vector(
        &name("post_attention_layernorm"),
        spec.hidden,
        &layer.mlp_norm,
    )?;
    for projection in Projection::ALL {
        let linear = layer.linear(projection);
        let expected = spec.shape(projection);
        let module = name(projection.module());
        match &linear.weight {
            FrozenLinear::Dense(matrix) => check_matrix(&module, expected, matrix)?,
            FrozenLinear::Nf4(_) | FrozenLinear::Blocks(_) => {
                let found = (linear.weight.rows(), linear.weight.cols());
                check_shape(&module, expected, found)?;
            }
        }
        if let Some(bias) = &linear.bias {
            check_vector(&format!("{module}.bias"), expected.0, bias)?;
        }
    }
    Ok(())
}

fn check_matrix(
    name: &str,
    expected: (usize, usize),
    matrix: &DenseMatrix,
) -> Result<(), ModelError> {
    check_shape(name, expected, (matrix.rows, matrix.cols))?;
    check_shape(name, (expected.0 * expected.1, 1), (matrix.values.len(), 1))
}

fn check_vector(name: &str, expected: usize, values: &[f32]) -> Result<(), ModelError> {
    check_shape(name, (expected, 1), (values.len(), 1))
}

fn check_shape(
    name: &str,
    expected: (usize, usize),
    found: (usize, usize),
) -> Result<(), ModelError> {
    if found == expected {
        return Ok(());
    }
    Err(ModelError::Shape {
        tensor: name.to_owned(),
        expected,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests_support::{random_weights, toy};

    fn refused(spec: Spec, change: impl Fn(&mut ModelWeights)) -> ModelError {
        let mut weights = random_weights(&toy(), 1);
        change(&mut weights);
        Model::new(Cpu::new(), spec, weights)
            .err()
            .expect("the weights do not fit")
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_by_name() {
        let error = refused(toy(), |weights| {
            weights.layers[1].up = weights.layers[1].down.clone()
        });
        assert!(
            error.to_string().contains("model.layers.1.mlp.up_proj"),
            "{error}"
        );
        let error = refused(toy(), |weights| weights.layers[0].mlp_norm.truncate(3));
        assert!(
            error
                .to_string()
                .contains("model.layers.0.post_attention_layernorm"),
            "{error}"
        );
        assert_eq!(
            refused(toy(), |weights| weights.layers.truncate(1)),
            ModelError::Layers {
                expected: 2,
                found: 1
            }
        );
        let tied = Spec {
            tied_head: !toy().tied_head,
            ..toy()
        };
        assert!(matches!(refused(tied, |_| ()), ModelError::Head { .. }));
    }
}
