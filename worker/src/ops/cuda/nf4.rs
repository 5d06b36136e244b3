//! NF4 matrices on the device.

use cudarc::driver::{CudaSlice, DevicePtr as _};

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

    /// Of its codes.
    pub(super) fn address(&self) -> u64 {
        self.packed.device_ptr(self.packed.stream()).0
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
        let packed = self.gpu.stream().clone_htod(matrix.packed());
        let packed = packed.map_err(self.during("uploading an NF4 matrix"))?;
        let shape = (matrix.rows(), matrix.cols());
        self.place_nf4(shape, packed, matrix.absmax(), matrix.dtype())
    }

    /// The matrix in host memory, for comparisons. Waits for all work before it.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// Never: a matrix on the device has the arrays of its shape.
    pub fn download_nf4(&self, matrix: &DeviceNf4) -> Result<Nf4Matrix, GpuError> {
        let failed = self.during("reading an NF4 matrix");
        let stream = self.gpu.stream();
        let packed = stream.clone_dtoh(&matrix.packed).map_err(&failed)?;
        let absmax = stream.clone_dtoh(&matrix.absmax).map_err(&failed)?;
        let nested = matrix
            .nested
            .as_ref()
            .map(|(nested, _)| stream.clone_dtoh(nested))
            .transpose()
            .map_err(&failed)?;
        stream.synchronize().map_err(failed)?;
        let absmax = match nested {
            None => {
                let bytes = absmax.as_chunks::<4>().0;
                Absmax::Single(bytes.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            Some(nested) => Absmax::Double {
                codes: absmax,
                nested,
                offset: matrix.offset,
            },
        };
        let made = Nf4Matrix::from_parts(matrix.shape(), packed, absmax, matrix.stored);
        Ok(made.expect("its arrays were made for its shape"))
    }

    /// A matrix of codes that are on the device already.
    pub(super) fn place_nf4(
        &self,
        (rows, cols): (usize, usize),
        packed: CudaSlice<u8>,
        absmax: &Absmax,
        stored: StoredDtype,
    ) -> Result<DeviceNf4, GpuError> {
        let failed = self.during("uploading magnitudes");
        let stream = self.gpu.stream();
        let (absmax, nested, offset) = match absmax {
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
            rows,
            cols,
            packed,
            absmax: absmax.map_err(&failed)?,
            nested,
            offset,
            stored,
        })
    }
}
