//! Matrix products through cuBLASLt: one algorithm a shape, chosen once.
//!
//! All matrices lie row by row, with a row stride. The library thinks in columns, so that it is asked for the transpose:
//! Cᵀ = Bᵀ·Aᵀ, which is the same bytes.

mod plan;
mod product;
mod recent;

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaSlice, DevicePtrMut};

pub use product::{Lay, Product, Tokens};

use super::CudaKernels;
use super::place::{Place, PlaceMut};
use crate::cuda::{CublasLt, GpuError};

use plan::{Algorithm, Handle, Operands, Plan};
use recent::Recent;

/// What is added to a product.
#[derive(Debug, Clone, Copy)]
pub enum Add<'a> {
    /// Nothing: what the output holds is not read.
    Nothing,
    /// What the output holds.
    ToOutput,
    /// Another matrix, 16 bit, with the product's `add_stride`. It overlaps no part of the output.
    Matrix(Place<'a>),
}

/// Products on one GPU.
#[derive(Debug)]
pub struct Gemm {
    known: Mutex<Known>,
    workspace: Mutex<CudaSlice<u8>>,
    handle: Arc<Handle>,
}

/// What was found out about shapes. `usize` is the alignment of the places in bytes.
#[derive(Debug)]
struct Known {
    plans: Recent<(Product, usize), Plan>,
    algorithms: Recent<(Product, usize), Algorithm>,
}

/// Scratch of the library: what NVIDIA recommends for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Shapes that are remembered. A plan is some hundred bytes.
const MOST_PLANS: usize = 4096;

/// An alignment beyond which no algorithm asks for more; every allocation has it.
const WHOLE_ALIGNMENT: usize = 256;

impl Gemm {
    /// Products through this library on the GPU of these kernels.
    ///
    /// # Errors
    /// The driver's or the library's.
    pub fn new(gpu: &CudaKernels, library: CublasLt) -> Result<Self, GpuError> {
        let workspace = gpu.gpu().stream().alloc_zeros(WORKSPACE_BYTES);
        Ok(Self {
            known: Mutex::new(Known {
                plans: Recent::new(MOST_PLANS),
                algorithms: Recent::new(MOST_PLANS),
            }),
            workspace: Mutex::new(workspace.map_err(gpu.during("making room for products"))?),
            handle: Arc::new(Handle::new(library, gpu.gpu().half())?),
        })
    }

    /// `c = alpha · a · b + add`; sums in f32, in one order for a shape.
    ///
    /// # Errors
    /// The library's: it has no algorithm for the shape, or the GPU refuses.
    ///
    /// # Panics
    /// If a place has less than the shape spans, or what is added and C do not fit together.
    pub fn multiply(
        &self,
        gpu: &CudaKernels,
        (product, alpha): (Product, f32),
        a: Place<'_>,
        b: Place<'_>,
        c: PlaceMut<'_>,
        add: Add<'_>,
    ) -> Result<(), GpuError> {
        let operands = operands(product, (a, b), &c, add);
        let beta = match add {
            Add::Nothing => 0.0,
            Add::ToOutput | Add::Matrix(_) => 1.0,
        };
        // A panic elsewhere leaves whole plans and a workspace that holds nothing between calls.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = known.plan(&self.handle, product, alignment(operands))?;
        let stream = gpu.gpu().stream();
        let mut workspace = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (scratch, _) = workspace.device_ptr_mut(stream);
        let stream = stream.cu_stream().cast::<c_void>();
        plan.run((alpha, beta), operands, (scratch, WORKSPACE_BYTES), stream)
    }
}

impl Known {
    fn plan(
        &mut self,
        handle: &Arc<Handle>,
        product: Product,
        alignment: usize,
    ) -> Result<&Plan, GpuError> {
        let algorithms = &mut self.algorithms;
        self.plans.get_or_make((product, alignment), || {
            let mut plan = Plan::new(handle, product, alignment)?;
            let bucket = product.bucket();
            let chosen = algorithms.get_or_make((bucket, alignment), || {
                Plan::new(handle, bucket, alignment)?.ask(WORKSPACE_BYTES)
            });
            // Whether the bucket's algorithm is used depends on the two shapes alone, as the algorithms do.
            match chosen {
                Ok(algorithm) if plan.takes(algorithm, WORKSPACE_BYTES) => {
                    plan.set_algorithm(*algorithm);
                }
                Ok(_) | Err(_) => {
                    let exact = plan.ask(WORKSPACE_BYTES)?;
                    plan.set_algorithm(exact);
                }
            }
            Ok(plan)
        })
    }
}

/// Where the operands are.
///
/// # Panics
/// If one is too short, or C or what is added is not as the product says.
fn operands(
    product: Product,
    (a, b): (Place<'_>, Place<'_>),
    c: &PlaceMut<'_>,
    add: Add<'_>,
) -> Operands {
    let [m, n, k] = product.mnk;
    assert!(a.len() >= product.a.span(m, k), "a of {product:?}: {a:?}");
    assert!(b.len() >= product.b.span(k, n), "b of {product:?}: {b:?}");
    let c_span = Lay::plain(product.c_stride).span(m, n);
    assert!(
        c.len() >= c_span && c.is_float() == product.float,
        "c of {product:?}: {c:?}"
    );
    let add = match add {
        Add::Nothing | Add::ToOutput => {
            assert_eq!(
                product.add_stride, product.c_stride,
                "nothing of another stride is added to {product:?}"
            );
            c.address()
        }
        Add::Matrix(place) => {
            let span = Lay::plain(product.add_stride).span(m, n);
            assert!(
                place.len() >= span && !product.float,
                "added to {product:?}: {place:?}"
            );
            place.address()
        }
    };
    Operands {
        a: a.address(),
        b: b.address(),
        add,
        c: c.address(),
    }
}

/// What all addresses are multiples of, in bytes. Allocations are aligned, so that offsets in them decide it.
fn alignment(operands: Operands) -> usize {
    let bits = operands.a | operands.b | operands.add | operands.c | WHOLE_ALIGNMENT as u64;
    1 << bits.trailing_zeros()
}
