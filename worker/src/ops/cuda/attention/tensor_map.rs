//! How Hopper's copy engine finds its way in an array.

use cudarc::driver::sys::{
    self, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle,
};
use cudarc::driver::{DeviceRepr, DriverError};

use super::Halves;
use crate::cuda::HalfFormat;

/// A map of an array [tokens, heads, head_dim], read in boxes of 64 columns of one head.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(super) struct TensorMap(CUtensorMap);

// SAFETY: 128 opaque bytes, passed by value as the kernels declare them.
unsafe impl DeviceRepr for TensorMap {}

/// Columns of a box: what a swizzled row of shared memory holds.
const COLUMNS: u32 = 64;

impl TensorMap {
    /// Maps `array`. A box has `rows` tokens; what lies beyond the array is read as 0.
    pub(super) fn new(
        (array, half): (&Halves, HalfFormat),
        (tokens, heads, head_dim): (usize, usize, usize),
        rows: u32,
    ) -> Result<Self, DriverError> {
        array.check("an operand of attention", tokens, heads * head_dim);
        let address = array.address();
        let dims = [head_dim as u64, heads as u64, tokens as u64];
        let strides = [2 * head_dim as u64, 2 * array.stride() as u64];
        let (window, steps) = ([COLUMNS, 1, rows], [1_u32; 3]);
        let kind = match half {
            HalfFormat::Bf16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            HalfFormat::F16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        };
        let mut map = CUtensorMap { opaque: [0; 16] };
        // SAFETY: the array holds what the dimensions say, which was checked; all pointers are to live locals of the
        // lengths that rank 3 asks for.
        let status = unsafe {
            sys::cuTensorMapEncodeTiled(
                &raw mut map,
                kind,
                3,
                address as *mut _,
                dims.as_ptr(),
                strides.as_ptr(),
                window.as_ptr(),
                steps.as_ptr(),
                CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        status.result().map(|()| Self(map))
    }
}
