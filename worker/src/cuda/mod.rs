//! CUDA without a toolkit: finds the libraries on the machine, compiles the kernels for its GPU, keeps the result.
//!
//! Nothing here is linked. [`library`] looks for the driver, NVRTC and cuBLASLt wherever machines keep them and opens
//! them by path, so that the same binary starts on a laptop and on a GPU server. [`kernels`] are text in the binary;
//! [`Nvrtc`] compiles them for the exact GPU and [`KernelCache`] keeps the machine code on disk. [`Gpu`] is a device
//! with its kernels loaded, and [`Inventory`] is what `weft doctor` prints.

mod arch;
mod cache;
mod compiler;
mod cublas_lt;
mod driver;
mod gpu;
mod half_format;
mod inventory;
pub mod kernels;
pub mod library;
pub mod nccl;
mod nvrtc;
mod topology;
mod usage;

pub use arch::{Arch, UnknownArch};
pub use cache::KernelCache;
pub use compiler::{Compiler, Prepared};
pub use cublas_lt::CublasLt;
pub(crate) use cublas_lt::Opaque;
pub use driver::{Driver, GpuFacts, uuid};
pub use gpu::{Gpu, GpuError};
pub use half_format::HalfFormat;
pub use inventory::Inventory;
pub use nccl::Nccl;
pub use nvrtc::{Compiled, Nvrtc, NvrtcError};
pub use topology::{Link, links};
pub use usage::{FunctionUsage, function_usage};
