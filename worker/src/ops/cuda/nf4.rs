//! NF4 matrices on the device.

use cudarc::driver::CudaSlice;

use super::{CudaKernels, whole_vectors};
use crate::cuda::GpuError;
use crate::quant::{Absmax, Nf4Matrix, StoredDtype, dynamic_map, nf4};

/// A frozen matrix in NF4 on the device. Shapes: `rows` outputs × `cols` inputs.
#[derive(Debug)]
pub struct DeviceNf4 {
    rows: usize,
    cols: usize,
    packed: CudaSlice<u8>,
    /// Codes of the magnitudes, or, without `nested`, the magnitudes' bytes.
    absmax: CudaSlice<u8>,
    nested: Option<(CudaSlice<f32>, CudaSlice<f32>)>,
    offset: f32,
    stored: StoredDtype,
}

impl DeviceNf4 {
    /// Outputs and inputs.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Bytes that one dequantization reads and writes.
    #[must_use]
    pub fn traffic_bytes(&self) -> usize {
        let nested = self
            .nested
            .as_ref()
            .map_or(0, |(nested, _)| 4 * nested.len());
        self.packed.len() + self.absmax.len() + nested + 2 * self.rows * self.cols
    }

    pub(super) fn packed(&self) -> &CudaSlice<u8> {
        &self.packed
    }

    pub(super) fn absmax(&self) -> &CudaSlice<u8> {
        &self.absmax
    }

    /// Nested magnitudes, and the map of the magnitudes' codes.
    pub(super) fn nested(&self) -> Option<(&CudaSlice<f32>, &CudaSlice<f32>)> {
        self.nested.as_ref().map(|(nested, map)| (nested, map))
    }

    pub(super) fn offset(&self) -> f32 {
        self.offset
    }

    /// Its number format as the kernel numbers it.
    pub(super) fn stored(&self) -> u32 {
        match self.stored {
            StoredDtype::F32 => 0,
            StoredDtype::Bf16 => 1,
            StoredDtype::F16 => 2,
        }
    }
}

impl CudaKernels {
    /// Moves a matrix to the device.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If its columns are not whole vectors or its elements not whole blocks.
    pub fn upload_nf4(&self, matrix: &Nf4Matrix) -> Result<DeviceNf4, GpuError> {
        whole_vectors(matrix.cols());
        let elements = matrix.rows() * matrix.cols();
        assert!(
            elements.is_multiple_of(nf4::BLOCK),
            "{elements} elements in blocks of 64"
        );
        let failed = self.during("uploading an NF4 matrix");
        let stream = self.gpu.stream();
        let (absmax, nested, offset) = match matrix.absmax() {
            Absmax::Single(magnitudes) => (
                stream.clone_htod(bytemuck::cast_slice::<_, u8>(magnitudes)),
                None,
                0.0,
            ),
            Absmax::Double {
                codes,
                nested,
                offset,
            } => {
                let map = stream
                    .clone_htod(dynamic_map::signed().as_slice())
                    .map_err(&failed)?;
                let nested = stream.clone_htod(nested).map_err(&failed)?;
                (stream.clone_htod(codes), Some((nested, map)), *offset)
            }
        };
        Ok(DeviceNf4 {
            rows: matrix.rows(),
            cols: matrix.cols(),
            packed: stream.clone_htod(matrix.packed()).map_err(&failed)?,
            absmax: absmax.map_err(&failed)?,
            nested,
            offset,
            stored: matrix.dtype(),
        })
    }
}
