//! From a source of weights to a model's tensors, one at a time.
//!
//! No tensor ever exists in f32 as a whole: each is read, converted and stored in pieces of [`PIECE_ELEMENTS`], one a
//! thread, so that the peak is the finished model and a few megabytes.

use half::{bf16, f16};
use rayon::prelude::*;

use super::error::LoadError;
use super::file::Scratch;
use super::floats::FloatType;
use super::incoming::{Incoming, ToQuantize};
use super::inspect::check_layer_count;
use super::names::{Part, TensorRole};
use super::source::{Rows, Stored, WeightSource};
use super::{LoadProgress, LoadProgressFn, Precision};
use crate::model::{
    DenseMatrix, DenseValues, FrozenLinear, LayerWeights, LinearWeights, ModelWeights, Projection,
    Spec,
};
use crate::quant::nf4::{BLOCK, quantize_blocks_into};
use crate::quant::{Absmax, Nf4Matrix, StoredDtype};

/// About one megabyte of f32: large enough to hide the cost of a read, small enough for a cache.
const PIECE_ELEMENTS: usize = 1 << 18;

/// What is being built, and how far it is.
pub(super) struct Assembly<'a> {
    source: &'a dyn WeightSource,
    spec: &'a Spec,
    precision: Precision,
    progress: LoadProgressFn<'a>,
    parameters_done: usize,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(
        source: &'a dyn WeightSource,
        spec: &'a Spec,
        precision: Precision,
        progress: LoadProgressFn<'a>,
    ) -> Self {
        let precision = match source.is_quantized() {
            true => Precision::Stored,
            false => precision,
        };
        Self {
            source,
            spec,
            precision,
            progress,
            parameters_done: 0,
        }
    }

    /// Loads every tensor of the model.
    pub(super) fn run(mut self) -> Result<ModelWeights, LoadError> {
        check_layer_count(self.spec, self.source)?;
        Ok(ModelWeights {
            embed: self.embed()?,
            layers: (0..self.spec.layers)
                .map(|layer| self.layer(layer)?.try_map(Incoming::into_host))
                .collect::<Result<_, _>>()?,
            final_norm: self.final_norm()?,
            head: self.head()?,
        })
    }

    /// The embeddings.
    pub(super) fn embed(&mut self) -> Result<DenseMatrix, LoadError> {
        self.dense(TensorRole::Embed, self.spec.vocab, self.spec.hidden)
    }

    /// The norm before the head.
    pub(super) fn final_norm(&mut self) -> Result<Vec<f32>, LoadError> {
        self.vector(TensorRole::FinalNorm, self.spec.hidden)
    }

    /// The head, where it is not the embeddings.
    pub(super) fn head(&mut self) -> Result<Option<DenseMatrix>, LoadError> {
        match self.spec.tied_head {
            true => Ok(None),
            false => {
                let head = self.dense(TensorRole::Head, self.spec.vocab, self.spec.hidden);
                head.map(Some)
            }
        }
    }

    /// A layer. Its matrices that are to be quantized are still in the file.
    pub(super) fn layer(&mut self, layer: usize) -> Result<LayerWeights<Incoming<'a>>, LoadError> {
        let hidden = self.spec.hidden;
        Ok(LayerWeights {
            attn_norm: self.vector(TensorRole::Layer(layer, Part::AttnNorm), hidden)?,
            q: self.linear(layer, Projection::Q)?,
            k: self.linear(layer, Projection::K)?,
            v: self.linear(layer, Projection::V)?,
            o: self.linear(layer, Projection::O)?,
            mlp_norm: self.vector(TensorRole::Layer(layer, Part::MlpNorm), hidden)?,
            gate: self.linear(layer, Projection::Gate)?,
            up: self.linear(layer, Projection::Up)?,
            down: self.linear(layer, Projection::Down)?,
        })
    }

    fn linear(
        &mut self,
        layer: usize,
        projection: Projection,
    ) -> Result<LinearWeights<Incoming<'a>>, LoadError> {
        let shape @ (rows, cols) = self.spec.shape(projection);
        let weight = TensorRole::Layer(layer, Part::Weight(projection));
        let weight = match self.source.find(weight, &[rows, cols])? {
            Stored::Nf4(matrix) => Incoming::Ready(FrozenLinear::Nf4(matrix)),
            Stored::Rows(rows) => match self.precision {
                Precision::Nf4 => Incoming::ToQuantize(ToQuantize { rows, shape }),
                Precision::Stored => {
                    let dense = read_dense(&rows, shape.0, shape.1)?;
                    Incoming::Ready(FrozenLinear::Dense(dense))
                }
                Precision::Kept => Incoming::Ready(kept(&rows, shape)?),
            },
        };
        self.report(rows * cols);
        let bias = TensorRole::Layer(layer, Part::Bias(projection));
        let bias = match self.source.has(bias) {
            true => Some(self.vector(bias, rows)?),
            false => None,
        };
        Ok(LinearWeights { weight, bias })
    }

    /// Embeddings or a head, in the blocks that they are stored in where those are to be kept.
    pub(super) fn table(&mut self, role: TensorRole) -> Result<FrozenLinear, LoadError> {
        let shape @ (rows, cols) = (self.spec.vocab, self.spec.hidden);
        if self.precision == Precision::Kept
            && let Stored::Rows(stored) = self.source.find(role, &[rows, cols])?
        {
            let table = kept(&stored, shape)?;
            self.report(rows * cols);
            return Ok(table);
        }
        self.dense(role, rows, cols).map(FrozenLinear::Dense)
    }

    fn dense(
        &mut self,
        role: TensorRole,
        rows: usize,
        cols: usize,
    ) -> Result<DenseMatrix, LoadError> {
        let matrix = match self.source.find(role, &[rows, cols])? {
            Stored::Rows(stored) => read_dense(&stored, rows, cols)?,
            Stored::Nf4(matrix) => dequantize(&matrix),
        };
        self.report(rows * cols);
        Ok(matrix)
    }

    fn vector(&mut self, role: TensorRole, len: usize) -> Result<Vec<f32>, LoadError> {
        let mut values = vec![0.0; len];
        match self.source.find(role, &[len])? {
            Stored::Rows(stored) => stored.read(0, &mut Scratch::default(), &mut values)?,
            Stored::Nf4(matrix) => matrix.dequantize_rows_into(0..matrix.rows(), &mut values),
        }
        self.report(len);
        Ok(values)
    }

    fn report(&mut self, parameters: usize) {
        self.parameters_done += parameters;
        (self.progress)(LoadProgress {
            parameters_done: self.parameters_done,
            parameters_total: self.spec.parameters(),
        });
    }
}

