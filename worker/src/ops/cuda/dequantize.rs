//! Dequantization of matrices that are multiplied together, below each other, with their adapters beside them.

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, PushKernelArg};

use super::nf4::DeviceNf4;
use super::place::{Place, PlaceMut};
use super::{CudaKernels, Halves, blocks, count, whole_vectors};
use crate::cuda::GpuError;

/// Matrices of a group at most.
pub(super) const MOST_PARTS: usize = 3;
/// Vectors that a warp moves at once.
const TILE: usize = 128;
/// Warps of a block.
const WARPS: u32 = 8;

/// One of the matrices that are dequantized together.
#[derive(Debug, Clone, Copy)]
pub struct GroupPart<'a> {
    /// The frozen matrix.
    pub matrix: GroupMatrix<'a>,
    /// What its rows' tails hold; without one they hold 0.
    pub adapter: Option<GroupAdapter<'a>>,
}

/// A frozen matrix, as it lies on the device.
#[derive(Debug, Clone, Copy)]
pub enum GroupMatrix<'a> {
    /// 4 bits an element.
    Nf4(&'a DeviceNf4),
    /// 16 bits an element: it is copied.
    Dense(&'a Halves),
    /// The same, packed, wherever it lies.
    Rows {
        /// Its elements.
        place: Place<'a>,
        /// Rows and columns.
        shape: (usize, usize),
    },
}

/// The second matrix of an adapter, B.
#[derive(Debug, Clone, Copy)]
pub struct GroupAdapter<'a> {
    /// Its elements, as many rows as the frozen matrix has, of `rank` columns, packed.
    pub b: Place<'a>,
    /// Its columns.
    pub rank: usize,
    /// The column of the tail that is its first.
    pub tail_column: usize,
}

/// One matrix, as the kernel sees it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Part {
    packed: u64,
    absmax: u64,
    nested: u64,
    map: u64,
    dense: u64,
    adapter: u64,
    offset: f32,
    stored: u32,
    dense_stride: u32,
    rank: u32,
    tail_column: u32,
    whole: u32,
    vectors: u32,
    first_tile: u32,
    first_row: u32,
}

/// All of them, as the kernel sees them.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Group {
    parts: [Part; MOST_PARTS],
    tiles: u32,
    tail_tiles: u32,
    vectors_per_row: u32,
    tail_vectors: u32,
    rows: u32,
}

// SAFETY: plain numbers and device pointers, laid out as the kernel's struct.
unsafe impl DeviceRepr for Group {}

/// What is no part: beyond all tiles and rows.
const NO_PART: Part = Part {
    packed: 0,
    absmax: 0,
    nested: 0,
    map: 0,
    dense: 0,
    adapter: 0,
    offset: 0.0,
    stored: 0,
    dense_stride: 0,
    rank: 0,
    tail_column: 0,
    whole: 0,
    vectors: 0,
    first_tile: u32::MAX,
    first_row: u32::MAX,
};

impl GroupMatrix<'_> {
    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Nf4(matrix) => matrix.shape(),
            Self::Dense(matrix) => (matrix.rows(), matrix.width()),
            Self::Rows { shape, .. } => *shape,
        }
    }
}

