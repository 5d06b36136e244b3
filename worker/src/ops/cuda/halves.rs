//! 16-bit matrices on the device.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, DevicePtr, LaunchArgs, PushKernelArg};

use super::place::{Place, PlaceMut};
use super::{CudaKernels, VECTOR, count, whole_vectors};
use crate::cuda::GpuError;

/// A 16-bit matrix on the device, or some columns of a wider one: rows lie a stride apart.
///
/// Matrices side by side share an allocation and no column. Behind the last of them a row may have spare columns, its
/// tail, which belong to no matrix: folded adapters keep there what is multiplied together with the row.
#[derive(Debug)]
pub struct Halves {
    memory: Arc<CudaSlice<u16>>,
    /// Of the first element.
    address: u64,
    /// Column of the allocation that is this matrix's first.
    offset: usize,
    /// Elements of the allocation before its first row.
    before: usize,
    rows: usize,
    width: usize,
    /// Elements from one row to the next.
    stride: u32,
    /// Spare columns at the end of each row.
    tail: usize,
}

/// Elements of a memory transaction: products read whole ones where rows begin with one.
const LINE: usize = 64;

/// Elements from one row to the next of `width` columns and `tail` spare ones: whole vectors, and whole lines where there
/// are spare columns anyway.
#[must_use]
pub fn row_stride(width: usize, tail: usize) -> usize {
    match tail {
        0 => width.next_multiple_of(VECTOR),
        _ => (width + tail).next_multiple_of(LINE),
    }
}

impl CudaKernels {
    /// Matrices side by side in one allocation, `tail` spare columns behind the last, all 0. The stride is [`row_stride`]'s;
    /// what that adds is tail too.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a width is not whole vectors.
    pub fn halves(
        &self,
        rows: usize,
        widths: &[usize],
        tail: usize,
    ) -> Result<Vec<Halves>, GpuError> {
        let stride = row_stride(widths.iter().sum::<usize>(), tail);
        let zeros = self.gpu.stream().alloc_zeros((rows * stride).max(1));
        let memory = zeros.map_err(self.during("making room for a matrix"))?;
        Ok(Halves::whole(memory, rows, stride).split(widths))
    }

    /// A matrix of these numbers, row by row, packed; as bits of the GPU's 16-bit format.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are not `rows · width` values.
    pub fn upload_halves(
        &self,
        rows: usize,
        width: usize,
        values: &[u16],
    ) -> Result<Halves, GpuError> {
        assert_eq!(values.len(), rows * width, "a matrix of {rows}x{width}");
        let memory = self.gpu.stream().clone_htod(values);
        let memory = memory.map_err(self.during("uploading a matrix"))?;
        Ok(Halves::whole(memory, rows, width))
    }

    /// The bits of the first rows, packed. Waits for all work before it.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the matrix has fewer.
    pub fn download_halves(&self, halves: &Halves, rows: usize) -> Result<Vec<u16>, GpuError> {
        let failed = self.during("reading a matrix");
        let (stride, width) = (halves.stride(), halves.width);
        assert!(rows <= halves.rows, "{rows} of {} rows", halves.rows);
        if rows == 0 || width == 0 {
            return Ok(Vec::new());
        }
        let first = halves.before + halves.offset;
        let range = first..first + (rows - 1) * stride + width;
        let stream = self.gpu.stream();
        let lying = stream.clone_dtoh(&halves.memory.slice(range));
        let lying = lying.map_err(&failed)?;
        stream.synchronize().map_err(&failed)?;
        if stride == width {
            return Ok(lying);
        }
        let rows = lying.chunks(stride);
        Ok(rows.flat_map(|row| &row[..width]).copied().collect())
    }

    /// `to[..len] = from[..len]`, element by element as they lie.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a place has less, or `to` is not 16 bit.
    pub fn copy_halves(
        &self,
        len: usize,
        from: Place<'_>,
        to: PlaceMut<'_>,
    ) -> Result<(), GpuError> {
        assert!(
            !to.is_float() && from.len() >= len && to.len() >= len,
            "{len} elements from {from:?} to {to:?}"
        );
        let stream = self.gpu.stream();
        let failed = self.during("copying on the device");
        stream.context().bind_to_thread().map_err(&failed)?;
        // SAFETY: both places hold `len` elements of two bytes, and no place to write overlaps one to read.
        unsafe {
            cudarc::driver::result::memcpy_dtod_async(
                to.address(),
                from.address(),
                2 * len,
                stream.cu_stream(),
            )
        }
        .map_err(failed)
    }
}

impl Halves {
    /// All of an allocation as one matrix.
    fn whole(memory: CudaSlice<u16>, rows: usize, width: usize) -> Self {
        let address = memory.device_ptr(&memory.stream().clone()).0;
        Self {
            memory: Arc::new(memory),
            address,
            offset: 0,
            before: 0,
            rows,
            width,
            stride: count(width),
            tail: 0,
        }
    }

    /// Matrices side by side in the same allocation, from element `first` on, as [`CudaKernels::halves`] lays them out. They
    /// are used in turn with what lies there.
    ///
    /// # Panics
    /// If the allocation is smaller, or this is not its beginning.
    #[must_use]
    pub(super) fn within(
        &self,
        first: usize,
        rows: usize,
        widths: &[usize],
        tail: usize,
    ) -> Vec<Self> {
        let stride = row_stride(widths.iter().sum(), tail);
        assert!(
            self.is_first() && self.before == 0 && first + rows * stride <= self.memory.len(),
            "{rows}x{stride} from {first} on in {} elements",
            self.memory.len()
        );
        let whole = Self {
            memory: self.memory.clone(),
            address: self.address + 2 * first as u64,
            before: first,
            rows,
            width: stride,
            stride: count(stride),
            tail: 0,
            ..*self
        };
        whole.split(widths)
    }

