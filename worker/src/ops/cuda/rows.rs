//! Moves of rows. Row numbers are checked where they are made, on the host; kernels trust them.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, DevicePtr, PushKernelArg};

use super::{CudaKernels, Halves, blocks, count, push_halves};
use crate::cuda::GpuError;

/// Row numbers on the device, and how many rows they choose from.
#[derive(Debug)]
pub struct DeviceRows {
    memory: Arc<CudaSlice<u32>>,
    /// Of the first number.
    address: u64,
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

    /// Where the numbers are, as an argument of a kernel.
    pub(super) fn ids(&self) -> &u64 {
        &self.address
    }

    /// `len` of them from `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub(super) fn part(&self, first: usize, len: usize) -> Self {
        assert!(first + len <= self.len, "numbers {first}.. of {}", self.len);
        Self {
            memory: self.memory.clone(),
            address: self.address + 4 * first as u64,
            len,
            below: self.below,
        }
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
        let stream = self.gpu.stream();
        let uploaded = stream.clone_htod(rows);
        let memory = uploaded.map_err(self.during("uploading row numbers"))?;
        let address = memory.device_ptr(stream).0;
        Ok(DeviceRows {
            address,
            memory: Arc::new(memory),
            len: rows.len(),
            below,
        })
    }

    /// `out_sd = scale · x_td[rows_s]`, as wide as `out`: an embedding, or the supervised rows.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small.
    pub fn gather_rows(
        &self,
        rows_s: &DeviceRows,
        scale: f32,
        x_td: &Halves,
        out_sd: &mut Halves,
    ) -> Result<(), GpuError> {
        x_td.check("x", rows_s.below, out_sd.width());
        self.gather_from(rows_s, scale, (x_td.address(), x_td.stride()), out_sd)
    }

    /// [`Self::gather_rows`] from rows that lie anywhere that the GPU reads, pinned host memory too.
    pub(super) fn gather_from(
        &self,
        rows_s: &DeviceRows,
        scale: f32,
        (address, stride): (u64, usize),
        out_sd: &mut Halves,
    ) -> Result<(), GpuError> {
        let width = out_sd.width();
        out_sd.check("out", rows_s.len, width);
        if rows_s.len == 0 {
            return Ok(());
        }
        let (width, stride) = (count(width), count(stride));
        let mut launch = self.gpu.stream().launch_builder(&self.gather_rows);
        launch.arg(&address).arg(&stride);
        launch.arg(rows_s.ids()).arg(&width).arg(&scale);
        push_halves(&mut launch, out_sd);
        // SAFETY: the arguments are the kernel's; row numbers and sizes were checked.
        unsafe { launch.launch(blocks(count(rows_s.len), 128)) }
            .map(drop)
            .map_err(self.during("gather_rows"))
    }

    /// `out_td = 0`, then `out_td[rows_s] = x_sd`, as wide as `x`. Row numbers are distinct.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small.
    pub fn scatter_rows(
        &self,
        rows_s: &DeviceRows,
        x_sd: &Halves,
        out_td: &mut Halves,
    ) -> Result<(), GpuError> {
        let width = x_sd.width();
        x_sd.check("x", rows_s.len, width);
        out_td.check("out", rows_s.below, width);
        self.clear_rows(rows_s.below, out_td)?;
        if rows_s.len == 0 {
            return Ok(());
        }
        let width = count(width);
        let mut launch = self.gpu.stream().launch_builder(&self.scatter_rows);
        push_halves(&mut launch, x_sd);
        launch.arg(rows_s.ids()).arg(&width);
        push_halves(&mut launch, out_td);
        // SAFETY: the arguments are the kernel's; row numbers and sizes were checked.
        unsafe { launch.launch(blocks(count(rows_s.len), 128)) }
            .map(drop)
            .map_err(self.during("scatter_rows"))
    }

    /// The first `rows` rows become 0, with their columns alone.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn clear_rows(&self, rows: usize, out: &mut Halves) -> Result<(), GpuError> {
        let width = out.width();
        out.check("rows to clear", rows, width);
        if rows == 0 {
            return Ok(());
        }
        let width = count(width);
        let mut launch = self.gpu.stream().launch_builder(&self.clear_rows);
        launch.arg(&width);
        push_halves(&mut launch, out);
        // SAFETY: the arguments are the kernel's, and the sizes were checked above.
        unsafe { launch.launch(blocks(count(rows), 128)) }
            .map(drop)
            .map_err(self.during("clear_rows"))
    }

    /// `to[to_row..][..rows] = from[from_row..][..rows]`, as wide as `from`.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small.
    pub fn copy_rows(
        &self,
        rows: usize,
        (from, from_row): (&Halves, usize),
        (to, to_row): (&mut Halves, usize),
    ) -> Result<(), GpuError> {
        let width = from.width();
        from.check("rows to copy", from_row + rows, width);
        to.check("room for a copy", to_row + rows, width);
        if rows == 0 {
            return Ok(());
        }
        let (width, from_row, to_row) = (count(width), count(from_row), count(to_row));
        let mut launch = self.gpu.stream().launch_builder(&self.copy_rows);
        push_halves(&mut launch, from);
        launch.arg(&from_row).arg(&width);
        push_halves(&mut launch, to);
        launch.arg(&to_row);
        // SAFETY: the arguments are the kernel's, and the sizes were checked above.
        unsafe { launch.launch(blocks(count(rows), 128)) }
            .map(drop)
            .map_err(self.during("copy_rows"))
    }

    /// Where the largest of the first `width` elements of the first row is, of equal ones the first; `None` where one is not
    /// finite. Waits for all work before it.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the row is shorter.
    pub fn likeliest(&self, width: usize, row: &Halves) -> Result<Option<u32>, GpuError> {
        row.check("a row", 1, width);
        let failed = self.during("likeliest");
        let stream = self.gpu.stream();
        let mut found = stream.alloc_zeros::<u32>(2).map_err(&failed)?;
        let columns = count(width);
        let mut launch = stream.launch_builder(&self.likeliest);
        launch.arg(row.address_arg()).arg(&columns).arg(&mut found);
        // SAFETY: the arguments are the kernel's, and the width was checked above.
        unsafe { launch.launch(blocks(1, 1024)) }.map_err(&failed)?;
        let found = stream.clone_dtoh(&found).map_err(&failed)?;
        stream.synchronize().map_err(failed)?;
        match found[..] {
            [at, 0] => Ok(Some(at)),
            _ => Ok(None),
        }
    }

    /// `y_to += bias_o` for each of `tokens` rows.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If `y` is too small.
    pub fn add_bias(
        &self,
        tokens: usize,
        bias_o: &CudaSlice<f32>,
        y_to: &mut Halves,
    ) -> Result<(), GpuError> {
        y_to.check("y", tokens, bias_o.len());
        let width = count(bias_o.len());
        let mut launch = self.gpu.stream().launch_builder(&self.add_bias);
        launch.arg(bias_o).arg(&width);
        push_halves(&mut launch, y_to);
        // SAFETY: the arguments are the kernel's, and the sizes were checked above.
        unsafe { launch.launch(blocks(count(tokens), 128)) }
            .map(drop)
            .map_err(self.during("add_bias"))
    }
}
