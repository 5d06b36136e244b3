//! Products of frozen matrices with one vector: decoding. They read the weights as they are stored.

use cudarc::driver::{DeviceRepr, PushKernelArg};

use super::dequantize::{Group, MOST_PARTS, lay_out};
use super::{CudaKernels, GroupMatrix, GroupPart, Place, PlaceMut, blocks, count};
use crate::cuda::GpuError;

/// Elements of a row that a lane takes at once.
const CHUNK: usize = 32;
/// Warps of a block.
const WARPS: usize = 8;
/// Blocks that a multiprocessor has at once.
const RESIDENT: usize = 4;

/// Where the product with one matrix goes.
#[derive(Debug)]
pub struct GemvOutput<'a> {
    /// Its outputs, `=`.
    pub y: PlaceMut<'a>,
    /// What is added to them.
    pub residual: Option<Place<'a>>,
}

/// One of them, as the kernel sees it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Output {
    y: u64,
    residual: u64,
}

/// All of them.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Outputs([Output; MOST_PARTS]);

// SAFETY: device pointers, laid out as the kernel's struct.
unsafe impl DeviceRepr for Outputs {}

/// Whether a matrix can be multiplied with one vector as it is stored.
#[must_use]
pub fn is_gemv(matrix: &GroupMatrix<'_>) -> bool {
    let (rows, cols) = matrix.shape();
    let whole = match matrix {
        GroupMatrix::Nf4(_) => CHUNK,
        GroupMatrix::Dense(_) | GroupMatrix::Rows { .. } => 8,
    };
    rows.is_multiple_of(2) && cols.is_multiple_of(whole)
}

impl CudaKernels {
    /// `y_o = alpha · [W | B]·[x | xa] (+ residual)` for one to three matrices of equally many columns. `x` is one vector,
    /// behind whose columns `tail` others lie: the low-rank products of the adapters, at their tail columns.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a matrix is not [`is_gemv`], the matrices differ in columns, or a place is too short.
    pub fn gemv_group(
        &self,
        (parts, tail): (&[GroupPart<'_>], usize),
        alpha: f32,
        x: Place<'_>,
        outputs: &mut [GemvOutput<'_>],
    ) -> Result<(), GpuError> {
        let columns = parts[0].matrix.shape().1;
        let group: Group = lay_out(parts, columns + tail.next_multiple_of(8));
        assert!(
            x.len() >= columns + tail,
            "{columns} columns and {tail} of {x:?}"
        );
        assert_eq!(parts.len(), outputs.len(), "an output for each matrix");
        let mut places = Outputs::default();
        for (index, (part, output)) in parts.iter().zip(outputs).enumerate() {
            let rows = part.matrix.shape().0;
            assert!(is_gemv(&part.matrix), "{:?}", part.matrix);
            let room = !output.y.is_float() && output.y.len() >= rows;
            assert!(
                room && output.y.address().is_multiple_of(4),
                "{rows} rows: {output:?}"
            );
            places.0[index].y = output.y.address();
            if let Some(residual) = &output.residual {
                let room = residual.len() >= rows && residual.address().is_multiple_of(4);
                assert!(room, "{rows} rows: {residual:?}");
                places.0[index].residual = residual.address();
            }
        }
        let quantized = parts
            .iter()
            .any(|part| matches!(part.matrix, GroupMatrix::Nf4(_)));
        let pairs = parts
            .iter()
            .map(|part| part.matrix.shape().0)
            .sum::<usize>()
            / 2;
        let most = self.gpu.multiprocessors() as usize * RESIDENT;
        let grid = count(pairs.div_ceil(WARPS).clamp(1, most));
        let (x, columns, quantized) = (x.address(), count(columns), u32::from(quantized));
        let mut launch = self.gpu.stream().launch_builder(&self.gemv_group);
        launch.arg(&group).arg(&places).arg(&x);
        launch.arg(&alpha).arg(&columns).arg(&quantized);
        // SAFETY: the arguments are the kernel's; the matrices' arrays fit their shapes, and the places were checked above.
        unsafe { launch.launch(blocks(grid, 256)) }
            .map(drop)
            .map_err(self.during("gemv_group"))
    }
}
