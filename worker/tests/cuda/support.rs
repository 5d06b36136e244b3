//! The GPU, random numbers, and comparison.

use std::sync::OnceLock;

use cudarc::driver::CudaSlice;
use half::bf16;
use weft_worker::cuda::kernels::HEAD_DIMS;
use weft_worker::cuda::library::Environment;
use weft_worker::cuda::{Compiler, Gpu, Inventory, KernelCache};
use weft_worker::ops::cuda::{CudaKernels, Gemm, Halves};

/// Relative error that 16-bit outputs may have.
pub(crate) const TOLERANCE: f64 = 1e-2;

/// Products on that GPU.
pub(crate) fn gemm() -> Option<&'static Gemm> {
    static GEMM: OnceLock<Option<Gemm>> = OnceLock::new();
    let open = || {
        let library = Inventory::take(&Environment::of_process()).cublas_lt.ok()?;
        Some(Gemm::new(gpu()?, library).unwrap())
    };
    GEMM.get_or_init(open).as_ref()
}

/// The kernels on the first GPU; nothing, said aloud, where there is none.
pub(crate) fn gpu() -> Option<&'static CudaKernels> {
    static GPU: OnceLock<Option<CudaKernels>> = OnceLock::new();
    let found = GPU.get_or_init(open).as_ref();
    if found.is_none() {
        println!("SKIPPED: no GPU");
    }
    found
}

fn open() -> Option<CudaKernels> {
    let inventory = Inventory::take(&Environment::of_process());
    let obstacles = inventory.obstacles();
    if !obstacles.is_empty() {
        assert!(
            std::env::var_os("WEFT_REQUIRE_GPU").is_none(),
            "WEFT_REQUIRE_GPU is set, but {obstacles:?}"
        );
        println!("SKIPPED: no GPU to test on: {obstacles:?}");
        return None;
    }
    let cache = KernelCache::new(std::env::temp_dir().join("weft-test-kernels"));
    let compiler = Compiler::new(inventory.nvrtc.unwrap(), cache);
    Some(CudaKernels::new(Gpu::open(0, &compiler, &HEAD_DIMS).unwrap()).unwrap())
}

/// Numbers between −1 and 1 that bfloat16 holds exactly.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (i + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z ^= z >> 27;
            bf16::from_f32((z >> 40) as f32 / (1 << 23) as f32 - 1.0).to_f32()
        })
        .collect()
}

/// On the device, in 16 bits.
pub(crate) fn halves(gpu: &CudaKernels, values: &[f32]) -> Halves {
    let values: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
    gpu.gpu().stream().clone_htod(&values).unwrap()
}

/// On the device, in f32.
pub(crate) fn floats(gpu: &CudaKernels, values: &[f32]) -> CudaSlice<f32> {
    gpu.gpu().stream().clone_htod(values).unwrap()
}

/// An output that nothing has been written to.
pub(crate) fn poisoned(gpu: &CudaKernels, len: usize) -> Halves {
    halves(gpu, &vec![f32::NAN; len])
}

/// Back on the host.
pub(crate) fn read(gpu: &CudaKernels, values: &Halves) -> Vec<f32> {
    let values = gpu.gpu().stream().clone_dtoh(values).unwrap();
    gpu.gpu().stream().synchronize().unwrap();
    values.iter().map(|value| value.to_f32()).collect()
}

/// Back on the host.
pub(crate) fn read_plain<T: cudarc::driver::DeviceRepr + Clone + Default>(
    gpu: &CudaKernels,
    values: &CudaSlice<T>,
) -> Vec<T> {
    let values = gpu.gpu().stream().clone_dtoh(values).unwrap();
    gpu.gpu().stream().synchronize().unwrap();
    values
}

/// Panics unless ‖ours − expected‖ / ‖expected‖ is within the tolerance. NaN never is.
pub(crate) fn assert_close(ours: &[f32], expected: &[f32], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = || ours.iter().zip(expected);
    let apart = square(&mut pairs().map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let size = square(&mut expected.iter().map(|v| f64::from(*v)));
    let error = apart / size;
    println!("{what}: relative error {error:.1e}");
    assert!(error <= TOLERANCE, "{what}: relative error {error}");
}