    /// Cuts columns side by side into matrices of these widths. What is left becomes tail.
    ///
    /// # Panics
    /// If a width is not whole vectors or they are wider together, or the matrix is followed by another or by a tail.
    #[must_use]
    pub fn split(self, widths: &[usize]) -> Vec<Self> {
        widths.iter().for_each(|&width| whole_vectors(width));
        assert_eq!(
            self.offset + self.width,
            self.stride(),
            "the columns to split end with the row"
        );
        let together = widths.iter().sum::<usize>();
        assert!(
            together <= self.width,
            "widths {widths:?} of {} columns",
            self.width
        );
        let tail = self.width - together;
        let mut first = 0;
        let mut parts = Vec::with_capacity(widths.len());
        for &width in widths {
            parts.push(Self {
                memory: self.memory.clone(),
                address: self.address + 2 * first as u64,
                offset: self.offset + first,
                width,
                tail,
                ..self
            });
            first += width;
        }
        parts
    }

    /// Rows that there is room for.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Elements from one row to the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride as usize
    }

    /// Whether nothing lies between two rows.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.stride() == self.width
    }

    /// Whether `next` lies directly behind this one in the same rows.
    #[must_use]
    pub fn is_followed_by(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &next.memory) && self.offset + self.width == next.offset
    }

    /// Where the spare columns begin, counted from this matrix's first column.
    #[must_use]
    pub fn tail_column(&self) -> usize {
        self.stride() - self.tail - self.offset
    }

    /// Whether it is the first of its allocation's columns.
    pub(super) fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// The rows from `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub(super) fn rows_from(&self, first: usize) -> Self {
        assert!(first <= self.rows, "row {first} of {}", self.rows);
        let before = first * self.stride();
        Self {
            memory: self.memory.clone(),
            address: self.address + 2 * before as u64,
            before: self.before + before,
            rows: self.rows - first,
            ..*self
        }
    }

    /// The allocation as a packed matrix of another shape.
    ///
    /// # Panics
    /// If it is smaller, or this is not all of it.
    pub(super) fn shaped(&self, rows: usize, width: usize) -> Self {
        assert!(
            self.is_first() && self.before == 0 && rows * width <= self.memory.len(),
            "{rows}x{width} in {} elements",
            self.memory.len()
        );
        Self {
            memory: self.memory.clone(),
            rows,
            width,
            stride: count(width),
            tail: 0,
            ..*self
        }
    }

    /// Bytes of the whole allocation, which matrices side by side share.
    #[must_use]
    pub fn allocation_bytes(&self) -> usize {
        self.memory.num_bytes()
    }

    /// The whole allocation.
    #[must_use]
    pub fn memory(&self) -> &CudaSlice<u16> {
        &self.memory
    }

    /// From the first element on.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        self.place_at(0)
    }

    /// From a column of the first row on, which may be one of a matrix behind this one, or spare.
    ///
    /// # Panics
    /// If the row has no such column.
    #[must_use]
    pub fn place_at(&self, column: usize) -> Place<'_> {
        let (address, len) = self.at_column(column);
        Place::new(address, len)
    }

    /// From the first element on, to write.
    pub fn place_mut(&mut self) -> PlaceMut<'_> {
        self.place_mut_at(0)
    }

    /// From a column of the first row on, to write.
    ///
    /// # Panics
    /// If the row has no such column.
    pub fn place_mut_at(&mut self, column: usize) -> PlaceMut<'_> {
        let (address, len) = self.at_column(column);
        PlaceMut::halves(address, len)
    }

    /// From spare column `column` of the first row on, to write, also while the matrix is read.
    ///
    /// # Panics
    /// If the row has no such spare column.
    #[must_use]
    pub fn tail(&self, column: usize) -> PlaceMut<'_> {
        assert!(column < self.tail, "spare column {column} of {}", self.tail);
        let (address, len) = self.at_column(self.tail_column() + column);
        PlaceMut::halves(address, len)
    }

    fn at_column(&self, column: usize) -> (u64, usize) {
        let at = self.offset + column;
        assert!(
            at < self.stride().max(1),
            "column {column} of rows of {}",
            self.stride()
        );
        (
            self.address + 2 * column as u64,
            self.memory.len().saturating_sub(self.before + at),
        )
    }

    /// Panics unless there are so many rows of so many columns, in whole vectors.
    pub(super) fn check(&self, what: &str, rows: usize, width: usize) {
        assert!(
            self.rows >= rows && self.width >= width,
            "{what}: {rows}x{width} of {}x{}",
            self.rows,
            self.width
        );
        whole_vectors(width);
        whole_vectors(self.stride());
    }

    /// The address of the first element.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// The same, as an argument of a kernel.
    pub(super) fn address_arg(&self) -> &u64 {
        &self.address
    }
}

/// A matrix as kernels take it: where it begins, and its row stride.
pub(super) fn push_halves<'a>(launch: &mut LaunchArgs<'a>, halves: &'a Halves) {
    launch.arg(&halves.address).arg(&halves.stride);
}
