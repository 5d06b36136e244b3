//! The libraries by name.

use std::fmt;

/// A library that the CUDA backend opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The GPU's driver, libcuda.
    Driver,
    /// The compiler of kernels.
    Nvrtc,
    /// Matrix products.
    CublasLt,
    /// Sums over GPUs. One GPU alone needs none.
    Nccl,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Driver, Self::Nvrtc, Self::CublasLt, Self::Nccl];

    /// File name up to the version: `libnvrtc.so`.
    #[must_use]
    pub fn file_stem(self) -> &'static str {
        match self {
            Self::Driver => "libcuda.so",
            Self::Nvrtc => "libnvrtc.so",
            Self::CublasLt => "libcublasLt.so",
            Self::Nccl => "libnccl.so",
        }
    }

    /// Names that the system's loader may know, newest first.
    pub(super) fn sonames(self) -> &'static [&'static str] {
        match self {
            Self::Driver => &["libcuda.so.1", "libcuda.so"],
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
            Self::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"],
            Self::Nccl => &["libnccl.so.2", "libnccl.so"],
        }
    }

    /// What to do where it is missing.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Driver => {
                "install NVIDIA's driver; in a container, start it with the GPU passed through (--gpus all)"
            }
            Self::Nvrtc => {
                "install it with `pip install nvidia-cuda-nvrtc` (CUDA 12: nvidia-cuda-nvrtc-cu12) or the CUDA toolkit, or set CUDA_HOME"
            }
            Self::CublasLt => {
                "install it with `pip install nvidia-cublas` (CUDA 12: nvidia-cublas-cu12) or the CUDA toolkit, or set CUDA_HOME"
            }
            Self::Nccl => {
                "install it with `pip install nvidia-nccl-cu13` (CUDA 12: nvidia-nccl-cu12) or the package libnccl2; one GPU alone needs none"
            }
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "CUDA driver",
            Self::Nvrtc => "NVRTC",
            Self::CublasLt => "cuBLASLt",
            Self::Nccl => "NCCL",
        })
    }
}