impl CudaKernels {
    /// Writes matrices of equally many columns below each other, one to three of them, each row `stride` elements after
    /// the one before. What a row has left behind its columns, its tail, becomes 0 but for the columns of the matrix's
    /// adapter, so that the rows are [W | B] with the B of several matrices in columns of their own.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the matrices differ in columns, `out` is too short or not 16 bit, or an adapter does not fit its matrix or the
    /// tail.
    pub fn nf4_dequantize_group(
        &self,
        parts: &[GroupPart<'_>],
        stride: usize,
        out: PlaceMut<'_>,
    ) -> Result<(), GpuError> {
        self.launch_group(lay_out(parts, stride), stride, out)
    }

    /// The same of the rows' tails alone.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// As [`Self::nf4_dequantize_group`].
    pub fn write_tails(
        &self,
        parts: &[GroupPart<'_>],
        stride: usize,
        out: PlaceMut<'_>,
    ) -> Result<(), GpuError> {
        let mut group = lay_out(parts, stride);
        group.tiles = 0;
        if group.tail_tiles == 0 {
            return Ok(());
        }
        self.launch_group(group, stride, out)
    }

    fn launch_group(&self, group: Group, stride: usize, out: PlaceMut<'_>) -> Result<(), GpuError> {
        let rows = group.rows as usize;
        let cols = 8 * group.vectors_per_row as usize;
        assert!(
            !out.is_float() && out.len() >= (rows - 1) * stride + stride.max(cols),
            "room for {rows} rows of {stride} in {out:?}"
        );
        assert!(
            out.address().is_multiple_of(16),
            "rows begin at whole vectors: {out:?}"
        );
        let grid = (group.tiles + group.tail_tiles).div_ceil(WARPS);
        let (out, stride) = (out.address(), count(stride));
        let mut launch = self.gpu.stream().launch_builder(&self.nf4_dequantize_group);
        launch.arg(&group).arg(&out).arg(&stride);
        // SAFETY: the arguments are the kernel's; the matrices' arrays fit their shapes, and `out` was checked above.
        unsafe { launch.launch(blocks(grid, 256)) }
            .map(drop)
            .map_err(self.during("nf4_dequantize_group"))
    }
}

/// Tiles and rows of every part.
pub(super) fn lay_out(parts: &[GroupPart<'_>], stride: usize) -> Group {
    assert!(
        (1..=MOST_PARTS).contains(&parts.len()),
        "a group of {} matrices",
        parts.len()
    );
    let (_, cols) = parts[0].matrix.shape();
    whole_vectors(cols);
    whole_vectors(stride);
    let tail = stride
        .checked_sub(cols)
        .expect("a row stride has room for the columns");
    let mut laid = [NO_PART; MOST_PARTS];
    let (mut tiles, mut rows) = (0, 0);
    for (laid, part) in laid.iter_mut().zip(parts) {
        let (own_rows, own_cols) = part.matrix.shape();
        assert_eq!(own_cols, cols, "columns of the matrices of a group");
        *laid = part.describe(tail);
        laid.first_tile = count(tiles);
        laid.first_row = count(rows);
        tiles += (own_rows * cols / 8).div_ceil(TILE);
        rows += own_rows;
    }
    Group {
        parts: laid,
        tiles: count(tiles),
        tail_tiles: count((rows * tail / 8).div_ceil(TILE)),
        vectors_per_row: count(cols / 8),
        tail_vectors: count(tail / 8),
        rows: count(rows),
    }
}

impl GroupPart<'_> {
    fn describe(&self, tail: usize) -> Part {
        let (rows, cols) = self.matrix.shape();
        let part = Part {
            vectors: count(rows * cols / 8),
            ..NO_PART
        };
        let part = match self.matrix {
            GroupMatrix::Nf4(matrix) => {
                let (nested, map) = match matrix.nested() {
                    Some((nested, map)) => (address(nested), address(map)),
                    None => (0, 0),
                };
                Part {
                    packed: address(matrix.packed()),
                    absmax: address(matrix.absmax()),
                    nested,
                    map,
                    offset: matrix.offset(),
                    stored: matrix.stored(),
                    ..part
                }
            }
            GroupMatrix::Dense(matrix) => {
                matrix.check("a dense matrix", rows, cols);
                Part {
                    dense: matrix.address(),
                    dense_stride: count(matrix.stride()),
                    ..part
                }
            }
            GroupMatrix::Rows { place, .. } => {
                let vectors = place.address().is_multiple_of(16) && place.len() >= rows * cols;
                assert!(vectors, "{rows}x{cols} in whole vectors: {place:?}");
                Part {
                    dense: place.address(),
                    dense_stride: count(cols),
                    ..part
                }
            }
        };
        match self.adapter {
            Some(adapter) => adapter.describe(rows, tail, part),
            None => part,
        }
    }
}

impl GroupAdapter<'_> {
    fn describe(&self, rows: usize, tail: usize, part: Part) -> Part {
        let (rank, first) = (self.rank, self.tail_column);
        assert!(
            first + rank <= tail && self.b.len() >= rows * rank,
            "an adapter {rows}x{rank} at column {first} of {tail}: {:?}",
            self.b
        );
        let whole = rank.is_multiple_of(8)
            && first.is_multiple_of(8)
            && self.b.address().is_multiple_of(16);
        Part {
            adapter: self.b.address(),
            rank: count(rank),
            tail_column: count(first),
            whole: whole.into(),
            ..part
        }
    }
}

fn address<T>(array: &CudaSlice<T>) -> u64 {
    array.device_ptr(array.stream()).0
}
