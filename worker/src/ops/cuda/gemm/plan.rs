//! One shape's descriptions and algorithm.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtMatmulAlgo_t, cublasLtMatmulDescAttributes_t as DescAttribute,
    cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreferenceAttributes_t as Preference,
    cudaDataType_t,
};

use super::{Lay, Product};
use crate::cuda::{CublasLt, GpuError, HalfFormat, Opaque};

/// The library with its context on the GPU.
#[derive(Debug)]
pub(super) struct Handle {
    library: CublasLt,
    handle: Opaque,
    /// The library's name of the 16-bit format.
    half: cudaDataType_t,
}

// SAFETY: the library's calls may come from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// An algorithm of the library with its settings.
pub(super) type Algorithm = cublasLtMatmulAlgo_t;

/// Where the operands of one product are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) add: u64,
    pub(super) c: u64,
}

/// What a product of one shape is called with.
#[derive(Debug)]
pub(super) struct Plan {
    handle: Arc<Handle>,
    product: Product,
    alignment: usize,
    desc: Opaque,
    /// A, B, what is added, and C, as the library sees them: B and A changed places.
    layouts: [Opaque; 4],
    algorithm: Algorithm,
}

// SAFETY: descriptions are plain memory that nothing changes after `new`.
unsafe impl Send for Plan {}

/// Partial sums may be added in the compute type or the output's, in a fixed order, but not in place, which depends on
/// timing.
const ORDERED_REDUCTIONS: u32 = 2 | 4;

/// The library's status where it has no algorithm.
const NOT_SUPPORTED: i32 = 15;

impl Handle {
    pub(super) fn new(library: CublasLt, half: HalfFormat) -> Result<Self, GpuError> {
        let mut handle = ptr::null_mut();
        // SAFETY: a context is current on this thread: buffers were made before.
        let status = unsafe { (library.functions().create)(&raw mut handle) };
        let half = match half {
            HalfFormat::Bf16 => cudaDataType_t::CUDA_R_16BF,
            HalfFormat::F16 => cudaDataType_t::CUDA_R_16F,
        };
        let handle = Self {
            library,
            handle,
            half,
        };
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
    /// Describes a product whose operands are at multiples of `alignment` bytes. It has no algorithm yet.
    pub(super) fn new(
        handle: &Arc<Handle>,
        product: Product,
        alignment: usize,
    ) -> Result<Self, GpuError> {
        let functions = handle.library.functions();
        let check = |status, call| handle.check(status, call, Some(product));
        let [m, n, k] = product.mnk.map(|dim| dim as u64);
        let half = handle.half;
        let out = if product.float {
            cudaDataType_t::CUDA_R_32F
        } else {
            half
        };
        let mut plan = Self {
            handle: handle.clone(),
            product,
            alignment,
            desc: ptr::null_mut(),
            layouts: [ptr::null_mut(); 4],
            // SAFETY: opaque words.
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
                (out, (n, m), product.add_stride),
                (out, (n, m), product.c_stride),
            ];
            for (layout, (kind, (rows, cols), stride)) in plan.layouts.iter_mut().zip(lying) {
                let status = (functions.layout_create)(layout, kind, rows, cols, stride as i64);
                check(status, "cublasLtMatrixLayoutCreate")?;
            }
        }
        Ok(plan)
    }

    /// The library's best algorithm for the product.
    pub(super) fn ask(&self, workspace: usize) -> Result<Algorithm, GpuError> {
        let functions = self.handle.library.functions();
        let mut preference = ptr::null_mut();
        let mut found = 0;
        // SAFETY: plain data that the library fills.
        let mut result: cublasLtMatmulHeuristicResult_t = unsafe { std::mem::zeroed() };
        let [b, a, add, c] = self.layouts;
        // SAFETY: as in `new`; the preference is destroyed before the function returns.
        let status = unsafe {
            let mut status = (functions.preference_create)(&raw mut preference);
            if status == 0 {
                status |= self.prefer(preference, workspace);
                status |= (functions.heuristic)(
                    self.handle.handle,
                    self.desc,
                    b,
                    a,
                    add,
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
            NOT_SUPPORTED
        } else {
            status
        };
        let product = Some(self.product);
        self.handle
            .check(status, "cublasLtMatmulAlgoGetHeuristic", product)?;
        Ok(result.algo)
    }

    /// Says which algorithms there is a use for.
    fn prefer(&self, preference: Opaque, workspace: usize) -> i32 {
        let set = self.handle.library.functions().preference_set;
        let (bytes, ordered) = (workspace as u64, ORDERED_REDUCTIONS);
        let alignment = u32::try_from(self.alignment).unwrap_or(1);
        let most = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as u32;
        let reductions = Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK as u32;
        // SAFETY: attributes are live locals of the sizes that the library documents.
        unsafe {
            let mut status = set(preference, most, (&raw const bytes).cast(), 8);
            status |= set(preference, reductions, (&raw const ordered).cast(), 4);
            for operand in [
                Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
            ] {
                status |= set(preference, operand as u32, (&raw const alignment).cast(), 4);
            }
            status
        }
    }

    /// Whether an algorithm that was chosen for another shape does for this one.
    pub(super) fn takes(&self, algorithm: &Algorithm, workspace: usize) -> bool {
        // SAFETY: plain data that the library fills.
        let mut result: cublasLtMatmulHeuristicResult_t = unsafe { std::mem::zeroed() };
        let [b, a, add, c] = self.layouts;
        // SAFETY: as in `new`.
        let status = unsafe {
            (self.handle.library.functions().algo_check)(
                self.handle.handle,
                self.desc,
                b,
                a,
                add,
                c,
                algorithm,
                &raw mut result,
            )
        };
        status == 0 && result.workspaceSize <= workspace
    }

    /// Computes with this algorithm from now on.
    pub(super) fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.algorithm = algorithm;
    }

    /// `c = alpha · a · b + beta · add` on the stream.
    pub(super) fn run(
        &self,
        (alpha, beta): (f32, f32),
        operands: Operands,
        (workspace, workspace_bytes): (u64, usize),
        stream: *mut c_void,
    ) -> Result<(), GpuError> {
        let [b_layout, a_layout, add_layout, c_layout] = self.layouts;
        // SAFETY: the addresses hold what the layouts say, which `Gemm::multiply` checked; scalars are on the host, where
        // the library reads them at once.
        let status = unsafe {
            (self.handle.library.functions().matmul)(
                self.handle.handle,
                self.desc,
                (&raw const alpha).cast(),
                operands.b as *const c_void,
                b_layout,
                operands.a as *const c_void,
                a_layout,
                (&raw const beta).cast(),
                operands.add as *const c_void,
                add_layout,
                operands.c as *mut c_void,
                c_layout,
                &raw const self.algorithm,
                workspace as *mut c_void,
                workspace_bytes,
                stream,
            )
        };
        self.handle
            .check(status, "cublasLtMatmul", Some(self.product))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        let functions = self.handle.library.functions();
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
}

/// The library's name for how an operand is taken. It sees the transpose of what lies row by row: an operand that lies as
/// it is needs none.
fn operation(lay: Lay) -> i32 {
    i32::from(lay.transposed)
}