/// Rows of a piece, such that each piece begins with a quantization block.
fn piece_rows(cols: usize) -> usize {
    let mut aligned = 1;
    while !(aligned * cols).is_multiple_of(BLOCK) {
        aligned *= 2;
    }
    (PIECE_ELEMENTS / cols / aligned).max(1) * aligned
}

/// Buffers of one thread.
#[derive(Default)]
struct Buffers {
    scratch: Scratch,
    values: Vec<f32>,
}

impl Buffers {
    fn read(
        &mut self,
        stored: &Rows<'_>,
        first: usize,
        elements: usize,
    ) -> Result<&[f32], LoadError> {
        self.values.resize(elements, 0.0);
        stored.read(first, &mut self.scratch, &mut self.values)?;
        Ok(&self.values)
    }
}

/// Quantizes in host memory.
pub(super) fn quantize(
    stored: &Rows<'_>,
    (rows, cols): (usize, usize),
) -> Result<Nf4Matrix, LoadError> {
    let elements = rows * cols;
    let piece = piece_rows(cols);
    let mut packed = vec![0; elements.div_ceil(2)];
    let mut magnitudes = vec![0.0; elements.div_ceil(BLOCK)];
    (packed.par_chunks_mut(piece * cols / 2))
        .zip(magnitudes.par_chunks_mut(piece * cols / BLOCK))
        .enumerate()
        .try_for_each_init(
            Buffers::default,
            |buffers, (index, (packed, magnitudes))| {
                let first = index * piece;
                let count = piece.min(rows - first) * cols;
                quantize_blocks_into(buffers.read(stored, first, count)?, packed, magnitudes);
                Ok::<_, LoadError>(())
            },
        )?;
    let dtype = stored.format().map_or(StoredDtype::F32, FloatType::stored);
    let matrix = Nf4Matrix::from_parts((rows, cols), packed, Absmax::double(&magnitudes), dtype);
    Ok(matrix.expect("the parts were allocated for this shape"))
}

/// As it is stored.
fn kept(stored: &Rows<'_>, shape: (usize, usize)) -> Result<FrozenLinear, LoadError> {
    match stored.blocks(shape)? {
        Some(blocks) => Ok(FrozenLinear::Blocks(blocks)),
        None => read_dense(stored, shape.0, shape.1).map(FrozenLinear::Dense),
    }
}

/// Keeps 16-bit values as they are. Values that were quantized become f16, whose rounding is far finer than theirs.
fn read_dense(stored: &Rows<'_>, rows: usize, cols: usize) -> Result<DenseMatrix, LoadError> {
    let values = match stored.format() {
        Some(FloatType::F32) => DenseValues::F32(collect(stored, rows, cols, |v| v)?),
        Some(FloatType::Bf16) => DenseValues::Bf16(collect(stored, rows, cols, bf16::from_f32)?),
        Some(FloatType::F16) | None => {
            DenseValues::F16(collect(stored, rows, cols, f16::from_f32)?)
        }
    };
    Ok(DenseMatrix { rows, cols, values })
}

fn collect<T: Copy + Default + Send>(
    stored: &Rows<'_>,
    rows: usize,
    cols: usize,
    narrow: fn(f32) -> T,
) -> Result<Vec<T>, LoadError> {
    let mut out = vec![T::default(); rows * cols];
    let piece = piece_rows(cols);
    out.par_chunks_mut(piece * cols)
        .enumerate()
        .try_for_each_init(Buffers::default, |buffers, (index, out)| {
            let values = buffers.read(stored, index * piece, out.len())?;
            for (out, &value) in out.iter_mut().zip(values) {
                *out = narrow(value);
            }
            Ok::<_, LoadError>(())
        })?;
    Ok(out)
}

/// Embeddings or a head that a checkpoint holds in 4 bits.
fn dequantize(matrix: &Nf4Matrix) -> DenseMatrix {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut values = vec![bf16::ZERO; rows * cols];
    let piece = piece_rows(cols);
    values
        .par_chunks_mut(piece * cols)
        .enumerate()
        .for_each(|(index, out)| {
            let mut wide = vec![0.0; out.len()];
            let first = index * piece;
            matrix.dequantize_rows_into(first..first + out.len() / cols, &mut wide);
            for (out, value) in out.iter_mut().zip(wide) {
                *out = bf16::from_f32(value);
            }
        });
    DenseMatrix {
        rows,
        cols,
        values: DenseValues::Bf16(values),
    }
}
