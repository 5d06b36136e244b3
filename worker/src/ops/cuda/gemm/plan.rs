//! One shape's descriptions and algorithm.

use std::ffi::c_void;
use std::ptr;

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtMatmulAlgo_t, cublasLtMatmulDescAttributes_t as DescAttribute,
    cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreferenceAttributes_t as Preference,
    cudaDataType_t,
};

use super::{Lay, Product};
use crate::cuda::{CublasLt, GpuError, Opaque};

/// The library with its context on the GPU.
#[derive(Debug)]
pub(super) struct Handle {
    library: CublasLt,
    handle: Opaque,
}

// SAFETY: the library's calls may come from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// What a product of one shape is called with.
#[derive(Debug)]
pub(super) struct Plan {
    desc: Opaque,
    /// A, B and C, as the library sees them: B and A changed places.
    layouts: [Opaque; 3],
    algorithm: cublasLtMatmulAlgo_t,
}

// SAFETY: descriptions are plain memory that nothing changes after `new`.
unsafe impl Send for Plan {}

/// Partial sums may be added in the compute type or the output's, in a fixed order, but not in place, which depends on
/// timing.
const ORDERED_REDUCTIONS: u32 = 2 | 4;

impl Handle {
    pub(super) fn new(library: CublasLt) -> Result<Self, GpuError> {
        let mut handle = ptr::null_mut();
        // SAFETY: a context is current on this thread: buffers were made before.
        let status = unsafe { (library.functions().create)(&raw mut handle) };
        let handle = Self { library, handle };
        handle.check(status, "cublasLtCreate", None)?;
        Ok(handle)
    }

    fn check(
        &self,
        status: i32,
        call: &'static str,
        product: Option<Product>,
    ) -> Result<(), GpuError> {
        if status == 0 {
            return Ok(());
        }
        let product = product
            .map(|product| format!(" of {product:?}"))
            .unwrap_or_default();
        Err(GpuError::Product {
            call,
            product,
            status,
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: made by this library and not used again.
            unsafe { (self.library.functions().destroy)(self.handle) };
        }
    }
}

impl Plan {
    /// Asks the library for its best algorithm.
    pub(super) fn new(
        handle: &Handle,
        product: Product,
        workspace: usize,
    ) -> Result<Self, GpuError> {
        let functions = handle.library.functions();
        let check = |status, call| handle.check(status, call, Some(product));
        let [m, n, k] = product.mnk.map(|dim| dim as u64);
        let half = cudaDataType_t::CUDA_R_16BF;
        let out = if product.float {
            cudaDataType_t::CUDA_R_32F
        } else {
            half
        };
        let mut plan = Self {
            desc: ptr::null_mut(),
            layouts: [ptr::null_mut(); 3],
            // SAFETY: opaque words; overwritten below before use.
            algorithm: unsafe { std::mem::zeroed() },
        };
        // SAFETY: every out pointer is to a live local or field, and attributes have the sizes that the library
        // documents.
        unsafe {
            let compute = cublasComputeType_t::CUBLAS_COMPUTE_32F;
            let status =
                (functions.desc_create)(&raw mut plan.desc, compute, cudaDataType_t::CUDA_R_32F);
            check(status, "cublasLtMatmulDescCreate")?;
            for (attribute, lay) in [
                (DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, product.b),
                (DescAttribute::CUBLASLT_MATMUL_DESC_TRANSB, product.a),
            ] {
                let operation = operation(lay);
                let status = (functions.desc_set)(
                    plan.desc,
                    attribute as u32,
                    (&raw const operation).cast(),
                    4,
                );
                check(status, "cublasLtMatmulDescSetAttribute")?;
            }
            let lies = |lay: Lay, rows: u64, cols: u64| {
                if lay.transposed {
                    (rows, cols)
                } else {
                    (cols, rows)
                }
            };
            let lying = [
                (half, lies(product.b, k, n), product.b.stride),
                (half, lies(product.a, m, k), product.a.stride),
                (out, (n, m), product.c_stride),
            ];
            for (layout, (kind, (rows, cols), stride)) in plan.layouts.iter_mut().zip(lying) {
                let status = (functions.layout_create)(layout, kind, rows, cols, stride as i64);
                check(status, "cublasLtMatrixLayoutCreate")?;
            }
        }
        plan.choose(handle, product, workspace)?;
        Ok(plan)
    }

    fn choose(
        &mut self,
        handle: &Handle,
        product: Product,
        workspace: usize,
    ) -> Result<(), GpuError> {
        let functions = handle.library.functions();
        let mut preference = ptr::null_mut();
        let mut found = 0;
        // SAFETY: plain data that the library fills.
        let mut result: cublasLtMatmulHeuristicResult_t = unsafe { std::mem::zeroed() };
        let (bytes, ordered) = (workspace as u64, ORDERED_REDUCTIONS);
        let [b, a, c] = self.layouts;
        // SAFETY: as in `new`; the preference is destroyed before the function returns.
        let status = unsafe {
            let mut status = (functions.preference_create)(&raw mut preference);
            if status == 0 {
                let most = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as u32;
                status |=
                    (functions.preference_set)(preference, most, (&raw const bytes).cast(), 8);
                let reductions = Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK as u32;
                let mask = (&raw const ordered).cast();
                status |= (functions.preference_set)(preference, reductions, mask, 4);
                status |= (functions.heuristic)(
                    handle.handle,
                    self.desc,
                    b,
                    a,
                    c,
                    c,
                    preference,
                    1,
                    &raw mut result,
                    &raw mut found,
                );
                (functions.preference_destroy)(preference);
            }
            status
        };
        let status = if status == 0 && found == 0 {
            15
        } else {
            status
        };
        handle.check(status, "cublasLtMatmulAlgoGetHeuristic", Some(product))?;
        self.algorithm = result.algo;
        Ok(())
    }

    /// Gives the descriptions back.
    pub(super) fn destroy(&mut self, handle: &Handle) {
        let functions = handle.library.functions();
        // SAFETY: made by this library, or null where making them failed, and not used again.
        unsafe {
            if !self.desc.is_null() {
                (functions.desc_destroy)(self.desc);
            }
            for layout in self.layouts.iter().filter(|layout| !layout.is_null()) {
                (functions.layout_destroy)(*layout);
            }
        }
    }

    /// `c = alpha · a · b + beta · c` on the stream.
    pub(super) fn run(
        &self,
        handle: &Handle,
        (alpha, beta): (f32, f32),
        [a, b, c]: [u64; 3],
        (workspace, workspace_bytes): (u64, usize),
        stream: *mut c_void,
    ) -> Result<(), GpuError> {
        let [b_layout, a_layout, c_layout] = self.layouts;
        // SAFETY: the addresses hold what the layouts say, which `Gemm::multiply` checked; scalars are on the host, where
        // the library reads them at once.
        let status = unsafe {
            (handle.library.functions().matmul)(
                handle.handle,
                self.desc,
                (&raw const alpha).cast(),
                b as *const c_void,
                b_layout,
                a as *const c_void,
                a_layout,
                (&raw const beta).cast(),
                c as *const c_void,
                c_layout,
                c as *mut c_void,
                c_layout,
                &raw const self.algorithm,
                workspace as *mut c_void,
                workspace_bytes,
                stream,
            )
        };
        handle.check(status, "cublasLtMatmul", None)
    }
}

/// The library's name for how an operand is taken. It sees the transpose of what lies row by row: an operand that lies as
/// it is needs none.
fn operation(lay: Lay) -> i32 {
    i32::from(lay.transposed)
}
