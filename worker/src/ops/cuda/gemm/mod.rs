//! Matrix products through cuBLASLt: one algorithm a shape, chosen once.
//!
//! All matrices lie row by row, with a row stride. The library thinks in columns, so that it is asked for the transpose:
//! Cᵀ = Bᵀ·Aᵀ, which is the same bytes.

mod plan;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut};

use super::{CudaKernels, Halves};
use crate::cuda::{CublasLt, GpuError};
use crate::ops::Write;

use plan::{Handle, Plan};

/// A shape of product, and how its matrices lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of C, columns of C, and the summed index.
    pub mnk: [usize; 3],
    /// The left matrix, m × k.
    pub a: Lay,
    /// The right matrix, k × n.
    pub b: Lay,
    /// Row stride of C.
    pub c_stride: usize,
    /// Whether C is f32; it is 16 bit otherwise.
    pub float: bool,
}

/// How an operand lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lay {
    /// Row stride of what lies there.
    pub stride: usize,
    /// Whether that is the operand's transpose.
    pub transposed: bool,
}

impl Lay {
    /// The operand as it lies.
    #[must_use]
    pub fn plain(stride: usize) -> Self {
        Self {
            stride,
            transposed: false,
        }
    }

    /// The transpose of what lies there.
    #[must_use]
    pub fn transposed(stride: usize) -> Self {
        Self {
            stride,
            transposed: true,
        }
    }

    /// Elements that an operand of this shape spans.
    fn span(self, rows: usize, cols: usize) -> usize {
        let (rows, cols) = if self.transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        assert!(
            self.stride >= cols,
            "a row stride of {} for {cols} columns",
            self.stride
        );
        (rows - 1) * self.stride + cols
    }
}

/// Where a product goes.
#[derive(Debug)]
pub enum ProductOut<'a> {
    /// 16 bit.
    Half(&'a mut Halves),
    /// f32.
    Float(&'a mut CudaSlice<f32>),
}

/// Products on one GPU.
#[derive(Debug)]
pub struct Gemm {
    plans: Mutex<HashMap<Product, Plan>>,
    workspace: Mutex<CudaSlice<u8>>,
    handle: Handle,
}

/// Scratch of the library: what NVIDIA recommends for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

impl Gemm {
    /// Products through this library on the GPU of these kernels.
    ///
    /// # Errors
    /// The driver's or the library's.
    pub fn new(gpu: &CudaKernels, library: CublasLt) -> Result<Self, GpuError> {
        let workspace = gpu.gpu().stream().alloc_zeros(WORKSPACE_BYTES);
        Ok(Self {
            plans: Mutex::default(),
            workspace: Mutex::new(workspace.map_err(gpu.during("making room for products"))?),
            handle: Handle::new(library)?,
        })
    }

    /// `c (= or +=) alpha · a · b`, each matrix from its offset on; sums in f32, in one order for a shape.
    ///
    /// # Errors
    /// The library's: it has no algorithm for the shape, or the GPU refuses.
    ///
    /// # Panics
    /// If a matrix is too short.
    pub fn multiply(
        &self,
        gpu: &CudaKernels,
        (product, alpha): (Product, f32),
        (a, a_offset): (&Halves, usize),
        (b, b_offset): (&Halves, usize),
        (c, c_offset, write): (ProductOut<'_>, usize, Write),
    ) -> Result<(), GpuError> {
        let [m, n, k] = product.mnk;
        assert!(
            a.len() >= a_offset + product.a.span(m, k),
            "a of {product:?}"
        );
        assert!(
            b.len() >= b_offset + product.b.span(k, n),
            "b of {product:?}"
        );
        let c_span = Lay::plain(product.c_stride).span(m, n);
        let stream = gpu.gpu().stream();
        let c_address = match c {
            ProductOut::Half(c) => {
                assert!(
                    !product.float && c.len() >= c_offset + c_span,
                    "c of {product:?}"
                );
                c.device_ptr_mut(stream).0 + 2 * c_offset as u64
            }
            ProductOut::Float(c) => {
                assert!(
                    product.float && c.len() >= c_offset + c_span,
                    "c of {product:?}"
                );
                c.device_ptr_mut(stream).0 + 4 * c_offset as u64
            }
        };
        let addresses = [
            a.device_ptr(stream).0 + 2 * a_offset as u64,
            b.device_ptr(stream).0 + 2 * b_offset as u64,
            c_address,
        ];
        let beta = match write {
            Write::Set => 0.0,
            Write::Add => 1.0,
        };
        // A panic elsewhere leaves whole plans and a workspace that holds nothing between calls.
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = match plans.entry(product) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Plan::new(&self.handle, product, WORKSPACE_BYTES)?)
            }
        };
        let mut workspace = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (scratch, _) = workspace.device_ptr_mut(stream);
        let stream = stream.cu_stream().cast::<c_void>();
        plan.run(
            &self.handle,
            (alpha, beta),
            addresses,
            (scratch, WORKSPACE_BYTES),
            stream,
        )
    }
}

impl Drop for Gemm {
    fn drop(&mut self) {
        let plans = self.plans.get_mut().unwrap_or_else(PoisonError::into_inner);
        for plan in plans.values_mut() {
            plan.destroy(&self.handle);
        }
    }
}
