//! NF4 matrices on the device, and their dequantization.

use cudarc::driver::{CudaSlice, PushKernelArg};

use super::{CudaKernels, Halves, count, whole_vectors};
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

    /// `out_oi = matrix`, each row `out_stride` elements after the one before. What lies between is not written.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If `out` is too short or the stride too narrow.
    pub fn nf4_dequantize(
        &self,
        matrix: &DeviceNf4,
        out_stride: usize,
        out: &mut Halves,
    ) -> Result<(), GpuError> {
        let (rows, cols) = matrix.shape();
        whole_vectors(out_stride);
        assert!(
            out_stride >= cols && out.len() >= (rows - 1) * out_stride + cols,
            "room for {rows} rows"
        );
        let vectors = rows * cols / 8;
        let (vector_count, per_row, stride) = (count(vectors), count(cols / 8), count(out_stride));
        let stored: u32 = match matrix.stored {
            StoredDtype::F32 => 0,
            StoredDtype::Bf16 => 1,
            StoredDtype::F16 => 2,
        };
        let mut launch = self.gpu.stream().launch_builder(&self.nf4_dequantize);
        launch.arg(&matrix.packed).arg(&matrix.absmax);
        match &matrix.nested {
            Some((nested, map)) => launch.arg(nested).arg(map),
            None => launch.arg(&0_u64).arg(&0_u64),
        };
        launch.arg(&matrix.offset).arg(&vector_count).arg(&per_row);
        launch.arg(&stride).arg(&stored).arg(out);
        let grid = self.strided_grid(vectors.div_ceil(4), 256);
        // SAFETY: the arguments are the kernel's; the matrix' parts fit its shape, and `out` was checked above.
        unsafe { launch.launch(grid) }
            .map(drop)
            .map_err(self.during("nf4_dequantize"))
    }
}
