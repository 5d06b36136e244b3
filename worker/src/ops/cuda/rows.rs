//! Moves of rows. Row numbers are checked where they are made, on the host; kernels trust them.

use cudarc::driver::{CudaSlice, PushKernelArg};

use super::{CudaKernels, Halves, blocks, count, whole_vectors};
use crate::cuda::GpuError;

/// Row numbers on the device, and how many rows they choose from.
#[derive(Debug)]
pub struct DeviceRows {
    rows: CudaSlice<u32>,
    len: usize,
    below: usize,
}

impl DeviceRows {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many rows they choose from.
    pub(super) fn below(&self) -> usize {
        self.below
    }

    /// The numbers.
    pub(super) fn ids(&self) -> &CudaSlice<u32> {
        &self.rows
    }
}

impl CudaKernels {
    /// Moves row numbers to the device.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If one is not below `below`.
    pub fn upload_rows(&self, rows: &[u32], below: usize) -> Result<DeviceRows, GpuError> {
        assert!(
            rows.iter().all(|&row| (row as usize) < below),
            "row numbers below {below}"
        );
        let uploaded = self.gpu.stream().clone_htod(rows);
        Ok(DeviceRows {
            rows: uploaded.map_err(self.during("uploading row numbers"))?,
            len: rows.len(),
            below,
        })
    }

    /// `out_sd = scale · x_td[rows_s]`: an embedding, or the supervised rows.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn gather_rows(
        &self,
        rows_s: &DeviceRows,
        (width, scale): (usize, f32),
        x_td: &Halves,
        out_sd: &mut Halves,
    ) -> Result<(), GpuError> {
        whole_vectors(width);
        assert!(x_td.len() >= rows_s.below * width && out_sd.len() >= rows_s.len * width);
        let width = count(width);
        let mut launch = self.gpu.stream().launch_builder(&self.gather_rows);
        launch
            .arg(x_td)
            .arg(&rows_s.rows)
            .arg(&width)
            .arg(&scale)
            .arg(out_sd);
        // SAFETY: the arguments are the kernel's; row numbers and lengths were checked.
        unsafe { launch.launch(blocks(count(rows_s.len), 128)) }
            .map(drop)
            .map_err(self.during("gather_rows"))
    }

    /// `out_td = 0`, then `out_td[rows_s] = x_sd`. Row numbers are distinct.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn scatter_rows(
        &self,
        rows_s: &DeviceRows,
        width: usize,
        x_sd: &Halves,
        out_td: &mut Halves,
    ) -> Result<(), GpuError> {
        whole_vectors(width);
        assert!(x_sd.len() >= rows_s.len * width && out_td.len() >= rows_s.below * width);
        let failed = self.during("scatter_rows");
        self.gpu.stream().memset_zeros(out_td).map_err(&failed)?;
        let width = count(width);
        let mut launch = self.gpu.stream().launch_builder(&self.scatter_rows);
        launch.arg(x_sd).arg(&rows_s.rows).arg(&width).arg(out_td);
        // SAFETY: the arguments are the kernel's; row numbers and lengths were checked.
        unsafe { launch.launch(blocks(count(rows_s.len), 128)) }
            .map(drop)
            .map_err(failed)
    }

    /// `y_to += bias_o` for each of `tokens` rows.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If `y` is too short.
    pub fn add_bias(
        &self,
        tokens: usize,
        bias_o: &CudaSlice<f32>,
        y_to: &mut Halves,
    ) -> Result<(), GpuError> {
        whole_vectors(bias_o.len());
        assert!(y_to.len() >= tokens * bias_o.len());
        let width = count(bias_o.len());
        let mut launch = self.gpu.stream().launch_builder(&self.add_bias);
        launch.arg(bias_o).arg(&width).arg(y_to);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(blocks(count(tokens), 128)) }
            .map(drop)
            .map_err(self.during("add_bias"))
    }
}
