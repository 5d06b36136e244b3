//! Frozen matrices on the device.

use std::fmt;

use cudarc::driver::PinnedHostSlice;
use rayon::prelude::*;

use super::{Cuda, locked};
use crate::cuda::GpuError;
use crate::model::loader::LoadError;
use crate::model::{DenseMatrix, DenseValues, FrozenLinear, StoredMatrix};
use crate::ops::cuda::{DeviceNf4, DeviceRows, GroupMatrix, Halves, QuantizeError};
use crate::quant::BlockMatrix;

/// A frozen matrix on the device.
#[derive(Debug)]
pub enum CudaLinear {
    /// Four bits a weight.
    Nf4(DeviceNf4),
    /// 16 bits a weight.
    Dense(Halves),
    /// A table in host memory, of which the GPU reads a few rows a pass.
    Host(HostTable),
    /// There was no room: what is told by [`crate::ops::Ops::health`].
    Missing,
}

/// A table in pinned host memory, which the GPU reads over the bus.
pub struct HostTable {
    memory: PinnedHostSlice<u16>,
    rows: usize,
    width: usize,
}

impl fmt::Debug for HostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostTable({}x{})", self.rows, self.width)
    }
}

impl CudaLinear {
    /// As dequantization takes it.
    pub(super) fn as_part(&self) -> Option<GroupMatrix<'_>> {
        match self {
            Self::Nf4(matrix) => Some(GroupMatrix::Nf4(matrix)),
            Self::Dense(matrix) => Some(GroupMatrix::Dense(matrix)),
            Self::Host(_) | Self::Missing => None,
        }
    }

    /// Where it lies on the device; 0 where it does not.
    pub(super) fn address(&self) -> u64 {
        match self {
            Self::Nf4(matrix) => matrix.address(),
            Self::Dense(matrix) => matrix.place().address(),
            Self::Host(_) | Self::Missing => 0,
        }
    }

    /// The table, where it is one.
    pub(super) fn as_table(&self) -> Option<&Halves> {
        match self {
            Self::Dense(matrix) => Some(matrix),
            Self::Nf4(_) | Self::Host(_) | Self::Missing => None,
        }
    }
}

/// In f32, on all threads.
fn widened(matrix: &BlockMatrix) -> DenseMatrix {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut values = vec![0.0; rows * cols];
    (values.par_chunks_mut(cols).enumerate())
        .for_each(|(row, out)| matrix.rows_into(row..row + 1, out));
    DenseMatrix {
        rows,
        cols,
        values: DenseValues::F32(values),
    }
}

impl Cuda {
    pub(super) fn place_linear(&self, weight: &FrozenLinear) -> CudaLinear {
        let placed = self.attempt(|| match weight {
            FrozenLinear::Nf4(matrix) => Ok(CudaLinear::Nf4(self.kernels.upload_nf4(matrix)?)),
            FrozenLinear::Dense(matrix) => Ok(CudaLinear::Dense(self.place_dense(matrix)?)),
            FrozenLinear::Blocks(matrix) => {
                Ok(CudaLinear::Dense(self.place_dense(&widened(matrix))?))
            }
        });
        placed.unwrap_or(CudaLinear::Missing)
    }

    /// A matrix of a file, quantized on its way.
    pub(super) fn quantize_stored(
        &self,
        stored: &dyn StoredMatrix,
    ) -> Result<CudaLinear, LoadError> {
        let mut unreadable = None;
        let placed = self.attempt(|| {
            let mut staging = locked(&self.staging);
            let staging = match &mut *staging {
                Some(staging) => staging,
                none => none.insert(self.kernels.new_staging()?),
            };
            match self.kernels.quantize_nf4(stored, staging) {
                Ok(matrix) => Ok(CudaLinear::Nf4(matrix)),
                Err(QuantizeError::Gpu(error)) => Err(error),
                Err(QuantizeError::Load(error)) => {
                    unreadable = Some(error);
                    Ok(CudaLinear::Missing)
                }
            }
        });
        match unreadable {
            Some(error) => Err(error),
            None => Ok(placed.unwrap_or(CudaLinear::Missing)),
        }
    }

    /// Gives up the buffers that files are read into.
    pub(super) fn end_loading(&self) {
        *locked(&self.staging) = None;
    }

    /// The embeddings, in host memory where the options say so and they are no head.
    pub(super) fn place_table(&self, table: DenseMatrix, tied: bool) -> CudaLinear {
        if tied || !self.options.lean {
            return self.place_linear(&FrozenLinear::Dense(table));
        }
        let placed = self.attempt(|| self.pin_table(&table).map(CudaLinear::Host));
        placed.unwrap_or(CudaLinear::Missing)
    }

    fn pin_table(&self, table: &DenseMatrix) -> Result<HostTable, GpuError> {
        let failed = self.kernels.during("pinning the embeddings");
        let context = self.kernels.gpu().stream().context();
        let len = table.rows * table.cols;
        // SAFETY: integers have no invalid bits, and all of it is written below.
        let mut memory = unsafe { context.alloc_pinned(len) }.map_err(&failed)?;
        let pinned: &mut [u16] = memory.as_mut_slice().map_err(failed)?;
        let half = self.kernels.gpu().half();
        half.bits_into(&table.values, pinned);
        Ok(HostTable {
            memory,
            rows: table.rows,
            width: table.cols,
        })
    }

    /// `out_td = scale · table[ids_t]`.
    pub(super) fn look_up(
        &self,
        ids: &DeviceRows,
        table: &CudaLinear,
        scale: f32,
        out: &mut Halves,
    ) -> Result<(), GpuError> {
        match table {
            CudaLinear::Dense(table) => self.kernels.gather_rows(ids, scale, table, out),
            CudaLinear::Host(table) => {
                assert!(
                    ids.below() <= table.rows && out.width() == table.width,
                    "ids of {table:?}"
                );
                let address = table.memory.as_ptr();
                let address = address.map_err(self.kernels.during("reading the embeddings"))?;
                let rows = (address as u64, table.width);
                self.kernels.gather_from(ids, scale, rows, out)
            }
            CudaLinear::Nf4(_) | CudaLinear::Missing => Ok(()),
        }
    }

    fn place_dense(&self, matrix: &DenseMatrix) -> Result<Halves, GpuError> {
        let bits = self.kernels.gpu().half().bits_of(&matrix.values);
        self.kernels.upload_halves(matrix.rows, matrix.cols, &bits)
    }
}
